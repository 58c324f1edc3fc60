"""Noise processes and the schedulers that sample them: the protocol, and a table of those in the package."""

from collections.abc import Callable
from typing import Literal, Protocol, cast

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from .masked_schedulers import AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler
from .objective import TRAIN_STEPS

Prediction = Literal["epsilon", "v", "flow"]
SOLVER_TARGETS: dict[str, Literal["epsilon", "v_prediction", "flow_prediction"]] = {
    "epsilon": "epsilon",
    "v": "v_prediction",
    "flow": "flow_prediction",
}

# The noise process of the paper (section 4.5): DDPM's linear betas.
LINEAR_BETAS = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}


class Solver(Protocol):
    """The contract of diffusers schedulers, which every noise process keeps, that of text included.

    A solver may have more: `sigmas` or `alphas_cumprod` (its noise levels), `scale_model_input`, `finished`
    (whether nothing is left to do), and an argument `generator` of `step`; see `generate`.
    """

    @property
    def timesteps(self) -> Tensor:
        """The timesteps (steps,) of a generation, the noisiest first."""
        ...

    def set_timesteps(self, num_inference_steps: int, device: torch.device = ...) -> None:
        """Start a generation of so many steps on a device."""
        ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, /) -> object:
        """Take a step, from a prediction and a sample at a timestep to the next one.

        Returns:
            A `SchedulerOutput`, whose `prev_sample` (N, B, C), or tokens (N, B), is the sample there.
        """
        ...


def default_sampler(prediction: Prediction) -> DPMSolverMultistepScheduler:
    """The solver of the paper's samples (Appendix B): DPM-Solver++ 2M, every option written out.

    For flow prediction the same solver runs over the straight path's noise levels; it rounds the
    timesteps that it tells the network down to integers.
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


# Builders of schedulers by noise process and name. Those of continuous data take `prediction`, those of
# masked tokens `mask_token` and `schedule`.
SCHEDULERS: dict[str, dict[str, Callable[..., Solver]]] = {
    "continuous": {"dpmsolver++": default_sampler, "unipc": unipc_sampler},
    "masked": {
        "ancestral": AncestralScheduler,
        "confidence": ConfidenceScheduler,
        "first-hitting": FirstHittingScheduler,
    },
}
