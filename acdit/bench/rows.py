"""Rows of the benchmark: the workloads that it measures, by name. Does not import torch."""

from dataclasses import dataclass
from typing import Literal

from ..model.layout import Layout, parse_dims
from ..utils.errors import UserError

Work = Literal["train", "sample", "text", "attention"]
SAMPLING_BATCH = 2
IMAGE_STEPS, IMAGE_CHANNELS = 8, 4
BYTES = 258  # size of the vocabulary of bytes, including the end token and the mask


@dataclass(frozen=True)
class Row:
    """One workload: the kind of work, the network, and the data.

    Attributes:
        name: name of the row.
        work: kind of work: a training step, the sampling of a batch, the generation of texts, or one layer's
            attention in a training step.
        layout: layout as GRID/BLOCK in tokens, such as 32x32/16x16.
        size: named size of the network (Table 5).
        layers: number of layers; None = that of the named size.
        batch: number of samples.
        channels: number of values of a data element; for texts, the size of the vocabulary.
        patch: side of a token's patch.
        classes: number of classes of the label table.
        steps: number of sampling steps per block; None = the number of tokens of a block.
        guidance: scale of classifier-free guidance in sampling; texts are generated without guidance.
    """

    name: str
    work: Work
    layout: str
    size: str = "B"
    layers: int | None = None
    batch: int = 1
    channels: int = IMAGE_CHANNELS
    patch: int = 1
    classes: int = 1000
    steps: int | None = IMAGE_STEPS
    guidance: float = 1.5

    @property
    def tokens(self) -> Layout:
        """Return the layout; the patch lies along the last two axes, not along time."""
        return parse_layout(self.layout, self.patch)


def parse_layout(text: str, patch: int = 1) -> Layout:
    """Parse a layout in the form of the command line, "32x32/16x16": grid and block in tokens.

    Raises:
        ValueError: if the text cannot be parsed, or the block does not tile the grid.
    """
    grid, slash, block = text.partition("/")
    if not slash:
        raise UserError(f"--layout must be GRID/BLOCK in tokens, such as 32x32/16x16, not {text!r}")
    sizes = parse_dims(grid, "--layout"), parse_dims(block, "--layout")
    axes = len(sizes[0])
    if not 1 <= axes <= 3:
        raise UserError(f"--layout must have 1 to 3 axes, not the {axes} of {text}")
    return Layout(*sizes, (1,) * (axes - 2) + (patch,) * min(axes, 2))


ROWS = {
    row.name: row
    for row in (
        Row("train-4", "train", "32x32/16x16"),
        Row("train-16", "train", "32x32/8x8"),
        Row("train-64", "train", "32x32/4x4"),
        Row("train-1", "train", "32x32/32x32"),
        Row("train-video", "train", "16x16x16/4x16x16", layers=6, patch=2, classes=101),
        Row("train-digits", "train", "8x8/4x4", "S", batch=64, channels=1, patch=4, classes=10),
        Row("sample-4", "sample", "32x32/16x16", batch=SAMPLING_BATCH),
        Row("sample-16", "sample", "32x32/8x8", batch=SAMPLING_BATCH),
        Row("sample-64", "sample", "32x32/4x4", batch=SAMPLING_BATCH),
        *(
            Row(f"text-{256 // size}", "text", f"256/{size}", "S", channels=BYTES, steps=None)
            for size in (1, 4, 16, 64, 256)
        ),
        Row("attention-4", "attention", "32x32/16x16"),
        Row("attention-16", "attention", "32x32/8x8"),
        Row("attention-64", "attention", "32x32/4x4"),
    )
}
