"""`acdit evaluate` with a model of images: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..model.layout import dims, parse_dims
from ..utils.errors import UserError
from .evaluate_options import PixelEvaluateOptions
from .evaluate_pixels import Score, comparison_of, open_sets, run_pixels
from .model_options import block_of

if TYPE_CHECKING:
    from ..evaluation.generated_samples import GeneratedSamples
    from ..evaluation.real_sets import RealSets
    from ..evaluation.report import Report
    from ..generation.batches import Sampling
    from ..pipelines.pixel_pipeline import ACDiTPipeline
    from ..utils.ranks import Ranks


@dataclass
class ImageEvaluateOptions(PixelEvaluateOptions):
    """Score a model's images, or finished ones, against real images, as a table and as JSON."""

    example: ClassVar[str] = (
        "acdit evaluate --model runs/mnist --block 8x8,4x4,2x2 --out scores.json\n"
        "  acdit evaluate --model runs/pictures --sweep guidance=1,1.5,2 steps=10,25 --plot sweep.png\n"
        "  acdit evaluate --samples samples.npz --data FOLDER\n"
        "  acdit evaluate --model mnist --metrics class_accuracy --plot confusion.png"
    )
    claims: ClassVar[tuple[str, ...]] = ("sweep", "metrics=class_accuracy")
    swept: ClassVar[tuple[str, ...]] = ("guidance", "steps", "block", "checkpoint", "ema")

    block: list[str] | None = None
    """Block sizes to compare, such as 8x8,4x4,2x2; default: the model's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.block or ():
            block_of(block)
        if self.neighbours is not None and len(self.block or ()) > 1:
            raise UserError("--neighbours shows the samples of one setting: give one --block")


def run(options: ImageEvaluateOptions) -> None:
    """Score images, with one row for each block size and each setting of the sweep."""
    if options.tells_classes:
        from ..pipelines.image import ACDiTImagePipeline
        from .class_accuracy import run_class_accuracy

        run_class_accuracy(options, ACDiTImagePipeline)
        return

    def prepare(ranks: "Ranks") -> "tuple[ACDiTPipeline, Score]":
        from ..evaluation.comparison import score_drawn
        from ..evaluation.generated_samples import generated_images
        from ..evaluation.real_sets import geometry_of
        from ..pipelines.image import ACDiTImagePipeline
        from .open_model import open_guided

        pipeline = open_guided(options, ACDiTImagePipeline)
        for block in options.sweeps.get("block", options.block or ()):
            pipeline.layout.with_block(parse_dims(block, "--block"))  # all must tile the grid
        sets = open_sets(options, geometry_of(pipeline), pipeline)

        def score(sampling: "Sampling", block: str | None) -> "tuple[Report, GeneratedSamples, RealSets]":
            blocks = options.block or [dims(pipeline.layout.block)]
            size = parse_dims(block or blocks[0], "--block")
            report, samples = score_drawn(
                lambda labels: generated_images(pipeline, labels, sampling, block=size),
                pipeline,
                sets,
                comparison_of(options, ranks),
                sampling,
                {"block": dims(size)},
            )
            return report, samples, sets

        return pipeline, score

    run_pixels(options, prepare, options.block)
