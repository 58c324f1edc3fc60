"""Outputs of ACDiTVideoPipeline."""

from dataclasses import dataclass
from typing import Any

from diffusers.utils.outputs import BaseOutput


@dataclass
class ACDiTVideoPipelineOutput(BaseOutput):
    """Output of the video pipeline.

    Attributes:
        frames: a list of PIL images for each video, an array (N, F, H, W, C) or a tensor (N, F, C, H, W) in
            [0, 1], or latents (N, C, F, h, w); including the prefix.
        evaluations: number of network calls.
        cache_bytes: size of the batch's key-value cache in bytes; 0 for a layout of one block.
    """

    frames: Any
    evaluations: int
    cache_bytes: int


@dataclass(frozen=True)
class VideoPiece:
    """Frames that are finished together, because their blocks lie side by side.

    Attributes:
        frames: frames in the form of `ACDiTVideoPipelineOutput`.
        evaluations: number of network calls so far.
        cache_bytes: size of the batch's key-value cache in bytes so far.
        complete: whether all steps of all blocks of these frames were taken; only the last piece of an
            interrupted stream may be incomplete.
    """

    frames: Any
    evaluations: int
    cache_bytes: int
    complete: bool = True
