"""Mistakes of the evaluation of classifiers: metrics, intervals, and classes by the denoising loss."""

from .kinds import mutant

CLASS_SCORES = [
    mutant(
        "equal scores all count as recognised",
        "metrics/classification.py",
        "((scores == own) & earlier)",
        "((scores == own) & earlier & False)",
        "metrics/test_classification.py::test_equal_scores_are_ranked_by_the_index_of_the_class",
    ),
    mutant(
        "the confusion matrix is transposed",
        "metrics/classification.py",
        "labels * classes + predicted",
        "predicted * classes + labels",
        "metrics/test_classification.py::test_confusion_and_the_table_of_classes_are_those_of_scikit_learn",
    ),
    mutant(
        "confidence on an edge lies in the upper bin",
        "metrics/classification.py",
        "torch.bucketize(confidence, edges)",
        "torch.bucketize(confidence, edges, right=True)",
        "metrics/test_classification.py::test_confidence_on_an_edge_lies_in_the_lower_bin_and_all_of_it_in_the_last",
    ),
    mutant(
        "an interval of pairs with one degree of freedom too many",
        "metrics/paired.py",
        "t_quantile(level, len(given) - 1)",
        "t_quantile(level, len(given))",
        "metrics/test_paired.py::test_paired_differences_are_those_of_scipy",
    ),
    mutant(
        "the verdict is that of the mean",
        "metrics/paired.py",
        "self.low is not None and self.low > 0",
        "self.low is not None and self.mean > 0",
        "metrics/test_paired.py::test_the_verdict_is_that_of_the_interval",
    ),
    mutant(
        "every class has noise of its own",
        "diffusion/class_losses.py",
        "noise[:, chosen, views].to(wide.device, wide.dtype)",
        "noise[:, chosen, views].roll(torch.tensor(part_labels).max().item(), 1).to(wide.device, wide.dtype)",
        "diffusion/test_class_losses.py::test_losses_are_those_of_single_calls",
    ),
    mutant(
        "noise depends on the place in the batch",
        "diffusion/class_losses.py",
        "generator(seed, PURPOSE, index, draw)",
        "generator(seed, PURPOSE, row, draw)",
        "diffusion/test_class_losses.py::test_losses_depend_neither_on_the_batch_nor_on_its_order",
    ),
    mutant(
        "the margin is that of the first two classes",
        "diffusion/class_losses.py",
        "self.means.topk(2, dim=1, largest=False).indices.unbind(dim=1)",
        "(torch.zeros(len(self.values)).long(), torch.ones(len(self.values)).long())",
        "diffusion/test_class_losses.py::test_margins_and_their_errors",
    ),
    mutant(
        "classes of the data are matched by their number",
        "evaluation/labelled_data.py",
        "return torch.tensor(matches)",
        "return torch.arange(len(matches))",
        "evaluation/test_generative_classifier.py::test_classes_are_matched_by_name",
    ),
    mutant(
        "all classes of tokens are the first",
        "diffusion/class_losses.py",
        "torch.arange(classes).repeat(count)",
        "torch.zeros(classes * count).long()",
        "diffusion/test_class_losses.py::test_blocks_of_one_token_give_a_distribution_over_texts_for_each_class",
    ),
    mutant(
        "the scores are always those of the last head",
        "evaluation/classification.py",
        "logits[rows] = answer[:, settings.head]",
        "logits[rows] = answer[:, -1]",
        "evaluation/test_classification.py::test_probes_have_a_series_for_each_pooling",
    ),
    mutant(
        "the timestep of a classifier stays changed",
        "evaluation/classification.py",
        "network.register_to_config(timestep=own)",
        "pass",
        "evaluation/test_classification.py::test_accuracy_by_timestep_is_that_of_networks_at_these_timesteps",
    ),
    mutant(
        "an image that cannot be read counts as recognised",
        "evaluation/classification.py",
        "kept = data.finish(read, ranks)",
        "kept = data.finish(read, ranks) | True",
        "cli/test_class_evaluation.py::"
        "test_pictures_of_another_size_and_mode_are_converted_and_damaged_ones_named",
    ),
    mutant(
        "classes are printed in order however many there are",
        "evaluation/class_tables.py",
        "if len(rows) > MOST_ROWS:",
        "if False:",
        "evaluation/test_classification.py::test_many_classes_are_printed_from_the_least_accurate",
    ),
]
