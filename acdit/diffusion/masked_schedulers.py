"""Samplers of masked diffusion, as diffusers schedulers: each step fills some of a block's masked tokens."""

import math
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from ..utils.errors import UserError
from .masked import Schedule, check_mask_token, masked_share
from .objective import TRAIN_STEPS


class MaskedScheduler(SchedulerMixin, ConfigMixin):
    """What the samplers share: times, and draws of tokens in float64, each sample's from its own generator.

    A sample without masks is left as it is and draws nothing, so what a sample becomes does not depend on
    how long its neighbours take.

    Args:
        mask_token: id of the mask, the last of the vocabulary.
        schedule: alpha(t) as trained, see `MaskedObjective`.
        temperature: logits are divided by it; 0 = the most likely token.
        top_p: only the most likely tokens that together have this probability are drawn.
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
        if temperature < 0:
            raise ValueError(f"temperature must not be negative, but is {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must lie above 0, up to 1, not {top_p}")
        self.set_timesteps(1)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Evenly spaced times from 1 down, those at which the network is asked."""
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be positive, not {num_inference_steps}")
        self.num_inference_steps = num_inference_steps
        self.times = torch.linspace(1, 0, num_inference_steps + 1, dtype=torch.float64)
        self.timesteps = (TRAIN_STEPS * self.times[:-1]).to(device, torch.float32)
        self.sigmas = masked_share(self.times[:-1], self.config["schedule"])

    def finished(self, sample: Tensor) -> bool:
        """Whether no token (N, B) is masked."""
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
            model_output: logits (N, B, V).
            timestep: one of `timesteps`.
            sample: tokens (N, B).
            generator: one per sample; None = torch's own.
            return_dict: a `SchedulerOutput`, or a tuple.
        """
        check_mask_token(self.config["mask_token"], model_output.shape[-1])
        place = int((self.timesteps - timestep).abs().argmin())
        filled = sample.clone()
        for row in range(len(sample)):
            at = (sample[row] == self.config["mask_token"]).nonzero().flatten()  # masked places (n,)
            if len(at):
                source = None if generator is None else generator[row]
                logits = model_output[row, at, :-1].double()
                chosen = self._chosen(logits, place, source)
                filled[row, at[chosen]] = _drawn(self._probabilities(logits[chosen]), source)
        return SchedulerOutput(prev_sample=filled) if return_dict else (filled,)  # pyright: ignore[reportArgumentType]

    def _chosen(self, logits: Tensor, place: int, source: torch.Generator | None) -> Tensor:
        """Which of the masked places to fill now, as indices, from the logits (n, V - 1) there."""
        raise NotImplementedError

    def _due(self, count: int, place: int) -> int:
        """How many of `count` masked tokens the step must fill at least, to be done with the last one."""
        return math.ceil(count / (self.num_inference_steps - place))

    def _probabilities(self, logits: Tensor) -> Tensor:
        if self.config["temperature"] == 0:
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
    """The reverse process in as many steps as asked: each masked token is filled with the probability
    (alpha_s - alpha_t) / (1 - alpha_t) (Eq. 7 of MDLM), all of a step at once.

    The law of the samples is that of the network as steps grow; with few, tokens of one step do not know of
    each other.
    """

    def _chosen(self, logits: Tensor, place: int, source: torch.Generator | None) -> Tensor:
        now, then = masked_share(self.times[place : place + 2], self.config["schedule"]).tolist()
        return (_uniform(len(logits), source) * now >= then).nonzero().flatten()


class FirstHittingScheduler(MaskedScheduler):
    """The exact order of the reverse process: one masked token after another, each at random (arXiv
    2409.02908), in at most one evaluation per token.

    For networks without time conditioning, which the time of a token's filling does not matter to. With
    fewer steps than tokens several are filled in one, evenly over the steps.
    """

    def _chosen(self, logits: Tensor, place: int, source: torch.Generator | None) -> Tensor:
        count = len(logits)
        return _uniform(count, source).argsort()[: self._due(count, place)]


class ConfidenceScheduler(MaskedScheduler):
    """Parallel filling: in each step all tokens of which the network is sure, at least as many as are due.

    Args:
        threshold: probability of the most likely token from which on it counts as sure.
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
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1, not {threshold}")
        super().__init__(mask_token=mask_token, schedule=schedule, temperature=temperature, top_p=top_p)

    def _chosen(self, logits: Tensor, place: int, source: torch.Generator | None) -> Tensor:
        surest = logits.softmax(-1).amax(-1)  # whatever temperature and top_p
        ordered, order = surest.sort(dim=0, descending=True, stable=True)
        sure = int((ordered >= self.config["threshold"]).sum())
        return order[: max(sure, self._due(len(order), place))]


def _uniform(count: int, source: torch.Generator | None) -> Tensor:
    """Numbers (count,) in [0, 1), float64, drawn where the generator is, on the CPU."""
    device = torch.device("cpu") if source is None else source.device
    return torch.rand(count, generator=source, dtype=torch.float64, device=device).cpu()


def _drawn(probabilities: Tensor, source: torch.Generator | None) -> Tensor:
    """A token (n,) from each row of (n, V - 1), by the inverse of its distribution function in float64."""
    shares = _uniform(len(probabilities), source).to(probabilities.device)
    sums = probabilities.cumsum(-1)
    if not sums[:, -1].isfinite().all():
        raise UserError("the network's output is not finite; try float32, or bfloat16 in place of float16")
    found = torch.searchsorted(sums, (shares * sums[:, -1])[:, None], right=True).squeeze(-1)
    return found.clamp(max=probabilities.shape[-1] - 1)


for _public in (AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler):
    _public.__module__ = "acdit"  # saved files name this module, so that the code may move
