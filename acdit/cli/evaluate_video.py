"""`acdit evaluate` with a model of video: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError, require
from ..utils.files import check_writable
from ..utils.ranges import Count, CountFromZero, NonNegative
from .model_options import GuidedOptions
from .score_files import check_score_file, write_scores

if TYPE_CHECKING:
    from ..pipelines.video import ACDiTVideoPipeline


@dataclass
class VideoEvaluateOptions(GuidedOptions):
    """Score generated and continued clips against held-out moving digits, or against the clips of --data.

    Moving digits are generated, and held-out clips are continued from 4 frames.
    """

    example: ClassVar[str] = (
        "acdit evaluate --model moving-digits --fast --plot rollouts.png --out scores.json\n"
        "  acdit evaluate --model runs/video --data FOLDER --features i3d.pt --trust-features"
    )

    claims: ClassVar[tuple[str, ...]] = ("plot",)

    samples: Count | None = None
    """Number of clips to score; default: 500."""
    data: str | None = None
    """Real clips to compare with the model's clips by --features: a folder of videos with one sub-folder per
    class, or a Hugging Face data set."""
    split: str | None = None
    """Split of --data, if it has splits; default: validation."""
    frames: Count | None = None
    """Number of frames of a continued clip; default: 64."""
    window: Count | None = None
    """Attention window of continued clips: number of previous blocks visible to each block; default: as in
    training."""
    sinks: CountFromZero | None = None
    """Number of first blocks of a continued clip that stay visible beyond the window."""
    context_noise: NonNegative | None = None
    """Standard deviation of the noise on finished blocks of clips that later blocks attend to."""
    features: str | None = None
    """Network that computes features of clips, as a TorchScript file, such as I3D (for clips of 10 frames or
    more). The file is a program, so add --trust-features."""
    stride: Count | None = None
    """Distance between consecutive frames of a real clip, in frames of the video at its mean rate;
    default: 1."""
    trust_features: bool = False
    """Allow the program in --features to run with your permissions."""
    plot: str | None = None
    """PNG file to write: scores of continued clips over time."""
    out: str | None = None
    """JSON file to write; default: print the JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and self.data is None:
            raise UserError("--stride applies to the real videos of --data: add --data")
        if self.split is not None and self.data is None:
            raise UserError("--split selects a part of --data: add --data")
        option_suffix(".json", out=self.out)
        option_suffix(".png", plot=self.plot)
        if self.features is not None and not self.trust_features:
            raise UserError(
                f"--features {self.features} is a program that runs with your permissions: add "
                "--trust-features if you trust its source"
            )


def run(options: VideoEvaluateOptions) -> None:
    """Score clips of moving digits, or compare clips with real ones."""
    check_score_file(options.out)
    from ..pipelines.video import ACDiTVideoPipeline
    from .open_model import open_guided

    pipeline = open_guided(options, ACDiTVideoPipeline)
    if options.data is None:
        _score_moving_digits(pipeline, options)
    else:
        _compare(pipeline, options, options.data)


def _score_moving_digits(pipeline: "ACDiTVideoPipeline", options: VideoEvaluateOptions) -> None:
    from ..evaluation.moving_digits import clip_table, evaluate_clips, plot_rollouts
    from .open_model import sampling_of

    if options.plot is not None:
        require("matplotlib", "examples")
        check_writable(Path(options.plot))
    scores = evaluate_clips(
        pipeline,
        sampling_of(options, pipeline),
        samples=options.samples,
        frames=options.frames,
        window=options.window,
        sinks=options.sinks or 0,
        context_noise=options.context_noise or 0.0,
        features=None if options.features is None else Path(options.features),
    )
    print(clip_table(scores))
    if options.plot is not None:
        plot_rollouts(scores, Path(options.plot))
    write_scores(options.model, scores, options.out)


def _compare(pipeline: "ACDiTVideoPipeline", options: VideoEvaluateOptions, source: str) -> None:
    from ..evaluation.clip_comparison import compare_clips, comparison_table
    from .open_model import sampling_of

    if options.plot is not None:
        raise UserError("--plot shows continued moving digits: leave out --plot or --data")
    if options.features is None:
        raise UserError(
            "to compare clips, give both --data (real clips) and --features (a network that computes "
            "features)"
        )
    scores = compare_clips(
        pipeline,
        source,
        Path(options.features),
        sampling_of(options, pipeline),
        samples=options.samples,
        split=options.split,
        stride=options.stride or 1,
        frames=options.frames,
        window=options.window,
        sinks=options.sinks or 0,
        context_noise=options.context_noise or 0.0,
    )
    print(comparison_table(scores))
    write_scores(options.model, scores, options.out)
