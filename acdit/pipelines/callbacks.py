"""The state of a generation that callbacks read and change, and the calls of the caller's function."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.configuration_utils import ConfigMixin
from torch import Tensor

from ..diffusion.generate import Block, Guidance, StepEnd
from ..model.layout import Layout
from ..utils.errors import UserError
from .canvas import Canvas

StepFunction = Callable[..., dict[str, Any] | None]
# Names under which callbacks of diffusers that end the guidance take the conditions: here the class labels
# (N, 1), -1 without classes. What a callback returns for them has no effect.
CONDITIONS = ["prompt_embeds", "pooled_prompt_embeds", "add_text_embeds", "add_time_ids"]


@dataclass
class Loop:
    """State of one generation, which callbacks read and change.

    Attributes:
        num_timesteps: number of solver steps, over all blocks.
        guidance_scale: guidance scale; None = that of the model.
        guided: whether the samples have classes.
        interrupt: whether the generation is to end after the current step.
        current_timestep: timestep of the current step; None while no step is computed.
    """

    num_timesteps: int = 0
    guidance_scale: float | None = None
    guided: bool = False
    interrupt: bool = False
    current_timestep: Tensor | None = None


class LoopState(ConfigMixin):
    """State of the current call of a pipeline, under the names that it has in diffusers.

    A callback may set `_interrupt`, which ends the generation after the step, and `_guidance_scale`, where 1
    and less mean no guidance from the next step on.
    """

    _last_loop: Loop | None = None

    @property
    def _loop(self) -> Loop:
        """Return the state of the generation that is computed, or was computed last."""
        if self._last_loop is None:
            self._last_loop = Loop()
        return self._last_loop

    @_loop.setter
    def _loop(self, loop: Loop) -> None:
        self._last_loop = loop

    @property
    def _interrupt(self) -> bool:
        return self._loop.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self._loop.interrupt = value

    @property
    def _guidance_scale(self) -> float | None:
        return self._loop.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        self._loop.guidance_scale = value

    @property
    def interrupt(self) -> bool:
        """Return whether the generation is to end after the current step."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Return the number of solver steps of the call, over all blocks."""
        return self._loop.num_timesteps

    @property
    def current_timestep(self) -> Tensor | None:
        """Return the timestep of the current step; None outside a call."""
        return self._loop.current_timestep

    @property
    def guidance_scale(self) -> float:
        """Return the guidance scale of the current or last call; before it the model's, 1 if it has none."""
        return (
            self.config.get("guidance_scale", 1.0) if self._guidance_scale is None else self._guidance_scale
        )

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Return whether the current or last call applies guidance."""
        return self._loop.guided and self.guidance_scale > 1

    def _in_loop(self, loop: Loop, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks of a generation, which is the current one whenever a block is computed.

        Another generation may begin between two blocks. The last step ends also if a stream is left early.
        """
        self._loop = loop
        try:
            for block in blocks:
                yield block
                self._loop = loop
        finally:
            loop.current_timestep = None

    def _interrupted(self) -> bool:
        return self._interrupt


@dataclass(frozen=True)
class LiveGuidance(Guidance):
    """Guidance whose scale a callback may change through the pipeline; 1 and less then mean none."""

    state: LoopState | None = None

    def at(self, block: int, num_blocks: int, sigma: float) -> float:
        """Return the guidance scale for a sampling step of one block."""
        live = self.scale if self.state is None else self.state.guidance_scale
        if live == self.scale:
            return super().at(block, num_blocks, sigma)
        return Guidance(max(live, 1.0), self.rising, self.interval).at(block, num_blocks, sigma)


def tensor_inputs(function: StepFunction | None, names: Sequence[str]) -> Sequence[str]:
    """Return the names of the tensors for a callback: its `tensor_inputs`, as in diffusers, or those given.

    Raises:
        UserError: if the callback cannot be called.
    """
    if function is not None and not callable(function):
        raise UserError(f"callback_on_step_end must be a function, not a {type(function).__name__}")
    return getattr(function, "tensor_inputs", names)


def call_step_function(
    function: StepFunction, pipeline: LoopState, end: StepEnd, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """Call the caller's function after a step, and return the tensors that it returns; none for None.

    Raises:
        UserError: if it returns anything but a dictionary or None.
    """
    pipeline._loop.current_timestep = end.timestep
    returned = function(pipeline, end.step, end.timestep, tensors)
    if returned is None:
        return {}
    if not isinstance(returned, dict):
        raise UserError(
            "callback_on_step_end must return a dictionary of tensors, or None for no change, not a "
            f"{type(returned).__name__}"
        )
    return returned


class Callback:
    """Wrapper of the caller's function, which receives the whole sample so far after each solver step.

    The function may change the current block.

    Args:
        pipeline: pipeline that is passed to the function.
        function: function (pipeline, step, timestep, tensors) -> tensors.
        inputs: names of the tensors that the function receives.
        layout: layout of the samples.
        canvas: initial samples (N, T, B, C), which are changed; None if the function does not receive the
            latents. Nothing is kept then that grows with the length of a sample.
        labels: function that returns the classes (N, 1) of the current block.
    """

    def __init__(
        self,
        pipeline: LoopState,
        function: StepFunction,
        inputs: Sequence[str],
        layout: Layout,
        canvas: Tensor | None,
        labels: Callable[[], Tensor],
    ):
        self.pipeline, self.function, self.inputs, self.layout = pipeline, function, inputs, layout
        self.canvas, self.labels = canvas, labels

    def __call__(self, end: StepEnd) -> Tensor | None:
        """Call the function after a step, and return the block's sample if the function returned latents."""
        tensors = dict.fromkeys(self.inputs, self.labels())
        if self.canvas is not None:
            self.canvas[:, end.block] = end.sample
            tensors["latents"] = self.layout.from_blocks(self.canvas)
        returned = call_step_function(self.function, self.pipeline, end, tensors).get("latents")
        if returned is None:
            return None
        changed = self.layout.to_blocks(returned)[:, end.block]
        if self.canvas is not None:
            self.canvas[:, end.block] = changed
        return changed


class TextCallback:
    """Wrapper of the caller's function, which receives all tokens so far after each step.

    The function may change the tokens of the current block.

    Args:
        pipeline: pipeline that is passed to the function.
        function: function (pipeline, step, timestep, tensors) -> tensors.
        inputs: names of the tensors that the function receives: `tokens`, or none.
        canvas: tokens of the finished blocks.
    """

    def __init__(self, pipeline: LoopState, function: StepFunction, inputs: Sequence[str], canvas: Canvas):
        self.pipeline, self.function, self.inputs, self.canvas = pipeline, function, inputs, canvas

    def __call__(self, end: StepEnd) -> Tensor | None:
        """Call the function after a step, and return the block's tokens (N, B) if it returned tokens."""
        positions = self.canvas.positions(end.block)
        tensors = {}
        if self.inputs:
            tensors["tokens"] = self.canvas.tokens.clone()
            tensors["tokens"][:, positions] = end.sample
        returned = call_step_function(self.function, self.pipeline, end, tensors).get("tokens")
        return None if returned is None else returned[:, positions]
