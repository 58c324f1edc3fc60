"""Mistakes of the classifier and its pipeline."""

from .kinds import Mutant, mutant

CLASSIFIER: list[Mutant] = [
    mutant(
        "bidirectional attention without the last block",
        "model/skip_causal_mask.py",
        "limits = (stop,) * (stop - start)",
        "limits = (max(start + 1, stop - 1),) * (stop - start)",
        "model/test_attention.py::test_forward model/test_classifier.py::test_who_sees_whom",
    ),
    mutant(
        "bidirectional attention is not passed on",
        "model/classifier.py",
        'bidirectional=self.config["attention"] == "bidirectional"',
        "bidirectional=False",
        "model/test_classifier.py::test_who_sees_whom",
    ),
    mutant(
        "no mask for causal blocks",
        "model/skip_causal_mask.py",
        "min(self.limits) >= self.clean",
        "max(self.limits) >= self.clean",
        "model/test_attention.py::test_forward",
    ),
    mutant(
        "stochastic depth scales both branches alike",
        "model/layers.py",
        "return self._replace(gate1=first, gate2=second)",
        "return self._replace(gate1=first, gate2=first)",
        "model/test_classifier.py::test_branches_are_scaled_by_layer_and_sample",
    ),
    mutant(
        "stochastic depth mixes up the samples",
        "model/forward_arguments.py",
        "scales.repeat_interleave(count // branch_scale.shape[0], 2)",
        "scales.repeat(1, 1, count // branch_scale.shape[0])",
        "model/test_classifier.py::test_branches_are_scaled_by_layer_and_sample",
    ),
    mutant(
        "the first class in place of the null label",
        "model/classifier.py",
        "weights[table][-1:]",
        "weights[table][:1]",
        "model/test_classifier.py::test_the_protocol_of_dit_reads_the_generator_with_the_null_label",
    ),
    mutant(
        "the last token in place of the last block",
        "model/classification_head.py",
        'tokens[:, -1] if self.pooling == "last"',
        'tokens[:, -1, -1:] if self.pooling == "last"',
        "model/test_classifier_heads.py::test_heads_by_loops",
    ),
    mutant(
        "attention pooling over queries",
        "model/classification_head.py",
        "scores.softmax(1)",
        "scores.softmax(2)",
        "model/test_classifier_heads.py::test_heads_by_loops",
    ),
    mutant(
        "states of the layer before",
        "model/transformer.py",
        "states[layer + 1] = x",
        "states[layer + 1] = x if layer else states.get(0, x)",
        "model/test_classifier.py::test_hidden_states_are_what_the_layers_return",
    ),
    mutant(
        "noise of another level",
        "diffusion/classification.py",
        'time = network.config["timestep"] if timestep is None else timestep',
        'time = 1000 - (network.config["timestep"] if timestep is None else timestep)',
        "pipelines/test_classification_pipeline.py::test_noise_is_that_of_the_generator",
    ),
    mutant(
        "pictures of other sizes are squeezed",
        "pipelines/input_images.py",
        "given = centre_crop(given.convert",
        "given = (lambda picture, side: picture.resize((side, side)))(given.convert",
        "pipelines/test_classification_pipeline.py::test_pictures_are_read_as_for_training",
    ),
    mutant(
        "tensors are cropped at their corner",
        "pipelines/input_images.py",
        "(size[0] - side) // 2, (size[1] - side) // 2",
        "0, 0",
        "pipelines/test_classification_pipeline.py::test_tensors_of_other_sizes_are_resized_and_cropped_to_the_middle",
    ),
]
