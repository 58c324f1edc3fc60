"""Estimate the memory and disk space of samples, so that requests that cannot fit are refused at once."""

from pathlib import Path

from ..model.generator_counts import generator_counts
from ..model.layout import Layout, dims
from ..pipelines.block_pipeline import BlockPipeline
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.resources import free_memory, require_disk, require_memory

OVERHEAD = 200  # bytes of Python objects per sample or block: label, generator, number of steps


def require_sampling_memory(
    pipeline: BlockPipeline,
    layout: Layout,
    *,
    count: int,
    batch: int | None,
    kept: int,
    window: int | None = None,
) -> None:
    """Raise UserError unless samples fit into memory, with the key-value cache of a batch.

    Pipelines on an accelerator are not checked, since the size of its memory is not known here.

    Args:
        pipeline: pipeline that generates the samples.
        layout: layout of a sample.
        count: total number of samples.
        batch: number of samples generated at once; None = all of them, regardless of --batch.
        kept: bytes of a finished sample that stay in memory.
        window: number of blocks that the cache keeps; None = all.
    """
    if pipeline.device.type != "cpu":
        return
    blocks = layout.num_blocks if window is None else min(window + 1, layout.num_blocks)
    cached = Layout((blocks * layout.block_tokens,), (layout.block_tokens,))
    counts = generator_counts(pipeline.transformer.config)
    cache = counts.cache_bytes(cached, pipeline.transformer.dtype.itemsize, guided=True)
    state = 4 * 4 * counts.network.in_channels * layout.block_tokens  # noise, sample, prediction, logits
    together = count if batch is None else min(batch, count)
    always = count * (kept + OVERHEAD) + layout.num_blocks * OVERHEAD
    remedy = "ask for fewer or shorter ones"
    if batch is not None and together > 1 and always + cache + state <= free_memory():
        remedy += ", or lower --batch"
    require_memory(always + together * (cache + state), f"{count:,} samples, {together:,} at once,", remedy)


def require_set_disk(pipeline: ACDiTPipeline, out: Path, count: int, written: int = 0) -> None:
    """Raise UserError unless the rest of a set of images fits on the disk.

    The parts and the joined file exist at the same time before the parts are removed.

    Args:
        pipeline: pipeline that generates the images.
        out: path of the set.
        count: number of images.
        written: bytes of parts that exist already.
    """
    height, width = (size * pipeline.vae_scale_factor for size in pipeline.layout.size[-2:])
    shape = dims((height, width))
    subject = f"{count:,} images of {shape} pixels" + (", beside their parts so far," if written else "")
    required = max(2 * 3 * count * height * width - written, 0)
    require_disk(required, out, subject, "make room" if written else "lower --count")


def clip_layout(pipeline: ACDiTVideoPipeline, frames: int) -> Layout:
    """Return the layout of a clip in blocks of one token along time, for estimates only."""
    default = pipeline.layout
    return Layout(
        (max(1, frames // default.patch[0]), *default.grid[1:]), (1, *default.grid[1:]), default.patch
    )


def pixel_bytes(pipeline: ACDiTPipeline, layout: Layout) -> int:
    """Return the number of bytes of a finished image or clip in float32 and of its 8-bit copy."""
    *frames, height, width = layout.size
    scale = pipeline.vae_scale_factor**2
    total = pipeline.pixel_channels * height * width * scale
    for length in frames:
        total *= length
    return 5 * total
