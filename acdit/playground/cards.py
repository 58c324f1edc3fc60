"""Descriptions of models, read from their configuration files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..generation.video_files import RATE
from ..modalities.classification import CLASSIFICATION
from ..modalities.image import IMAGE
from ..modalities.modality import Modality
from ..modalities.text import TEXT
from ..modalities.video import VIDEO
from ..model.generator_counts import generator_counts
from ..model.kv_cache import check_sinks
from ..model.layout import Layout, dims
from ..pipelines.folders import folder_modality
from ..pipelines.stored import INDEX
from ..utils.errors import UserError
from ..utils.untrusted import read_object

MOST_STEPS = 100  # solver steps of a block
STEPS, GUIDANCE = 25, {"image": 1.5, "video": 2.5}  # of pipelines that record none


@dataclass(frozen=True)
class Card:
    """Description of a model, from its configuration files alone.

    Attributes:
        name: name on the page.
        source: name or folder by which the command line finds it.
        folder: folder of the pipeline.
        modality: modality of the model.
        index: content of its model_index.json.
        network: configuration of its network.
        scale: side of a latent cell in pixels; 1 for pixels.
        channels: channels of a pixel.
        decodes: whether it makes pixels, and not only latents.
    """

    name: str
    source: str
    folder: Path
    modality: Modality
    index: dict[str, Any]
    network: dict[str, Any]
    scale: int
    channels: int
    decodes: bool

    @property
    def layout(self) -> Layout:
        """Return the default layout."""
        return Layout(
            tuple(self.index["grid"]), tuple(self.index["block"]), tuple(self.index.get("patch", ()))
        )

    @property
    def size(self) -> list[int]:
        """Return the size of a sample: (h, w) or (frames, h, w) in pixels, or (L,) in tokens."""
        axes = self.layout.size
        if self.modality is TEXT:
            return list(axes)
        return [*axes[:-2], *(side * self.scale for side in axes[-2:])]

    @property
    def square(self) -> tuple[int, int]:
        """Return the side in pixels and the channels of the squares that uploads are cropped to.

        Raises:
            UserError: if the model's pictures are no squares.
        """
        height, width = self.size[-2:]
        if height != width:
            raise UserError(f"{self.name} makes pictures of {height}x{width}: uploads need square ones")
        return height, self.channels

    @property
    def classes(self) -> int:
        """Return the number of classes; 0 for a model without classes."""
        return self.network.get("num_labels", self.network.get("num_classes")) or 0

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes; the number of a class without name."""
        names = self.index.get("id2label") or {}
        return [names.get(str(index)) or str(index) for index in range(self.classes)]

    @property
    def steps(self) -> int:
        """Return the default number of solver steps of a block of the model's own layout."""
        return self.default_steps(self.layout)

    def default_steps(self, layout: Layout) -> int:
        """Return the default number of solver steps of a block; a text takes at most one for each token."""
        steps = self.index.get("num_inference_steps")
        tokens = layout.block_tokens
        return min(steps or tokens, tokens) if self.modality is TEXT else steps or STEPS

    @property
    def max_steps(self) -> int:
        """Return the largest number of steps of a block; a text reveals one token or more at each step."""
        return max(block[0] for block in self.blocks) if self.modality is TEXT else MOST_STEPS

    @property
    def guidance(self) -> float:
        """Return the default guidance scale; 1 for a model that has none."""
        stored = self.index.get("guidance_scale")
        return GUIDANCE.get(self.modality.name, 1.0) if stored is None else stored

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        """Return the sizes of blocks in tokens that can be chosen, the largest first."""
        layout = self.layout
        if self.modality is CLASSIFICATION or self.network.get("head_layers") is not None:
            return [layout.block]  # a head per token generates single tokens
        length, *sides = layout.grid
        if self.modality is IMAGE:
            rows, columns = layout.grid
            sizes = {
                (rows // k, columns // k) for k in range(1, rows + 1) if not rows % k and not columns % k
            }
        else:
            sizes = {(size, *sides) for size in range(1, length + 1) if length % size == 0}
        return sorted(
            {*sizes, layout.block}, key=lambda block: (-layout.with_block(block).block_tokens, block)
        )

    @property
    def has_other_context(self) -> bool:
        """Return whether the network does not see clean blocks that are independent of the class."""
        return self.network.get("head_layers") is not None or self.network.get("context") == "noised"

    @property
    def can_change_class(self) -> bool:
        """Return whether the class of a video can change while it is made."""
        return self.modality is VIDEO and self.classes > 0 and not self.has_other_context

    @property
    def can_hold(self) -> bool:
        """Return whether a video can keep its first block in view."""
        if self.modality is not VIDEO or self.has_other_context:
            return False
        try:
            check_sinks(self.layout, self.network)
        except UserError:
            return False
        return True

    @property
    def tabs(self) -> list[str]:
        """Return the tabs of the page that can show the model."""
        if self.modality is CLASSIFICATION:
            return []
        how = [] if self.has_other_context else ["how"]  # whose mask is another one
        if self.modality is TEXT:
            return ["write", *how]
        if not self.decodes:
            return how
        square = self.size[-1] == self.size[-2]
        return ["video", *how] if self.modality is VIDEO else ["draw", *["finish"] * square, *how]

    def described(self) -> dict[str, Any]:
        """Return the description that the page reads."""
        layout = self.layout
        return {
            "name": self.name,
            "title": self.name,
            "modality": "classifier" if self.modality is CLASSIFICATION else self.modality.name,
            "classes": [{"id": index, "name": name} for index, name in enumerate(self.class_names)],
            "size": self.size,
            "grid": layout.grid,
            "patch": layout.patch,
            "blocks": [dims(block) for block in self.blocks],
            "default_block": dims(layout.block),
            "steps": self.steps,
            "max_steps": self.max_steps,
            "guidance": self.guidance,
            "channels": self.channels,
            "tabs": self.tabs,
            **(self._of_video() if self.modality is VIDEO else {}),
        }

    def _of_video(self) -> dict[str, Any]:
        return {"fps": RATE, "can_change_class": self.can_change_class, "can_hold": self.can_hold}


def read_card(name: str, source: str, folder: Path) -> Card:
    """Read the description of a model.

    Args:
        name: name on the page.
        source: name or folder by which the command line finds it.
        folder: folder of the pipeline.

    Raises:
        UserError: if there is no such model, or it is damaged.
    """
    modality = folder_modality(folder)
    index = read_object(folder / INDEX)
    network = read_object(folder / modality.network[0] / "config.json")
    layout = Layout(tuple(index["grid"]), tuple(index["block"]), tuple(index.get("patch", ())))
    scale, decodes = index.get("vae_scale_factor", 1), True
    channels = 0 if modality is TEXT else network["in_channels"] // layout.patch_elements
    if index.get("vae", [None])[0] is not None:
        vae = read_object(folder / "vae" / "config.json")
        scale, channels = 2 ** (len(vae["block_out_channels"]) - 1), vae["in_channels"]
    else:
        decodes = scale == 1
    if modality is not CLASSIFICATION:
        generator_counts(network)  # raises an error for a configuration that lacks a size
    return Card(name, source, folder, modality, index, network, scale, channels, decodes)
