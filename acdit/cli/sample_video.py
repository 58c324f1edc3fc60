"""`acdit sample` with a model of video: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.files import check_writable
from ..utils.ranges import Count, CountFromZero, NonNegative, Range
from ..utils.settings import LITERAL
from .model_options import (
    GuidedOptions,
    block_of,
    check_classes,
    check_labels,
    check_no_class,
    check_rising,
    labels_of,
)

MOST_RATE = 1000  # frames per second of a video file


@dataclass
class VideoSampleOptions(GuidedOptions):
    """Generate clips block by block: an .mp4, a .gif, or a .png with a row of frames for each clip."""

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".gif", ".mp4")
    example: ClassVar[str] = (
        "acdit sample --model moving-digits --labels 3,1,4 --frames 24 --out digits.gif\n"
        "  acdit sample --model moving-digits --labels-by-block 3,3,7,7 --out changing.gif"
    )

    labels: list[str] | None = field(default=None, metadata=LITERAL)
    """Classes by name or number, see `acdit info`, joined by commas; names with commas, brackets or outer
    blanks in double quotes as in CSV: '"a, b",c'; default: the first ten."""
    labels_by_block: list[str] | None = field(default=None, metadata=LITERAL)
    """Class of each block that is generated, in place of --labels: a clip changes its class on the way, as in
    3,3,7,7; '3,"",7' has a block without a class. Blocks of --prefix are not counted."""
    no_class: bool = False
    """Generate without a class, in place of --labels: a sample may be of any class."""
    samples: Count | None = None
    """Number of clips of each label, or of all clips with --labels-by-block; default: 1."""
    guidance_rising: bool = False
    """Increase guidance from 1 at the first block to its full value at the last."""
    block: str | None = None
    """Block size in tokens, such as 2x4x4; default: the model's own."""
    prefix: str | None = None
    """Video whose first frames are continued (needs --keep-frames)."""
    keep_frames: Count | None = None
    """Number of first frames of --prefix that are kept: whole blocks of consecutive frames, regardless of the
    frame rate of the file."""
    frames: Count | None = None
    """Number of frames of a video, including the prefix; default: the model's own."""
    window: Count | None = None
    """Attention window: number of previous blocks visible to each block; default: all, or as many as in
    training if the video is longer."""
    sinks: CountFromZero | None = None
    """Number of first blocks of a video that stay visible beyond the window."""
    context_noise: NonNegative | None = None
    """Standard deviation of the noise on finished blocks that later blocks attend to, against drift of long
    videos."""
    rate: Annotated[int, Range(1, MOST_RATE)] | None = None
    """Frames per second of a video file; default: 8, since a model does not know the rate of its clips."""
    out: str | None = None
    """.mp4, .gif or .png file to write; default: samples.png."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising(self.guidance, self.guidance_rising)
        check_labels(self.labels)
        check_labels(self.labels_by_block, "--labels-by-block")
        check_no_class(self.no_class, labels=self.labels, labels_by_block=self.labels_by_block)
        if self.labels is not None and self.labels_by_block is not None:
            raise UserError("--labels is the class of whole clips: leave it out, or --labels-by-block")
        block_of(self.block)
        if (self.prefix is None) != (self.keep_frames is None):
            raise UserError("--prefix FILE and --keep-frames N must be given together")
        option_suffix(*self.suffixes, out=self.out)
        if self.rate is not None and self.path.suffix.lower() == ".png":
            raise UserError("--rate applies to .mp4 and .gif files: a .png shows all frames side by side")

    @property
    def path(self) -> Path:
        """Return the path of the output."""
        return Path(self.out or "samples.png")


def run(options: VideoSampleOptions) -> None:
    """Generate clips, and write them to one file."""
    check_writable(options.path)
    check_classes(options.model, options.labels)
    by_block = None if options.labels_by_block is None else [word or None for word in options.labels_by_block]
    check_classes(options.model, by_block, "--labels-by-block")
    from ..generation.batches import requested_count, requested_labels
    from ..generation.sizes import clip_layout, pixel_bytes, require_sampling_memory
    from ..generation.video_files import RATE, block_labels, read_prefix, write_clips
    from ..pipelines.video import ACDiTVideoPipeline
    from .open_model import open_guided, sampling_of

    pipeline = open_guided(options, ACDiTVideoPipeline)
    samples, classes = options.samples or 1, labels_of(options.labels, options.no_class)
    block, changing = block_of(options.block), by_block is not None
    frames = clip_layout(pipeline, options.frames or pipeline.num_frames)
    sheet = options.path.suffix.lower() == ".png"  # other files are written frame by frame
    require_sampling_memory(
        pipeline,
        frames,
        count=samples if changing else requested_count(pipeline, classes, samples),
        batch=None,
        kept=pixel_bytes(pipeline, frames) if sheet else 0,
        window=pipeline.num_frames + (options.window or 0) + (options.sinks or 0),
    )
    prefix = None
    if options.prefix is not None:
        prefix = read_prefix(pipeline, Path(options.prefix), options.keep_frames)
    ids = None
    if by_block is not None:
        ids = block_labels(pipeline, by_block, frames=options.frames, block=block, prefix=prefix)
    drawn = write_clips(
        pipeline,
        [None] * samples if changing else requested_labels(pipeline, classes, samples),
        options.path,
        sampling_of(options, pipeline),
        columns=samples,
        frames=options.frames,
        block=block,
        prefix=prefix,
        window=options.window,
        sinks=options.sinks or 0,
        context_noise=options.context_noise or 0.0,
        guidance_rising=options.guidance_rising,
        rate=options.rate or RATE,
        labels_by_block=ids,
    )
    print(
        f"{options.path}: {drawn.count} videos of {drawn.frames} frames in {drawn.seconds:.1f} s; "
        f"{drawn.evaluations} network evaluations per video, "
        f"key-value cache {drawn.cache_bytes / 2**10:.0f} KiB per video"
    )
