"""Schedulers that fit a network and those that do not, against samples of a Gaussian in closed form."""

import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from acdit.diffusion.masked_schedulers import AncestralScheduler, FirstHittingScheduler
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
from acdit.diffusion.schedulers import default_sampler, unipc_sampler
from acdit.diffusion.solver_checks import FLOW, check_solver
from acdit.diffusion.timesteps import Spacing, noise_levels, number_of_timesteps, started
from acdit.utils.errors import UserError

MEAN, DEVIATION = 0.7, 0.25  # of the data, which are independent Gaussian values
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
FLOWING = {"prediction_type": FLOW, "use_flow_sigmas": True}
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHAS = (1 - BETAS).cumprod(0).numpy()


def exact(prediction: str, x: torch.Tensor, timestep: Any) -> torch.Tensor:
    """What a perfect network predicts for a noised Gaussian."""
    time = float(timestep)
    if prediction == FLOW:
        a, b = 1 - time / 1000, time / 1000
    else:
        level = np.exp(np.interp(time, np.arange(1000), np.log(np.sqrt(1 / ALPHAS - 1))))
        a = 1 / np.sqrt(1 + level**2)
        b = level * a
    x = x.double()
    variance = (a * DEVIATION) ** 2 + b**2
    data, noise = MEAN + a * DEVIATION**2 / variance * (x - a * MEAN), b / variance * (x - a * MEAN)
    targets = {FLOW: noise - data, "epsilon": noise, "sample": data, "v_prediction": a * noise - b * data}
    return targets[prediction].float()


def sampled(scheduler: Any, prediction: str, steps: int = 25) -> torch.Tensor:
    solver = started(scheduler, steps)
    source = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 1, 1, generator=source) * getattr(solver, "init_noise_sigma", 1)
    takes = "generator" in inspect.signature(solver.step).parameters
    for timestep in solver.timesteps:
        scaled = solver.scale_model_input(x, timestep) if hasattr(solver, "scale_model_input") else x
        given = {"generator": source} if takes else {}
        x = solver.step(exact(prediction, scaled, timestep), timestep, x, **given).prev_sample
    return x


FITTING = [
    ("DDIMScheduler", {}, ["epsilon", "v_prediction", "sample"]),
    ("DDPMScheduler", {}, ["epsilon", "v_prediction", "sample"]),
    ("DEISMultistepScheduler", {}, ["epsilon", "v_prediction"]),
    ("DPMSolverMultistepScheduler", {}, ["epsilon", "v_prediction", "sample"]),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, [FLOW]),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, ["epsilon"]),
    ("DPMSolverSinglestepScheduler", {"use_flow_sigmas": True}, [FLOW]),
    ("EulerDiscreteScheduler", {}, ["epsilon", "v_prediction", "sample"]),
    ("EulerAncestralDiscreteScheduler", {}, ["epsilon", "v_prediction"]),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 2.0}, [FLOW]),
    ("FlowMatchHeunDiscreteScheduler", {}, [FLOW]),
    ("HeunDiscreteScheduler", {}, ["epsilon", "v_prediction", "sample"]),
    ("KDPM2DiscreteScheduler", {}, ["epsilon", "v_prediction"]),
    ("LMSDiscreteScheduler", {}, ["epsilon"]),
    ("PNDMScheduler", {}, ["epsilon"]),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True}, [FLOW]),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "use_karras_sigmas": True}, [FLOW]),
]
CASES = [
    (name, settings, prediction) for name, settings, predictions in FITTING for prediction in predictions
]


def build(name: str, settings: dict[str, Any], prediction: str) -> Any:
    cls = getattr(diffusers, name)
    parameters = inspect.signature(cls.__init__).parameters
    wanted = {"prediction_type": prediction, "clip_sample": False, **LINEAR}
    return cls(**{key: value for key, value in wanted.items() if key in parameters} | settings)


@pytest.mark.parametrize(("name", "settings", "prediction"), CASES, ids=str)
def test_what_fits_samples_the_data(name, settings, prediction):
    scheduler = build(name, settings, prediction)
    check_solver(scheduler, {"prediction_type": prediction})
    made = sampled(scheduler, prediction)
    assert abs(float(made.mean()) - MEAN) < 0.02 and 0.6 < float(made.std()) / DEVIATION < 1.4


@pytest.mark.parametrize(
    ("name", "settings", "prediction", "setting"),
    [
        ("DDIMScheduler", {}, FLOW, "prediction_type='flow_prediction'"),
        ("EulerDiscreteScheduler", {}, FLOW, "FlowMatchEulerDiscreteScheduler"),
        ("DPMSolverMultistepScheduler", {}, FLOW, "use_flow_sigmas=True"),
        ("DPMSolverMultistepScheduler", {"prediction_type": FLOW}, FLOW, "set use_flow_sigmas=True"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "epsilon", "set use_flow_sigmas=False"),
        (
            "DPMSolverMultistepScheduler",
            FLOWING | {"use_karras_sigmas": True},
            FLOW,
            "use_karras_sigmas=False",
        ),
        (
            "UniPCMultistepScheduler",
            FLOWING | {"use_exponential_sigmas": True},
            FLOW,
            "use_exponential_sigmas",
        ),
        ("DEISMultistepScheduler", FLOWING, FLOW, "UniPCMultistepScheduler"),
        ("SASolverScheduler", FLOWING, FLOW, "UniPCMultistepScheduler"),
        ("DDIMScheduler", {}, "v_prediction", "set prediction_type='v_prediction'"),
        ("DDIMScheduler", {"prediction_type": FLOW}, FLOW, "no prediction_type='flow_prediction'"),
        ("FlowMatchEulerDiscreteScheduler", {}, "epsilon", "prediction_type='epsilon'"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, FLOW, "invert_sigmas=False"),
        ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 500}, FLOW, "num_train_timesteps=1000"),
        ("HeunDiscreteScheduler", {}, "epsilon", "set beta_start=0.0001, beta_end=0.02"),
        ("DDIMScheduler", {"beta_schedule": "scaled_linear"}, "epsilon", "beta_schedule='linear'"),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True}, "epsilon", "rescale_betas_zero_snr=False"),
        ("DDIMScheduler", {"trained_betas": [0.01] * 1000}, "epsilon", "trained_betas=None"),
        ("CogVideoXDDIMScheduler", LINEAR, "epsilon", "snr_shift_scale=1.0"),
        ("DDPMScheduler", {"variance_type": "learned_range"}, "epsilon", "variance_type='fixed_small'"),
        ("DPMSolverMultistepScheduler", {"variance_type": "learned"}, "epsilon", "variance_type"),
        ("DDIMScheduler", {}, "epsilon", "clip_sample=False"),
        ("DPMSolverMultistepScheduler", {"thresholding": True}, "epsilon", "thresholding=False"),
        ("PNDMScheduler", {"prediction_type": "v_prediction"}, "v_prediction", "UniPC"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "epsilon", "'linear'"),
        ("HeunDiscreteScheduler", LINEAR | {"use_beta_sigmas": True}, "epsilon", "use_beta_sigmas=False"),
        ("IPNDMScheduler", {}, "epsilon", "PNDMScheduler"),
        ("EDMEulerScheduler", {}, "epsilon", "EDM"),
        ("DDIMInverseScheduler", {}, "epsilon", "noise"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_the_setting(name, settings, prediction, setting):
    with pytest.raises(UserError) as caught:
        check_solver(getattr(diffusers, name)(**settings), {"prediction_type": prediction})
    message = str(caught.value)
    assert name in message and setting in message and "\n" not in message


def test_clipping_is_for_pixels_within_its_range():
    network, scheduler = {"prediction_type": "epsilon"}, DDIMScheduler()
    check_solver(scheduler, network, bounds=(-1.0, 1.0))
    with pytest.raises(UserError, match=r"clip_sample_range=2\.0"):
        check_solver(scheduler, network, bounds=(0.0, 2.0))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_the_schedulers_of_the_package_fit(prediction):
    target = {"epsilon": "epsilon", "v": "v_prediction", "flow": FLOW}[prediction]
    for sampler in (default_sampler, unipc_sampler):
        check_solver(sampler(prediction), {"prediction_type": target})


def test_masked_schedulers():
    text: dict[str, Any] = {"vocab_size": 9, "time_conditioning": False, "schedule": None}
    check_solver(FirstHittingScheduler(mask_token=8), text)
    timed = text | {"time_conditioning": True, "schedule": "cosine"}
    check_solver(AncestralScheduler(mask_token=8, schedule="cosine"), timed)
    check_solver(AncestralScheduler(mask_token=8, schedule="cosine"), text | {"schedule": "log_linear"})
    for scheduler, network, words in [
        (AncestralScheduler(mask_token=7), text, "mask_token=8"),
        (AncestralScheduler(mask_token=8), timed, "schedule='cosine'"),
        (FirstHittingScheduler(mask_token=8, schedule="cosine"), timed, "AncestralScheduler"),
        (FixedOrderScheduler(mask_token=8, schedule="cosine"), timed, "AncestralScheduler"),
        (LowestEntropyScheduler(mask_token=8, schedule="cosine"), timed, "AncestralScheduler"),
        (DDIMScheduler(), text, "FirstHittingScheduler"),
        (FirstHittingScheduler(mask_token=8), {"vocab_size": None}, "diffusers"),
        (object(), text, "set_timesteps"),
    ]:
        with pytest.raises(UserError, match=words):
            check_solver(scheduler, network)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_generation_that_does_not_start_with_noise_is_refused(name):
    scheduler = build(name, {"timestep_spacing": "leading"}, "epsilon")
    with pytest.raises(UserError, match="timestep_spacing='trailing'"):
        started(scheduler, 1)
    assert len(started(scheduler, 2).timesteps) == 2
    started(build(name, {"timestep_spacing": "trailing"}, "epsilon"), 1)


def test_steps_that_a_scheduler_cannot_take_are_refused():
    with pytest.raises(UserError, match="PNDMScheduler cannot take these steps"):
        started(build("PNDMScheduler", {}, "epsilon"), 2)
    with pytest.raises(UserError, match="mu"):
        started(build("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, FLOW), 4)
    with pytest.raises(UserError, match="DDIMScheduler takes no sigmas"):
        started(build("DDIMScheduler", {}, "epsilon"), 4, Spacing(sigmas=[1.0, 0.5]))
    with pytest.raises(UserError, match="not both"):
        Spacing(sigmas=[1.0], timesteps=[999])


def test_noise_levels_are_those_of_the_networks_calls():
    """For every scheduler the level of a call is that of the timestep that the network gets."""
    for name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"):
        scheduler = build(name, {}, "epsilon")
        solver = started(scheduler, 10)
        levels = noise_levels(solver)
        expected = np.interp(solver.timesteps.double(), np.arange(1000), np.log(np.sqrt(1 / ALPHAS - 1)))
        assert len(levels) == len(solver.timesteps) == 19
        assert np.allclose(np.log(levels[:-1]), expected[:-1], atol=0.05)
        assert number_of_timesteps(scheduler, [10, 10, 4], range(3)) == 19 + 19 + 7
        assert number_of_timesteps(scheduler, [10, 10, 4], range(1, 3)) == 19 + 7
        assert number_of_timesteps(scheduler, 10, range(2, 5)) == 3 * 19
