"""Videos that a model draws, written as they are made: what `acdit sample` does with a model of video."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from ..data.decode import centre_crop
from ..media.images import save_picture
from ..media.videos import Frames, contact_sheet, read_frames, side_by_side, video_file
from ..model.layout import parse_dims
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError
from .batches import asked_labels
from .options import SampleOptions

RATE = 8  # frames a second


def draw_clips(pipeline: ACDiTVideoPipeline, options: SampleOptions) -> str:
    """Draw clips, a row for each label, into one file, frame by frame as blocks are finished.

    Returns:
        What there is to say of it.

    Raises:
        UserError: for options of images, more clips than a batch holds, or a prefix that does not fit.
    """
    if options.keep_blocks is not None or options.count is not None:
        raise UserError("this model draws video: --keep-blocks and --count are for images; see --keep-frames")
    if options.rate is not None and options.path.suffix.lower() == ".png":
        raise UserError("--rate is for an .mp4 or a .gif: a .png shows all frames at once")
    samples = options.samples or 1
    asked = asked_labels(pipeline, options.labels, samples)
    if len(asked) > options.batch:
        raise UserError(
            f"{len(asked)} videos are drawn side by side, more than --batch {options.batch}: "
            "ask for fewer, or raise it"
        )
    prefix = None if options.prefix is None else _prefix(pipeline, Path(options.prefix), options.keep_frames)
    frames = options.frames or pipeline.num_frames
    out, started = options.path, time.perf_counter()
    with tqdm(total=frames, unit="frame", desc="sampling", delay=3, leave=False) as progress:
        pieces = pipeline.stream(
            asked,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            guidance_rising=options.guidance_rising,
            guidance_interval=options.guidance_interval,
            num_frames=frames,
            block=None if options.block is None else parse_dims(options.block),
            prefix=prefix,
            window=options.window,
            sinks=options.sinks or 0,
            context_noise=options.context_noise or 0.0,
            generator=[torch.Generator().manual_seed(options.seed + place) for place in range(len(asked))],
        )
        piece = None
        with _file(out, samples, options.rate or RATE) as add:
            if prefix is not None:
                add([prefix] * len(asked))
                progress.update(len(prefix))
            for piece in pieces:
                add(piece.frames)
                progress.update(len(piece.frames[0]))
    assert piece is not None  # a prefix leaves something to draw
    return (
        f"{out}: {len(asked)} videos of {frames} frames in {time.perf_counter() - started:.1f} s; "
        f"{piece.evaluations} network evaluations a video, "
        f"key-value cache {piece.cache_bytes / len(asked) / 2**10:.0f} KiB a video"
    )


@contextmanager
def _file(out: Path, columns: int, rate: int) -> Iterator[Callable[[Sequence[Frames]], None]]:
    """Takes the next frames of all clips: a video of them side by side, or a sheet with a row for each."""
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


def _prefix(pipeline: ACDiTVideoPipeline, path: Path, kept: int | None) -> list[Image.Image]:
    """The first frames of a video file, cropped to the model's."""
    frames = read_frames(path, kept)
    if kept is not None and len(frames) < kept:
        raise UserError(f"{path} has {len(frames)} frames, and --keep-frames asks for {kept}")
    height, width = (edge * pipeline.vae_scale_factor for edge in pipeline.layout.size[1:])
    if height != width:
        raise UserError(f"--prefix is cropped to squares, and the model's frames are {height}x{width}")
    grey = pipeline.pixel_channels == 1
    return [centre_crop(frame.convert("L" if grey else "RGB"), height) for frame in frames]
