"""The noise process of images and video, and its sampler, as diffusers schedulers."""

from typing import Literal

from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

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
