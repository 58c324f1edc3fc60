"""Run `acdit evaluate --metrics class_accuracy`. Imports torch only when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from .evaluate_options import DRAWS, PixelEvaluateOptions
from .score_files import check_score_file, write_reports

if TYPE_CHECKING:
    from ..pipelines.pixel_pipeline import ACDiTPipeline


def run_class_accuracy(
    options: PixelEvaluateOptions, kind: "type[ACDiTPipeline]", stride: int | None = None
) -> None:
    """Classify labelled data with a generator; the main rank prints and writes.

    Args:
        options: options of the command.
        kind: class of the pipeline.
        stride: distance between the frames of a clip, in frames of the video; None = as in training.
    """
    from ..evaluation.class_plots import check_class_plots, plot_classes
    from ..evaluation.generative_classifier import classification_report
    from ..evaluation.labelled_data import open_labelled
    from ..evaluation.model_evaluation import ModelSettings
    from ..generation.batches import Sampling
    from ..utils.ranks import launched
    from .open_model import open_guided

    check_score_file(options.out)
    check_class_plots(options.plot)
    ranks = launched()
    with ranks.joined():
        pipeline = open_guided(options, kind)
        data = open_labelled(pipeline, options.model, options.data, options.split, stride)
        settings = ModelSettings(
            Sampling(options.seed, options.batch), options.drawn, options.draws or DRAWS, ranks=ranks
        )
        report = classification_report(pipeline, data, settings)
        if not ranks.main:
            return
        print(report.table())
        write_reports(options.model, [report], options.out)
        if options.plot is not None:
            plot_classes(report, Path(options.plot))
