"""The mistakes that `mutants.py` plants, and the tests that must catch each."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake in a file of the package: texts that occur once there, and what takes their place."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: str  # separated by blanks, in tests/


def mutant(name: str, file: str, old: str, new: str, tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


MUTANTS = [
    mutant(
        "mask off by one",
        "attention.py",
        "answering < limit[asking]",
        "answering <= limit[asking]",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "own clean block visible to its noised view",
        "attention.py",
        "max(blocks), tuple(blocks), True",
        "max(blocks), tuple(min(b + 1, max(blocks)) for b in blocks), True",
        "test_transformer.py::test_a_clean_block_is_seen_by_later_views_alone",
    ),
    mutant(
        "own clean block visible, seen by the golden prediction",
        "attention.py",
        "max(blocks), tuple(blocks), True",
        "max(blocks), tuple(min(b + 1, max(blocks)) for b in blocks), True",
        "test_golden.py::test_prediction",
    ),
    mutant(
        "window off by one",
        "attention.py",
        "max(0, index - self.window)",
        "max(0, index - self.window + 1)",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "sinks forgotten by the split backend",
        "attention.py",
        "sinks = min(visibility.sinks, low)",
        "sinks = 0",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "split pieces without a mask",
        "attention.py",
        "masked=len(limits) > 1",
        "masked=False",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "rotation dropped",
        "rope.py",
        "wide = x.to(self.cos.dtype)",
        "return x",
        "test_rope.py::test_equation_4_by_loops",
    ),
    mutant(
        "rotation dropped, seen by the network",
        "layers.py",
        "rope.rotate(self.k_norm(key))",
        "self.k_norm(key)",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "axes swapped",
        "rope.py",
        "coordinates[..., axis, None]",
        "coordinates[..., -1 - axis, None]",
        "test_rope.py::test_equation_4_by_loops",
    ),
    mutant(
        "rotary base of any length",
        "rope.py",
        "100 * math.ceil(8 * length / (100 * math.pi))",
        "100",
        "test_rope.py::test_base",
    ),
    mutant(
        "published rotation inside the axes",
        "rope.py",
        '(head_dim,) if variant == "published" else split',
        "split",
        "test_golden.py::test_prediction",
    ),
    mutant(
        "exact GELU",
        "layers.py",
        'approximate="tanh"',
        'approximate="none"',
        "test_golden.py::test_prediction",
    ),
    mutant(
        "another norm epsilon",
        "layers.py",
        "NORM_EPS = 1e-6",
        "NORM_EPS = 1e-5",
        "test_golden.py::test_prediction",
    ),
    mutant(
        "QK-norm after the rotation",
        "layers.py",
        "rope.rotate(self.k_norm(key))",
        "self.k_norm(rope.rotate(key))",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "scale and shift swapped",
        "layers.py",
        "_modulate(self.norm1(views.x), modulation.shift1, modulation.scale1)",
        "_modulate(self.norm1(views.x), modulation.scale1, modulation.shift1)",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "sine before cosine",
        "layers.py",
        "(angles.cos(), angles.sin())",
        "(angles.sin(), angles.cos())",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "the clean stream teaches nothing",
        "transformer.py",
        "clean_stream._replace(x=x)",
        "clean_stream._replace(x=x.detach())",
        "test_transformer.py::test_gradients_equal_the_reference",
    ),
    mutant(
        "last layer's clean outputs computed",
        "transformer.py",
        "return_hidden_states or layer < len(self.blocks) - 1",
        "True",
        "test_transformer.py::test_what_nobody_reads_costs_nothing",
    ),
    mutant(
        "no labels = the first class",
        "transformer.py",
        'self.config["num_classes"], device=noised.device',
        "0, device=noised.device",
        "test_transformer_calls.py::test_labels_per_sample_and_per_view",
    ),
    mutant(
        "label dropout in evaluation",
        "layers.py",
        "return self.embedding_table(labels)",
        "return self.embedding_table(torch.where(torch.rand(labels.shape) < 0.1, "
        "self.embedding_table.num_embeddings - 1, labels))",
        "test_transformer_calls.py::test_labels_are_never_dropped_by_the_network",
    ),
    mutant(
        "label dropout in sampling",
        "sampling.py",
        "view_labels = labels[:, None]",
        "view_labels = torch.where(torch.rand(batch, 1) < 0.1, null_label, labels[:, None])",
        "test_sampling.py::test_equals_the_loop",
    ),
    mutant(
        "stale cache: new blocks overwrite the last one",
        "cache.py",
        "start = self.num_blocks * self.layout.block_tokens",
        "start = max(0, self.num_blocks - 1) * self.layout.block_tokens",
        "test_cache.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "stale cache: blocks are not counted",
        "cache.py",
        "self.num_blocks += new_blocks",
        "self.num_blocks += 0",
        "test_cache.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "stale cache: the noise is kept, not the clean block",
        "sampling.py",
        "pending = sample[:, None]",
        "pending = noise[:, index][:, None]",
        "test_sampling.py::test_layouts_of_one_network",
    ),
    mutant(
        "guidance branches swapped",
        "sampling.py",
        "answer[:, 1], answer[:, 0], scale",
        "answer[:, 0], answer[:, 1], scale",
        "test_sampling.py::test_guidance_rises_over_the_blocks",
    ),
    mutant(
        "guidance at every noise level",
        "sampling.py",
        "not self.interval[0] <= sigma <= self.interval[1]",
        "False",
        "test_sampling.py::test_guidance_acts_in_an_interval_of_sigma",
    ),
    Mutant(
        "solver not restarted",
        "sampling.py",
        (
            (
                "solver = copy.deepcopy(scheduler)",
                "solver = copy.deepcopy(scheduler) if index == start else solver",
            ),
            (
                "solver.set_timesteps(counts[index], device=device)",
                "index == start and solver.set_timesteps(counts[index], device=device)",
            ),
        ),
        "test_sampling.py::test_layouts_of_one_network",
    ),
    mutant(
        "solver not copied",
        "sampling.py",
        "copy.deepcopy(scheduler)",
        "scheduler",
        "test_sampling.py::test_the_scheduler_is_not_changed",
    ),
    mutant(
        "steps of the first block for all",
        "sampling.py",
        "set_timesteps(counts[index]",
        "set_timesteps(counts[0]",
        "test_sampling.py::test_steps_per_block_and_evaluations",
    ),
    mutant(
        "what a callback returns is ignored",
        "sampling.py",
        "sample if replaced is None else replaced",
        "sample",
        "test_sampling.py::test_callbacks_count_steps_over_all_blocks_and_may_replace_the_sample",
    ),
    mutant(
        "noise cut without regard to blocks",
        "sampling.py",
        "layout.to_blocks(torch.stack(drawn))",
        "torch.stack(drawn).reshape(len(drawn), layout.num_blocks, layout.block_tokens, -1)",
        "test_sampling.py::test_a_seed_is_the_same_noise_at_every_block_size",
    ),
    mutant(
        "training draws by place in the batch",
        "diffusion.py",
        '"diffusion", epoch, index, draw',
        '"diffusion", epoch, row, draw',
        "test_diffusion.py::test_draws_depend_on_their_key_alone",
    ),
    mutant(
        "the same noise for every draw",
        "diffusion.py",
        '"diffusion", epoch, index, draw',
        '"diffusion", epoch, index',
        "test_diffusion.py::test_every_part_of_the_key_counts",
    ),
    mutant(
        "one timestep for all blocks",
        "diffusion.py",
        "timesteps[row, column].uniform_(generator=source)",
        "timesteps[row, column] = torch.rand((), generator=source)",
        "test_diffusion.py::test_every_block_has_its_own_timestep_and_noise",
    ),
    mutant(
        "labels always dropped or never",
        "diffusion.py",
        "dropped < self.label_dropout",
        "dropped < round(self.label_dropout)",
        "test_diffusion.py::test_share_of_dropped_labels",
    ),
    mutant(
        "flow backwards",
        "diffusion.py",
        "share), noise - data",
        "share), data - noise",
        "test_diffusion.py::test_flow_targets_are_those_of_diffusers",
    ),
    mutant(
        "columns before rows in a patch",
        "layout.py",
        "*tokens, *patches, 1)",
        "*tokens, *reversed(patches), 1)",
        "test_layout.py::test_patch_channels_are_row_column_channel",
    ),
    mutant(
        "EMA weights not restored",
        "training/loop.py",
        'checkpoint.tensors["ema"]',
        'checkpoint.tensors["model"]',
        "training/test_resume.py::test_resume_restores_the_moving_average",
    ),
    mutant(
        "averaged weights converted unasked",
        "convert.py",
        "stored.ema if ema and stored.ema is not None",
        "stored.ema if stored.ema is not None",
        "test_convert.py::test_the_average_comes_on_request_alone",
    ),
    mutant(
        "pickle executed",
        "published.py",
        "weights_only=True",
        "weights_only=False",
        "test_published.py::test_code_in_a_checkpoint_is_refused_and_does_not_run",
    ),
    mutant(
        "rotary bases of another grid published",
        "convert.py",
        'tuple(config["axis_lengths"]) != layout.grid',
        "False",
        "test_convert.py::test_rotary_bases_of_another_grid_do_not_go_back",
    ),
    mutant(
        "latents not shifted",
        "autoencoders.py",
        'getattr(vae.config, "shift_factor", None) or 0.0',
        "0.0",
        "test_autoencoders.py::test_mean_and_deviation_are_those_of_scaled_draws",
    ),
    mutant(
        "mirror images never read",
        "data/latents.py",
        "[0, int(mirrored)]",
        "[0, 0]",
        "data/test_latents.py::test_every_visit_draws_from_mean_and_deviation",
    ),
    mutant(
        "latents without deviation",
        "data/latents.py",
        "mean + deviation * noise",
        "mean",
        "data/test_latents.py::test_every_visit_draws_from_mean_and_deviation",
    ),
    mutant(
        "latents of another autoencoder read",
        "data/latents.py",
        "fingerprint(vae.state_dict())",
        '""',
        "data/test_latents.py::test_latents_belong_to_the_weights_of_their_autoencoder",
    ),
    mutant(
        "one seed for all of a set",
        "sample_sets.py",
        "manual_seed(self.seed + image)",
        "manual_seed(self.seed)",
        "test_sample_sets.py",
    ),
    mutant(
        "backward counted once",
        "flops.py",
        "(4 if checkpointing else 3)",
        "(3 if checkpointing else 2)",
        "test_flops.py",
    ),
]
