"""Mistakes of the evaluation of classifiers: metrics, intervals, and classes by the denoising loss."""

from .kinds import mutant

RECOGNITION = [
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
]
