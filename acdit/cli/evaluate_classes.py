"""`acdit evaluate` with a classifier of images: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import Count, CountFromZero, Timestep
from .model_options import ModelOptions
from .score_files import check_score_file, write_reports


@dataclass
class ClassEvaluateOptions(ModelOptions):
    """Score a classifier on images that it was not trained on: accuracy, calibration, confused classes.

    Images of another size are cropped and resized as for training. The scores of networks with probes are
    those of one head, beside the accuracy of every layer.
    """

    example: ClassVar[str] = (
        "acdit evaluate --model runs/classifier --plot plots --out scores.json\n"
        "  torchrun --nproc_per_node 4 -m acdit evaluate --model runs/classifier --data FOLDER"
    )

    data: str | None = None
    """Labelled images: mnist, digits, a folder with one sub-folder per class, or a Hugging Face data set;
    default: the held-out part of what the model was trained on."""
    split: str | None = None
    """Split of --data, if it has splits; default: validation."""
    count: Count | None = None
    """Number of images, evenly spread over the data; default: all."""
    head: CountFromZero | None = None
    """Number of the head whose scores are shown, from 0, for networks with probes; default: the last."""
    timesteps: list[Timestep] | None = None
    """Timesteps to which images are noised, such as 0,100,300, for classifiers of noised input; default: that
    of the model."""
    metrics: list[str] | None = None
    """Scores, such as accuracy,calibration_error; default: accuracy, top_5_accuracy with more than 5 classes,
    negative_log_likelihood and calibration_error."""
    plot: str | None = None
    """PNG file, or folder of PNG files, to write: confused classes, reliability, accuracy by layer."""
    out: str | None = None
    """JSON file to write; default: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        option_suffix(".json", out=self.out)
        if self.split is not None and self.data is None:
            raise UserError("--split selects a part of --data: add --data")


def run(options: ClassEvaluateOptions) -> None:
    """Score a classifier; the main rank prints and writes."""
    check_score_file(options.out)
    from ..evaluation.class_plots import check_class_plots, plot_classes
    from ..evaluation.classification import ClassificationSettings, evaluate_classifier
    from ..evaluation.labelled_data import open_labelled
    from ..pipelines.classification import ACDiTImageClassificationPipeline
    from ..utils.ranks import launched
    from .open_model import open_pipeline

    check_class_plots(options.plot)
    ranks = launched()
    with ranks.joined():
        pipeline = open_pipeline(options, ACDiTImageClassificationPipeline)
        data = open_labelled(pipeline, options.model, options.data, options.split)
        settings = ClassificationSettings(
            options.count,
            options.batch,
            -1 if options.head is None else options.head,
            tuple(options.timesteps or ()),
            options.metrics,
            ranks,
        )
        report = evaluate_classifier(pipeline, data, settings)
        if not ranks.main:
            return
        print(report.table())
        if options.out is not None:
            write_reports(options.model, [report], options.out)
        if options.plot is not None:
            for path in plot_classes(report, Path(options.plot)):
                print(f"plot: {path}")
