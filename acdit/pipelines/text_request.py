"""The checked arguments of a call or a stream of the text pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..diffusion.masked_schedulers import MaskedScheduler
from .callbacks import StepFunction
from .canvas import Canvas


@dataclass(frozen=True)
class TextRequest:
    """Checked arguments for `generate`.

    Attributes:
        canvas: given tokens of every sample, and masks where tokens are to be generated.
        steps: solver steps of every block.
        scheduler: scheduler with the temperature and top_p of the request.
        generators: generator of each sample, see `one_per_sample`.
        callback: function that is called after each step; None = none.
        callback_inputs: names of the tensors that it receives.
    """

    canvas: Canvas
    steps: list[int]
    scheduler: MaskedScheduler
    generators: list[torch.Generator]
    callback: StepFunction | None
    callback_inputs: Sequence[str]
