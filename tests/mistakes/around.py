"""Mistakes of what stands around: published weights, sets of samples, benchmarks."""

from .kinds import Mutant, mutant

AROUND = [
    mutant(
        "averaged weights converted unasked",
        "published/convert.py",
        "stored.ema if ema and stored.ema is not None",
        "stored.ema if stored.ema is not None",
        "published/test_convert.py::test_the_average_comes_on_request_alone",
    ),
    mutant(
        "pickle executed",
        "published/format.py",
        "weights_only=True",
        "weights_only=False",
        "published/test_published.py::test_code_in_a_checkpoint_is_refused_and_does_not_run",
    ),
    mutant(
        "rotary bases of another grid published",
        "published/convert.py",
        'tuple(config["axis_lengths"]) != layout.grid',
        "False",
        "published/test_convert.py::test_rotary_bases_of_another_grid_do_not_go_back",
    ),
    mutant(
        "latents not shifted",
        "data/autoencoders.py",
        'getattr(vae.config, "shift_factor", None) or 0.0',
        "0.0",
        "data/test_autoencoders.py::test_mean_and_deviation_are_those_of_scaled_draws",
    ),
    mutant(
        "one seed for all of a set",
        "generation/sample_sets.py",
        "manual_seed(self.seed + image)",
        "manual_seed(self.seed)",
        "generation/test_sample_sets.py",
    ),
    mutant(
        "the baseline's mask lets clean blocks see the noised",
        "bench/baseline.py",
        "torch.zeros_like(answering > asking)",
        "answering < asking",
        "bench/test_baseline.py::test_the_answer_is_the_network_s",
    ),
    mutant(
        "the baseline's clean tokens modulated when in place",
        "bench/baseline.py",
        "normed[:, clean:].mul_(1 + scale).add_(shift)",
        "normed[:, :].mul_(1 + scale.mean(1, True)).add_(shift.mean(1, True))",
        "bench/test_baseline.py::test_samples_are_those_of_generate",
    ),
    mutant(
        "the baseline caches one branch",
        "bench/baseline.py",
        "return sum(tensor.nbytes for tensor in self._held or ())",
        "return sum(tensor.nbytes for tensor in self._held or ()) // 2",
        "bench/test_baseline.py::test_samples_are_those_of_generate",
    ),
    mutant(
        "floor with conditions anew for every block",
        "bench/roofline.py",
        "conditions = steps * (",
        "conditions = layout.num_blocks * steps * (",
        "bench/test_roofline.py::test_a_generation_needs_each_condition_vector_once",
    ),
    mutant(
        "floor of attention with the clean block that nobody reads",
        "bench/roofline.py",
        "sum(range(1, blocks)) + sum(range(1, blocks + 1))",
        "2 * sum(range(1, blocks + 1))",
        "bench/test_roofline.py::test_attention_of_a_training_step_is_what_torch_counts",
    ),
    mutant(
        "the last rate of products in place of the best",
        "model/matmul_rate.py",
        "max(self.best, times * flops / seconds)",
        "times * flops / seconds",
        "bench/test_roofline.py::test_the_best_rate_is_remembered",
    ),
    mutant(
        "code for so many layouts as torch makes by itself",
        "training/learner.py",
        "max(settings.recompile_limit, MOST_COMPILED)",
        "settings.recompile_limit",
        "training/test_compiled.py::test_no_layout_is_left_uncompiled",
    ),
    mutant(
        "peak of memory without what is released",
        "bench/timing.py",
        "held += change",
        "held += max(change, 0)",
        "bench/test_timing.py::test_the_peak_is_what_is_held_at_once",
    ),
    Mutant(
        "one run after the other instead of in turn",
        "bench/timing.py",
        (
            ("for _ in range(repeats):", "for _ in (0,):"),
            (
                "taken[name].append(seconds_of(run, device))",
                "taken[name].extend(seconds_of(run, device) for _ in range(repeats))",
            ),
        ),
        "bench/test_timing.py::test_runs_take_turns",
    ),
]
