"""Samplers of masked diffusion as diffusers schedulers: each step fills some of a block's masked tokens."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from ..utils.errors import UserError
from .masked import SCHEDULES, Schedule, check_mask_token, invert, masked_fraction
from .objective import TRAIN_STEPS

AT_ONCE = 16  # tokens whose logits are in float64 at once: more do not stay in the processor's cache
GREEDY = 1e-100  # temperatures below this leave the most likely token alone; quotients would overflow


class MaskedScheduler(SchedulerMixin, ConfigMixin, ABC):
    """Base class of the samplers: times, and draws of tokens in float64, with a generator for each sample.

    A sample without masks is left unchanged and draws nothing, so the result of a sample does not depend on
    the number of steps that the other samples take.

    Args:
        mask_token: Id of the mask, the last of the vocabulary.
        schedule: Noise schedule alpha(t) of the training, see `MaskedObjective`.
        temperature: Divisor of the logits; 0 = the most likely token.
        top_p: Total probability of the most likely tokens, to which draws are limited.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        *,
        mask_token: int,
        schedule: Schedule = "log_linear",
        temperature: float = 1.0,
        top_p: float = 1.0,
    ):
        _check_number("temperature", temperature)
        if temperature < 0:
            raise ValueError(f"temperature must not be negative, but is {temperature}")
        _check_number("top_p", top_p)
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
        self.set_timesteps(1)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Set the times at which the network is called, evenly spaced from 1 down."""
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be positive, not {num_inference_steps}")
        self.num_inference_steps = num_inference_steps
        self.times = torch.linspace(1, 0, num_inference_steps + 1, dtype=torch.float64)
        self.timesteps = (TRAIN_STEPS * self.times[:-1]).to(device, torch.float32)
        self.sigmas = masked_fraction(self.times[:-1], self.config["schedule"])

    def check_block(self, tokens: int) -> None:
        """Raise UserError if the scheduler is for blocks of another number of tokens."""
        del tokens  # most schedulers are for blocks of any size

    def finished(self, sample: Tensor) -> bool:
        """Return whether no token (N, B) is masked."""
        return not bool((sample == self.config["mask_token"]).any())

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: Sequence[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Fill some masked tokens.

        Args:
            model_output: Logits (N, B, V).
            timestep: One of `timesteps`.
            sample: Token ids (N, B).
            generator: Random generators, one per sample; None = torch's own.
            return_dict: Whether to return a `SchedulerOutput` or a tuple.
        """
        check_mask_token(self.config["mask_token"], model_output.shape[-1])
        step_index = int((self.timesteps - timestep).abs().argmin())
        masked = (sample == self.config["mask_token"]).cpu()
        rows, positions = masked.nonzero(as_tuple=True)  # of all masked tokens (n,), row by row
        priorities = self._priorities(model_output, rows, positions)
        chosen, uniform, first = [], [], 0
        for row, count in enumerate(masked.sum(1).tolist()):  # only the draws of numbers are made row by row
            if count:
                source = None if generator is None else generator[row]
                own = None if priorities is None else priorities[first : first + count]
                chosen.append(first + self._select(count, step_index, source, own))
                uniform.append(_uniform(len(chosen[-1]), source))
            first += count
        filled = sample.clone()
        if chosen:
            now = torch.cat(chosen)
            rows, positions = rows[now], positions[now]
            probabilities = self._probabilities(logits_at(model_output, rows, positions))
            tokens = invert(probabilities, torch.cat(uniform)).to(filled.device)
            filled[rows.to(filled.device), positions.to(filled.device)] = tokens
        return SchedulerOutput(prev_sample=filled) if return_dict else (filled,)  # pyright: ignore[reportArgumentType]

    @abstractmethod
    def _select(
        self, count: int, step_index: int, source: torch.Generator | None, priorities: Tensor | None
    ) -> Tensor:
        """Return the indices of the tokens to fill now, among the `count` masked ones of a row.

        `priorities` (count,) are theirs, if the scheduler has some.
        """

    def _priorities(self, model_output: Tensor, rows: Tensor, positions: Tensor) -> Tensor | None:
        """Return numbers (n,) on the CPU by which masked tokens are chosen; None if they are not needed."""
        del model_output, rows, positions
        return None

    def _due(self, count: int, step_index: int) -> int:
        """Return the minimum number of tokens to fill in this step, when `count` tokens are masked.

        With this minimum in every step, the last step fills the last masked token.
        """
        return math.ceil(count / (self.num_inference_steps - step_index))

    def _probabilities(self, logits: Tensor) -> Tensor:
        if self.config["temperature"] < GREEDY:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        probabilities = (logits / self.config["temperature"]).softmax(-1)
        if self.config["top_p"] < 1:
            ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered
            ordered[before >= self.config["top_p"]] = 0  # the token that reaches top_p is kept
            probabilities = torch.zeros_like(ordered).scatter_(-1, order, ordered)
            probabilities /= probabilities.sum(-1, keepdim=True)
        return probabilities


class AncestralScheduler(MaskedScheduler):
    """Reverse process in the requested number of steps.

    Each masked token is filled with the probability (alpha_s - alpha_t) / (1 - alpha_t) (Eq. 7 of MDLM), all
    tokens of a step at once. The distribution of the samples approaches that of the network as the number of
    steps grows; with few steps, the tokens of one step are drawn independently of each other. The arguments
    are those of `MaskedScheduler`.
    """

    def _select(
        self, count: int, step_index: int, source: torch.Generator | None, priorities: Tensor | None
    ) -> Tensor:
        masked_now, masked_next = masked_fraction(
            self.times[step_index : step_index + 2], self.config["schedule"]
        ).tolist()
        return (_uniform(count, source) * masked_now >= masked_next).nonzero().flatten()


class FirstHittingScheduler(MaskedScheduler):
    """Exact order of the reverse process: masked tokens are filled one by one, in random order.

    The method (arXiv 2409.02908) takes at most one evaluation per token. It is for networks without time
    conditioning, whose predictions do not depend on the unmasking time. With fewer steps than tokens, several
    tokens are filled per step, evenly over the steps. The arguments are those of `MaskedScheduler`.
    """

    def _select(
        self, count: int, step_index: int, source: torch.Generator | None, priorities: Tensor | None
    ) -> Tensor:
        return _uniform(count, source).argsort()[: self._due(count, step_index)]


class ConfidenceScheduler(MaskedScheduler):
    """Parallel filling: each step fills all confident predictions, and at least the tokens that are due.

    Args:
        mask_token: See `MaskedScheduler`.
        schedule: See `MaskedScheduler`.
        temperature: See `MaskedScheduler`.
        top_p: See `MaskedScheduler`.
        threshold: Minimum probability of the most likely token for a prediction to count as confident.
    """

    @register_to_config
    def __init__(
        self,
        *,
        mask_token: int,
        schedule: Schedule = "log_linear",
        temperature: float = 1.0,
        top_p: float = 1.0,
        threshold: float = 0.9,
    ):
        _check_number("threshold", threshold)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, not {threshold}")
        super().__init__(mask_token=mask_token, schedule=schedule, temperature=temperature, top_p=top_p)

    def _select(
        self, count: int, step_index: int, source: torch.Generator | None, priorities: Tensor | None
    ) -> Tensor:
        assert priorities is not None
        ordered, order = priorities.sort(dim=0, descending=True, stable=True)
        confident = int((ordered >= self.config["threshold"]).sum())
        return order[: max(confident, self._due(count, step_index))]

    def _priorities(self, model_output: Tensor, rows: Tensor, positions: Tensor) -> Tensor | None:
        """Return the probability (n,) of the most likely token, independent of temperature and top_p."""
        parts = zip(rows.split(AT_ONCE), positions.split(AT_ONCE), strict=True)
        greatest = [logits_at(model_output, *part).softmax(-1).amax(-1).cpu() for part in parts]
        return torch.cat(greatest)


def logits_at(model_output: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Return the logits (n, V - 1) of tokens of rows, without the mask's, in float64."""
    indices = rows * model_output.shape[1] + positions
    return model_output.flatten(0, 1).index_select(0, indices.to(model_output.device))[:, :-1].double()


def _check_number(name: str, value: object) -> None:
    """Raise ValueError unless a value is a finite number."""
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value}")


def _uniform(count: int, source: torch.Generator | None) -> Tensor:
    """Return random numbers (count,) in [0, 1) as float64 on the CPU.

    They are drawn on the device of the generator.
    """
    device = torch.device("cpu") if source is None else source.device
    return torch.rand(count, generator=source, dtype=torch.float64, device=device).cpu()


def with_sampling(
    scheduler: MaskedScheduler, temperature: float | None, top_p: float | None
) -> MaskedScheduler:
    """Return a copy of a masked scheduler with another temperature and top_p; None = its own.

    Raises:
        UserError: if a value is out of range.
    """
    given: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        return cast(MaskedScheduler, type(scheduler).from_config(scheduler.config, **changes))
    except ValueError as fault:
        raise UserError(str(fault)) from fault


for _public in (AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler):
    _public.__module__ = "acdit"  # saved files refer to this module, so that the code can be moved
