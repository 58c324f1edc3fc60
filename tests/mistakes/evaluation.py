"""Mistakes of evaluation: metrics, their intervals, and what stands beside a value."""

from .kinds import Mutant, mutant

EVALUATION = [
    mutant(
        "the covariance of few items is biased",
        "metrics/statistics.py",
        "covariance / (len(features) - 1)",
        "covariance / len(features)",
        "metrics/test_statistics.py::test_statistics_are_the_mean_and_the_unbiased_covariance",
    ),
    mutant(
        "rounding of singular covariances counts",
        "metrics/statistics.py",
        "kept = values > rounding",
        "kept = values > -1",
        "metrics/test_statistics.py",
    ),
    mutant(
        "pairs on one side of the diagonal count once",
        "metrics/distances.py",
        "total += 2 * sum(",
        "total += 1 * sum(",
        "metrics/test_distances.py::test_the_kernel_distance_is_the_unbiased_estimate",
    ),
    mutant(
        "the interval is not turned around",
        "metrics/resampling.py",
        "return value - low, value - high",
        "return value + high, value + low",
        "metrics/test_resampling.py::test_the_basic_interval_turns_the_errors_around",
    ),
    mutant(
        "the bias of few samples is not corrected",
        "metrics/resampling.py",
        "population = distance(torch.ones(count), count)",
        "population = distance(torch.ones(count), count - 1) + 0.1",
        "metrics/test_resampling.py::test_frechet_errors_are_those_of_the_redrawn_sets",
    ),
    mutant(
        "subsets are scaled as if drawn with replacement",
        "metrics/resampling.py",
        "(kept / (count - kept)) ** 0.5",
        "(kept / count) ** 0.5",
        "metrics/test_resampling.py::test_errors_of_neighbours_are_those_of_subsets",
    ),
    mutant(
        "an interval for too few samples per feature",
        "evaluation/intervals.py",
        "samples >= max(self.least, self.per_feature * width)",
        "samples >= self.least",
        "evaluation/test_intervals.py::test_too_few_samples_have_no_interval",
    ),
    Mutant(
        "an interval without width",
        "evaluation/intervals.py",
        (
            ("interval.low < interval.high", "interval.low <= interval.high"),
            ("or value in (method.low, method.high)", ""),
        ),
        "evaluation/test_intervals.py::test_an_interval_without_width_is_not_printed",
    ),
    mutant(
        "the value of real data is that of the samples",
        "evaluation/evaluate.py",
        "replace(sets, samples=real)",
        "replace(sets)",
        "evaluation/test_evaluate.py::test_every_metric_is_computed_on_its_sets",
    ),
    mutant(
        "too few items of a metric",
        "evaluation/metric_table.py",
        "len(part) < least",
        "len(part) < least - 1",
        "evaluation/test_evaluate.py::test_what_cannot_be_computed_is_an_error",
    ),
    mutant(
        "a duplicate that is a new picture",
        "studies/faults.py",
        "torch.cat([distinct[:kept], distinct[copies]])",
        "distinct",
        "studies/test_metric_studies.py::test_which_samples_are_drawn",
    ),
    mutant(
        "data that cannot be scored are noticed when samples are drawn",
        "evaluation/evaluate.py",
        "with ranks.failing_together(): _check_memory(parts, extractors)",
        "",
        "evaluation/test_generated_samples.py::"
        "test_data_that_cannot_be_scored_are_refused_before_images_are_drawn",
    ),
    mutant(
        "copies are searched in pixels that do not fit into memory",
        "evaluation/comparison.py",
        "searched, notes = False, (*notes, shortage)",
        "notes = (*notes, shortage)",
        "evaluation/test_real_sets.py::test_copies_are_not_searched_in_pixels_that_do_not_fit_into_memory",
    ),
    mutant(
        "every rank reads the samples of all for their neighbours",
        "evaluation/neighbour_pictures.py",
        'read_batches(samples, batch, "features of samples", ranks, shown=ranks.main)',
        'read_batches(samples, batch, "features of samples", shown=ranks.main)',
        "evaluation/test_neighbour_pictures.py",
    ),
    mutant(
        "special tokens are read as text, however the run read them",
        "cli/evaluate_text.py",
        "special = recorded is not None and recorded.special_tokens",
        "special = False",
        "cli/test_text_evaluation_checks.py::test_special_tokens_are_read_as_the_run_read_them",
    ),
    mutant(
        "metrics of texts that cannot be computed are noticed at the end",
        "evaluation/texts.py",
        "check_possible(texts, real, generation.comparison)",
        "",
        "cli/test_text_evaluation_checks.py",
    ),
    mutant(
        "of a document's bytes the last part is not counted",
        "data/texts.py",
        "for at in range(0, length, PART))",
        "for at in range(0, length - 1, PART))",
        "data/test_texts.py::test_every_row_has_the_bytes_of_its_part",
    ),
]
