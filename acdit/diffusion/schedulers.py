"""Noise processes and the schedulers that sample them: the protocol, and a table of schedulers."""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, cast

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from ..utils.errors import UserError
from ..utils.settings import nearest
from .masked_schedulers import (
    AncestralScheduler,
    ConfidenceScheduler,
    FirstHittingScheduler,
    MaskedScheduler,
    with_sampling,
)
from .objective import TRAIN_STEPS
from .ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
from .orders import LEFT, LOWEST_ENTROPY, RIGHT, Order

Prediction = Literal["epsilon", "v", "flow"]
SOLVER_TARGETS: dict[str, Literal["epsilon", "v_prediction", "flow_prediction"]] = {
    "epsilon": "epsilon",
    "v": "v_prediction",
    "flow": "flow_prediction",
}
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "flow_prediction": "flow"}

# The noise process of the paper (section 4.5): DDPM's linear betas.
LINEAR_BETAS = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}


class Solver(Protocol):
    """Protocol of diffusers schedulers, which every noise process follows, including that of text.

    A solver may also have `sigmas` or `alphas_cumprod` (its noise levels), `scale_model_input`, `finished`
    (whether no step is left to take), and an argument `generator` of `step`; see `generate`.
    """

    @property
    def timesteps(self) -> Tensor:
        """Return the timesteps (steps,) of a generation, the noisiest first."""
        ...

    def set_timesteps(self, num_inference_steps: int, device: torch.device = ...) -> None:
        """Start a generation with this number of steps on a device."""
        ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, /) -> object:
        """Take a step from a timestep to the next one, given a prediction and a sample at the timestep.

        Returns:
            A `SchedulerOutput` whose `prev_sample` (N, B, C), or tokens (N, B), is the sample at the next
            timestep.
        """
        ...


def default_sampler(prediction: Prediction) -> DPMSolverMultistepScheduler:
    """Return the solver of the paper's samples (Appendix B): DPM-Solver++ 2M, every option written out.

    For flow prediction, the same solver uses the noise levels of the straight path. It rounds the timesteps
    that it passes to the network down to integers.
    """
    return DPMSolverMultistepScheduler(
        **LINEAR_BETAS,
        solver_order=2,
        prediction_type=SOLVER_TARGETS[prediction],
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
        steps_offset=0,
        use_karras_sigmas=False,
        use_flow_sigmas=prediction == "flow",
        flow_shift=1.0,
    )


def unipc_sampler(prediction: Prediction) -> UniPCMultistepScheduler:
    """Return UniPC (arXiv 2302.04867) over the noise levels of `default_sampler`."""
    return cast(
        UniPCMultistepScheduler, UniPCMultistepScheduler.from_config(default_sampler(prediction).config)
    )


# Constructors of schedulers by noise process and name. Those for continuous data take `prediction`; those for
# masked tokens take `mask_token` and `schedule`.
SCHEDULERS: dict[str, dict[str, Callable[..., Solver]]] = {
    "continuous": {"dpmsolver++": default_sampler, "unipc": unipc_sampler},
    "masked": {
        "ancestral": AncestralScheduler,
        "confidence": ConfidenceScheduler,
        "first-hitting": FirstHittingScheduler,
        LEFT: FixedOrderScheduler,
        RIGHT: partial(FixedOrderScheduler, positions=RIGHT),
        LOWEST_ENTROPY: LowestEntropyScheduler,
    },
}


def masked_scheduler(name: Order, like: MaskedScheduler, label: str = "scheduler") -> MaskedScheduler:
    """Return a scheduler of masked tokens with the mask and the settings of sampling of another one.

    Args:
        name: Name in `SCHEDULERS`, or the positions of a block in their order, see `FixedOrderScheduler`.
        like: Scheduler whose mask, noise schedule, temperature and top_p it has.
        label: Name of the value in messages.

    Raises:
        UserError: If there is no such scheduler.
    """
    known, config = SCHEDULERS["masked"], like.config
    if not isinstance(name, str):
        build: Callable[..., Solver] = partial(FixedOrderScheduler, positions=name)
    elif name in known and known[name] is type(like) and not isinstance(like, FixedOrderScheduler):
        return with_sampling(like, None, None)  # with its other settings too, such as a threshold
    elif name in known:
        build = known[name]
    else:
        close = nearest(name, known)[0]
        raise UserError(f"{label} must be one of {', '.join(known)}, not {name!r}; did you mean {close}?")
    built = cast(MaskedScheduler, build(mask_token=config["mask_token"], schedule=config["schedule"]))
    return with_sampling(built, config["temperature"], config["top_p"])
