"""Generate clips with a pipeline, and write them to video files frame by frame as blocks are finished."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from PIL import Image

from ..data.image_decoding import Unreadable, centre_crop
from ..media.images import save_picture
from ..media.videos import Frames, contact_sheet, read_frames, side_by_side, video_file
from ..model.layout import Layout, dims
from ..pipelines.callbacks import StepFunction
from ..pipelines.layouts import requested_block
from ..pipelines.video import ACDiTVideoPipeline
from ..pipelines.video_lengths import frame_tokens
from ..pipelines.video_outputs import VideoPiece
from ..utils.errors import UserError
from .batches import Sampling, in_batches

RATE = 8  # frames per second


@dataclass(frozen=True)
class DrawnVideos:
    """Size and cost of a file of generated clips.

    Attributes:
        count: number of clips.
        frames: number of frames of each clip.
        seconds: time for all clips.
        evaluations: number of network evaluations per clip.
        cache_bytes: size of the key-value cache per clip.
    """

    count: int
    frames: int
    seconds: float
    evaluations: int
    cache_bytes: int


def write_clips(
    pipeline: ACDiTVideoPipeline,
    labels: Sequence[int | None],
    out: Path,
    sampling: Sampling,
    *,
    columns: int = 1,
    frames: int | None = None,
    block: Sequence[int] | None = None,
    prefix: list[Image.Image] | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
    guidance_rising: bool = False,
    rate: int = RATE,
    labels_by_block: Sequence[int | None] | None = None,
) -> DrawnVideos:
    """Generate a clip for each label, and write the clips side by side to one file.

    Args:
        pipeline: pipeline that generates the clips.
        labels: class of each clip, or None.
        out: path of an .mp4 or .gif, or of a .png with a row of frames for each clip.
        sampling: settings of sampling; all clips are one batch.
        columns: number of clips in a row of the video.
        frames: number of frames of a clip, including the prefix; None = the pipeline's default.
        block: tokens of a block, (t, h, w); None = the pipeline's default.
        prefix: frames that every clip begins with.
        window: attention window, see `ACDiTVideoPipeline`.
        sinks: number of first blocks that stay visible beyond the window.
        context_noise: standard deviation of the noise on finished blocks that later blocks attend to.
        guidance_rising: whether guidance rises over the blocks from 1 to its scale.
        rate: frames per second of the file.
        labels_by_block: class of each block that is generated, of all clips, in place of `labels`, which then
            only count the clips.

    Raises:
        UserError: for more clips than a batch holds, or arguments that do not fit the model.
    """
    if len(labels) > sampling.batch:
        raise UserError(
            f"{len(labels)} videos are generated as one batch, more than --batch {sampling.batch}: "
            "request fewer videos, or increase --batch"
        )
    length, started = frames or pipeline.num_frames, time.perf_counter()

    def draw(rows: list[int], on_step: StepFunction) -> VideoPiece:
        pieces = pipeline.stream(
            labels if labels_by_block is None else iter(labels_by_block),
            1 if labels_by_block is None else len(labels),
            num_frames=length,
            block=block,
            prefix=prefix,
            window=window,
            sinks=sinks,
            context_noise=context_noise,
            guidance_rising=guidance_rising,
            **sampling.arguments(rows, on_step),
        )
        piece = None
        with _file(out, columns, rate) as add:
            if prefix is not None:
                add([prefix] * len(labels))
            for piece in pieces:
                add(piece.frames)
        assert piece is not None  # a prefix leaves at least one block to generate
        return piece

    (piece,) = in_batches(draw, len(labels), len(labels))
    seconds = time.perf_counter() - started
    return DrawnVideos(len(labels), length, seconds, piece.evaluations, piece.cache_bytes // len(labels))


def block_labels(
    pipeline: ACDiTVideoPipeline,
    labels: Sequence[int | str | None],
    *,
    frames: int | None,
    block: Sequence[int] | None,
    prefix: Sequence[Image.Image] | None,
) -> list[int | None]:
    """Return the class ids of labels, and check that there is one for each block that is generated.

    Args:
        pipeline: pipeline that generates the clips.
        labels: class of each block by name or id; None = no class.
        frames: number of frames of a clip, including the prefix; None = the pipeline's default.
        block: tokens of a block, (t, h, w); None = the pipeline's default.
        prefix: frames that every clip begins with.

    Raises:
        UserError: if there are more labels or fewer, the model has no such class, or the prefix is not whole
            blocks or leaves nothing to generate.
    """
    ids = pipeline.label_ids(labels)
    length, kept = frames or pipeline.num_frames, len(prefix or ())
    size, grid = requested_block(pipeline.layout, block), pipeline.layout.grid
    tokens = frame_tokens(pipeline.layout, length, block) - kept // pipeline.layout.patch[0]
    slab = size[0] * pipeline.layout.patch[0]
    if kept % slab or kept >= length:
        raise UserError(
            f"--keep-frames must be a multiple of {slab} (one block) and fewer than --frames, {length}, "
            f"not {kept}"
        )
    blocks = Layout((tokens, *grid[1:]), size).num_blocks
    if len(ids) != blocks:
        given = f", {kept} of them given," if kept else ""
        raise UserError(
            f"--labels-by-block names {len(ids)} classes, but {blocks} blocks are generated ({length} "
            f"frames{given} in blocks of {dims(size)}): name a class for each block, or change --frames"
        )
    return ids


def read_prefix(pipeline: ACDiTVideoPipeline, path: Path, kept: int | None) -> list[Image.Image]:
    """Read the first `kept` frames of a video file, cropped to the size of the model's frames.

    Raises:
        UserError: if the file cannot be read or has fewer frames, or if the model's frames are not square.
    """
    frames = read_frames(path, kept)
    if kept is not None and len(frames) < kept:
        raise UserError(f"{path} has {len(frames)} frames, fewer than --keep-frames {kept}")
    height, width = (size * pipeline.vae_scale_factor for size in pipeline.layout.size[1:])
    if height != width:
        raise UserError(
            f"--prefix only works with models of square frames; this one has {height}x{width}: leave it out"
        )
    grey = pipeline.pixel_channels == 1
    try:
        return [centre_crop(frame.convert("L" if grey else "RGB"), height) for frame in frames]
    except Unreadable as fault:
        raise UserError(f"{path}: {fault}") from fault


@contextmanager
def _file(out: Path, columns: int, rate: int) -> Iterator[Callable[[Sequence[Frames]], None]]:
    """Yield a function that adds the next frames of all clips to a file.

    A .png is a sheet with a row of frames for each clip; other files are videos of the clips side by side.
    """
    if out.suffix.lower() != ".png":
        with video_file(out, rate) as writer:

            def add(part: Sequence[Frames]) -> None:
                for frame in side_by_side(part, columns):
                    writer.add(frame)

            yield add
        return
    parts: list[Sequence[Frames]] = []
    yield parts.append
    save_picture(contact_sheet([list(chain(*frames)) for frames in zip(*parts, strict=True)]), out)
