"""`acdit sample` with a model of images: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.files import check_writable
from ..utils.ranges import Count
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

if TYPE_CHECKING:
    from PIL import Image

    from ..pipelines.image import ACDiTImagePipeline

SAMPLES = 8


@dataclass
class ImageSampleOptions(GuidedOptions):
    """Generate images block by block: a picture with a row for each label, or with --count a set of files."""

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npz")
    example: ClassVar[str] = (
        "acdit sample --labels 3,1,4 --samples 8 --guidance 1.5 --block 4x4 --out digits.png\n"
        "  torchrun --nproc_per_node 8 -m acdit sample --count 50000 --balanced --out samples.npz"
    )

    labels: list[str] | None = field(default=None, metadata=LITERAL)
    """Classes by name or number, see `acdit info`, joined by commas; names with commas, brackets or outer
    blanks in double quotes as in CSV: '"a, b",c'; default: the first ten, or all with --count."""
    no_class: bool = False
    """Generate without a class, in place of --labels: a sample may be of any class."""
    samples: Count | None = None
    """Number of images of each label in the picture; default: 8. A single image is written in its own size,
    without enlargement or margin."""
    count: Count | None = None
    """Generate a set of this many images on any number of ranks; run the same command again to resume it."""
    balanced: bool = False
    """Assign the classes to the images of a set in turn; default: draw each class from the image's seed."""
    guidance_rising: bool = False
    """Increase guidance from 1 at the first block to its full value at the last."""
    block: str | None = None
    """Block size in tokens, such as 4x4; default: the model's own."""
    prefix: str | None = None
    """Picture whose first blocks are continued (needs --keep-blocks)."""
    keep_blocks: Count | None = None
    """Number of blocks of the picture in --prefix that are kept."""
    max_pixels: Count | None = None
    """Maximum number of pixels of the picture in --prefix; default: 178,956,970."""
    out: str | None = None
    """PNG file of the picture, default: samples.png; for a set an .npz file, or a folder of PNGs if there is
    no suffix."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising(self.guidance, self.guidance_rising)
        check_labels(self.labels)
        check_no_class(self.no_class, labels=self.labels, balanced=self.balanced or None)
        block_of(self.block)
        if (self.prefix is None) != (self.keep_blocks is None):
            raise UserError("--prefix FILE and --keep-blocks N must be given together")
        if self.max_pixels is not None and self.prefix is None:
            raise UserError("--max-pixels is the limit for the picture of --prefix: add --prefix FILE")
        if self.count is not None:
            self._check_set(self.count)
        elif self.balanced:
            raise UserError("--balanced applies to a set of images: add --count N")
        elif self.out is not None and Path(self.out).suffix.lower() == ".npz":
            raise UserError(
                f"--out {self.out} is the format of a set of images: add --count N, or use a .png file"
            )
        else:
            option_suffix(".png", out=self.out)

    @property
    def path(self) -> Path:
        """Return the path of the output."""
        return Path(self.out or "samples.png")

    def _check_set(self, count: int) -> None:
        if self.prefix is not None:
            raise UserError("--count generates whole images: leave out --prefix and --keep-blocks")
        if self.samples is not None:
            raise UserError(
                "--samples applies to a picture of samples: leave it out and set the number by --count"
            )
        path = self.path
        if path.suffix.lower() not in (".npz", "") or path.name in ("", ".."):
            raise UserError(
                "with --count, --out must be an .npz file, or a folder for PNGs (a path without suffix), "
                f"not {str(path)!r}"
            )


def run(options: ImageSampleOptions) -> None:
    """Generate a picture of samples, or a set of images."""
    check_writable(options.path)
    check_classes(options.model, options.labels)
    from ..pipelines.image import ACDiTImagePipeline
    from .open_model import open_guided

    pipeline = open_guided(options, ACDiTImagePipeline)
    if options.count is None:
        _draw_picture(pipeline, options)
    else:
        _draw_set(pipeline, options, options.count)


def _draw_picture(pipeline: "ACDiTImagePipeline", options: ImageSampleOptions) -> None:
    from ..generation.batches import draw_images, requested_count, requested_labels
    from ..generation.sizes import pixel_bytes, require_sampling_memory
    from ..media.images import picture_grid, save_picture
    from .open_model import sampling_of

    samples, classes = options.samples or SAMPLES, labels_of(options.labels, options.no_class)
    prefix = None if options.prefix is None else _read_prefix(options.prefix, options.max_pixels)
    block = block_of(options.block)
    layout = pipeline.layout if block is None else pipeline.layout.with_block(block)
    require_sampling_memory(
        pipeline,
        layout,
        count=requested_count(pipeline, classes, samples),
        batch=options.batch,
        kept=pixel_bytes(pipeline, layout),
    )
    labels = requested_labels(pipeline, classes, samples)
    drawn = draw_images(
        pipeline,
        labels,
        sampling_of(options, pipeline),
        block=block,
        image=prefix,
        keep_blocks=options.keep_blocks or 0,
        guidance_rising=options.guidance_rising,
    )
    pictures = pipeline.image_processor.numpy_to_pil(pipeline.image_processor.pt_to_numpy(drawn.images))
    save_picture(pictures[0] if len(pictures) == 1 else picture_grid(pictures, samples), options.path)
    print(
        f"{options.path}: {len(labels)} images in {drawn.seconds:.1f} s; "
        f"{drawn.evaluations} network evaluations per image, "
        f"key-value cache {drawn.cache_bytes / 2**10:.0f} KiB per image"
    )


def _draw_set(pipeline: "ACDiTImagePipeline", options: ImageSampleOptions, count: int) -> None:
    from ..generation.sample_sets import SampleSet, SetPlan, draw_set, require_room
    from ..generation.sizes import require_sampling_memory
    from ..pipelines.folders import pipeline_folder
    from .open_model import sampling_of

    require_room(pipeline, options.path, count)
    require_sampling_memory(pipeline, pipeline.layout, count=count, batch=options.batch, kept=0)
    plan = SetPlan(
        count,
        sampling_of(options, pipeline),
        labels=labels_of(options.labels, options.no_class),
        balanced=options.balanced,
        block=block_of(options.block),
        guidance_rising=options.guidance_rising,
    )
    out = options.path
    drawn = draw_set(SampleSet(pipeline, pipeline_folder(options.model), out, plan))
    if drawn is None:
        return  # another rank prints the result
    if drawn.seconds is None:
        print(f"{out} is already complete ({count} images); remove it to generate it again")
    else:
        print(f"{out}: {count} images in {drawn.seconds:.1f} s")


def _read_prefix(path: str, max_pixels: int | None) -> "Image.Image":
    from ..media.pictures import MAX_PIXELS, Unreadable, read_picture

    try:
        return read_picture(path, max_pixels or MAX_PIXELS, "--max-pixels")
    except Unreadable as fault:
        raise UserError(f"--prefix {path} cannot be read as an image: {fault}") from fault
