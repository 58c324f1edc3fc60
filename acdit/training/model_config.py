"""Typed configuration of the network of a generator or classifier. Does not import torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..utils.errors import UserError
from ..utils.ranges import Count, Ranged


@dataclass
class ModelConfig(Ranged):
    """Configuration of the network; values left out follow from the named size."""

    section: ClassVar[str] = "model."

    size: Literal["S", "B", "L", "XL", "H"] = "S"
    """Named size of the network (Table 5); S is for laptops."""
    num_layers: Count | None = None
    """Number of layers; default: that of the named size."""
    hidden_size: Count | None = None
    """Hidden width; default: that of the named size."""
    num_heads: Count | None = None
    """Number of attention heads; default: that of the named size."""
    time_conditioning: bool | None = None
    """Condition the network on the diffusion time; default: true for images and video, false for texts."""
    positions: Literal["rope_nd", "rope_1d", "absolute", "none"] = "rope_nd"
    """Positions of tokens: a rotation by the coordinates (rope_nd) or by the index in the sequence (rope_1d),
    fixed sine-cosine embeddings (absolute), or none."""
    context: Literal["clean", "noised"] = "clean"
    """Past that a block sees in training: clean blocks, or noised ones, each at its own noise level."""
    kind: Literal["acdit", "token-head"] = "acdit"
    """Network: ACDiT (acdit), or as a baseline a causal network over single tokens with a small diffusion
    head per token (token-head; arXiv 2406.11838), for images and video."""
    head_layers: Count | None = None
    """Number of layers of the head of token-head; default: 3."""
    head_size: Count | None = None
    """Hidden width of the head of token-head; default: hidden_size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("head_layers", "head_size"):
            if self.kind != "token-head" and getattr(self, key) is not None:
                raise UserError(
                    f"model.{key} is for model.kind token-head, not {self.kind}: leave it out, or set "
                    "model.kind token-head"
                )
        if self.kind == "token-head" and self.time_conditioning is False:
            raise UserError(
                "model.time_conditioning false does not fit model.kind token-head, whose head takes time: "
                "leave it out"
            )
