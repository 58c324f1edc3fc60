"""Lengths of videos: a number of frames in tokens, and videos without end."""

import math
from collections.abc import Sequence

from ..model.layout import Layout
from ..utils.errors import UserError
from .callbacks import tensor_inputs
from .layouts import requested_block
from .request import SharedArguments

# Blocks along time of the layout of a video without end: nothing is computed or kept for blocks that have not
# begun, and more blocks are never generated.
ENDLESS = 2**40


def frame_tokens(own: Layout, num_frames: float, block: Sequence[int] | None) -> int:
    """Return the number of tokens along the time axis of a video.

    Args:
        own: layout of the model.
        num_frames: number of frames; `math.inf` = without end.
        block: tokens of a block along each axis; None = the model's.

    Raises:
        UserError: if the frames are not whole blocks.
    """
    patch, size = own.patch[0], requested_block(own, block)[0]
    if num_frames == math.inf:
        return ENDLESS * size
    multiple = size * patch
    if num_frames < multiple or num_frames % multiple:
        raise UserError(f"num_frames must be a multiple of {multiple} (one block), not {num_frames}")
    return int(num_frames) // patch


def check_endless(arguments: SharedArguments) -> None:
    """Check that arguments can be those of a video without end.

    Raises:
        UserError: if an argument depends on the number of frames.
    """
    reasons = {
        "latents": (arguments.get("latents") is not None, "hold the noise of a number of frames"),
        "guidance_rising": (arguments.get("guidance_rising", False), "rises up to the last block"),
        "num_inference_steps": (
            isinstance(arguments.get("num_inference_steps"), Sequence),
            "as a list has the steps of every block",
        ),
    }
    for name, (is_given, reason) in reasons.items():
        if is_given:
            raise UserError(f"{name} {reason}: leave it out, or give num_frames a number")
    callback = arguments.get("callback_on_step_end")
    names = arguments.get("callback_on_step_end_tensor_inputs", ("latents",))
    names = tensor_inputs(callback, names or ())  # diffusers takes None for none
    if callback is not None and "latents" in names:
        raise UserError(
            "a callback cannot receive the latents of a video without end: pass "
            "callback_on_step_end_tensor_inputs=[], or give num_frames a number"
        )
