"""`acdit evaluate` with a model of video: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..utils.errors import UserError
from ..utils.ranges import Count, CountFromZero, NonNegative
from .evaluate_options import PixelEvaluateOptions, holds_array
from .evaluate_pixels import Score, comparison_of, open_sets, run_pixels

if TYPE_CHECKING:
    from ..evaluation.generated_samples import GeneratedSamples
    from ..evaluation.real_sets import RealSets
    from ..evaluation.report import Report
    from ..generation.batches import Sampling
    from ..pipelines.pixel_pipeline import ACDiTPipeline
    from ..utils.ranks import Ranks


@dataclass
class VideoEvaluateOptions(PixelEvaluateOptions):
    """Score generated and continued clips against held-out moving digits, or against the clips of --data.

    Moving digits are generated, and held-out clips are continued from 4 frames.
    """

    modality: ClassVar[str] = "video"
    sample_suffixes: ClassVar[tuple[str, ...]] = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
    claims: ClassVar[tuple[str, ...]] = ("plot", "trust_features")
    example: ClassVar[str] = (
        "acdit evaluate --model moving-digits --fast --plot rollouts.png --out scores.json\n"
        "  acdit evaluate --model runs/video --data FOLDER --features i3d:i3d.pt --trust-features"
    )

    frames: Count | None = None
    """Number of frames of a continued clip; default: 64 of moving digits, none of other clips."""
    window: Count | None = None
    """Attention window of continued clips: number of previous blocks visible to each block; default: as in
    training."""
    sinks: CountFromZero | None = None
    """Number of first blocks of a continued clip that stay visible beyond the window."""
    context_noise: NonNegative | None = None
    """Standard deviation of the noise on finished blocks of clips that later blocks attend to."""
    stride: Count | None = None
    """Distance between consecutive frames of a real clip, in frames of the video at its mean rate; default:
    that of training, if --data is what the model was trained on, or else 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and self.data is None:
            raise UserError("--stride applies to the real videos of --data: add --data")
        if self.stride is not None and holds_array(self.data):
            raise UserError(f"--data {self.data} holds clips that are cut already: leave out --stride")
        if self.plot is not None and self.data is not None and not self.sweep and not self.tells_classes:
            raise UserError("--plot shows a --sweep, or continued moving digits: leave out --plot or --data")


def run(options: VideoEvaluateOptions) -> None:
    """Score clips of moving digits, or compare clips with real ones, once for each setting of the sweep."""
    if options.tells_classes:
        from ..pipelines.video import ACDiTVideoPipeline
        from .class_accuracy import run_class_accuracy

        run_class_accuracy(options, ACDiTVideoPipeline, options.stride)
        return

    def prepare(ranks: "Ranks") -> "tuple[ACDiTPipeline, Score]":
        from ..evaluation.clip_comparison import compare_clips
        from ..evaluation.moving_digits import evaluate_moving_digits, moving_digits_of
        from ..evaluation.real_sets import geometry_of
        from ..pipelines.video import ACDiTVideoPipeline
        from .open_model import open_guided

        pipeline = open_guided(options, ACDiTVideoPipeline)
        comparison = comparison_of(options, ranks)
        geometry = geometry_of(pipeline, options.stride)
        moving = options.data is None and moving_digits_of(pipeline) is not None
        if moving and options.real is not None:
            raise UserError("--real stands beside the real clips of --data: add --data, or leave it out")
        sets = None if moving else open_sets(options, geometry, pipeline)
        continued = {
            "frames": options.frames,
            "window": options.window,
            "sinks": options.sinks or 0,
            "context_noise": options.context_noise or 0.0,
        }

        def score(sampling: "Sampling", block: str | None) -> "tuple[Report, GeneratedSamples, RealSets]":
            del block
            if sets is None:
                return evaluate_moving_digits(
                    pipeline, sampling, comparison, count=options.drawn, **continued
                )
            return *compare_clips(pipeline, sets, sampling, comparison, **continued), sets

        return pipeline, score

    from ..evaluation.moving_digits import plot_rollouts

    run_pixels(options, prepare, plot=plot_rollouts if options.data is None else None)
