"""Checks that a scheduler fits a network: its class, its prediction, its noise levels and its vocabulary."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ..utils.errors import UserError, reason_of
from ..utils.untrusted import UNEXPECTED, WRONG
from .masked_schedulers import FirstHittingScheduler, MaskedScheduler
from .objective import TRAIN_STEPS
from .ordered_schedulers import OrderedScheduler
from .schedulers import LINEAR_BETAS

FLOW = "flow_prediction"
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", FLOW)
ENDS_AT = 0.02  # highest noise level of finished samples
PROBED_STEPS = 8  # PNDM needs at least four

# Schedulers of diffusers for flow networks that have no setting of that name.
FLOW_SCHEDULERS = (
    "FlowMapEulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "LTXEulerAncestralRFScheduler",
)
# Schedulers of diffusers for another task, and the task.
OTHER_TASKS = {
    "AmusedScheduler": "samples tokens of another kind of network",
    "BlockRefinementScheduler": "samples tokens of another kind of network",
    "ConsistencyDecoderScheduler": "is for the decoder of an autoencoder",
    "DDIMInverseScheduler": "turns images into noise",
    "DPMSolverMultistepInverseScheduler": "turns images into noise",
    "DiscreteDDIMScheduler": "samples tokens of another kind of network",
    "EntropyBoundScheduler": "samples tokens of another kind of network",
    "PiflowScheduler": "is for networks that predict a policy of several velocities",
    "RFD4ProteinaScheduler": "samples structures of proteins",
    "RePaintScheduler": "needs an image and a mask in every step",
    "UnCLIPScheduler": "is for the prior of unCLIP",
    "VQDiffusionScheduler": "samples tokens of another kind of network",
}
# Schedulers of diffusers whose noise process or step is not that of the networks of this package.
OTHER_PROCESSES = {
    "CMStochasticIterativeScheduler": "is for consistency models over its own noise levels",
    "CogVideoXDPMScheduler": "takes other arguments in each step: use DPMSolverMultistepScheduler",
    "CosineDPMSolverMultistepScheduler": "is for networks with EDM's scaling",
    "DDPMWuerstchenScheduler": "has the cosine noise levels of Wuerstchen",
    "DPMSolverSDEScheduler": (
        "draws noise that `generator` does not control: use DPMSolverMultistepScheduler with "
        "algorithm_type='sde-dpmsolver++'"
    ),
    "EDMDPMSolverMultistepScheduler": "is for networks with EDM's scaling",
    "EDMEulerScheduler": "is for networks with EDM's scaling",
    "HeliosDMDScheduler": "generates in stages of several resolutions",
    "HeliosScheduler": "generates in stages of several resolutions",
    "IPNDMScheduler": "has its own noise levels, with timesteps from 1 to 0: use PNDMScheduler",
    "KarrasVeScheduler": "takes other arguments in each step: use HeunDiscreteScheduler",
    "MiniMaxH3Scheduler": "has its own timesteps",
    "SCMScheduler": "is for networks of trigonometric flow",
    "ScoreSdeVeScheduler": "has no step(): use EulerAncestralDiscreteScheduler",
}
FLOW_SOLVERS = (
    "a scheduler for flow networks, such as FlowMatchEulerDiscreteScheduler(), or "
    "DPMSolverMultistepScheduler with prediction_type='flow_prediction' and use_flow_sigmas=True"
)
# Settings that define the noise levels of a diffusion scheduler, with the values of training.
LEVELS = LINEAR_BETAS | {"trained_betas": None, "rescale_betas_zero_snr": False, "snr_shift_scale": 1.0}


def check_solver(
    scheduler: Any, network: Mapping[str, Any], *, bounds: tuple[float, float] | None = None
) -> None:
    """Check that a scheduler samples what a network predicts.

    Args:
        scheduler: Scheduler of diffusers or of this package, or any other `Solver`, of which only those
            settings are checked that it has.
        network: Configuration of an `ACDiTTransformer`.
        bounds: Lowest and highest value of the data, within which a scheduler may clip; None = none, as for
            latents.

    Raises:
        UserError: If it does not; the message names the setting and the value that it must have.
    """
    fault = _class_fault(scheduler, network)
    if fault is None and network.get("vocab_size") is not None:
        fault = _masked_fault(scheduler, network)
    elif fault is None:
        prediction = network.get("prediction_type") or prediction_of(scheduler)
        fault = _prediction_fault(scheduler, prediction) or _process_fault(scheduler, prediction)
        fault = fault or _clip_fault(scheduler, bounds) or _levels_fault(scheduler, prediction)
    if fault is not None:
        raise UserError(f"{type(scheduler).__name__} does not fit the network: it {fault}")


def prediction_of(scheduler: Any) -> str | None:
    """Return what a network must predict for a scheduler, in diffusers' terms; None if it does not say."""
    if _named(scheduler, FLOW_SCHEDULERS):
        return FLOW
    return _config(scheduler).get("prediction_type")


def _config(scheduler: Any) -> Mapping[str, Any]:
    return getattr(scheduler, "config", {})


def _named(scheduler: Any, names: Any) -> str | None:
    """Return the name of a scheduler's class or base class that is among some names; None if none is."""
    return next((base.__name__ for base in type(scheduler).__mro__ if base.__name__ in names), None)


def _class_fault(scheduler: Any, network: Mapping[str, Any]) -> str | None:
    known = OTHER_TASKS | OTHER_PROCESSES
    name = _named(scheduler, known)
    if name is not None:
        return known[name]
    if not all(hasattr(scheduler, name) for name in ("set_timesteps", "step")):
        return "has no set_timesteps() and step(): use a scheduler of diffusers or of acdit"
    if isinstance(scheduler, MaskedScheduler) and network.get("vocab_size") is None:
        return (
            "samples masked tokens, and the network predicts continuous values: use a scheduler of diffusers"
        )
    return None


def _masked_fault(scheduler: Any, network: Mapping[str, Any]) -> str | None:
    """Return the fault of a scheduler for a network over token ids."""
    if not isinstance(scheduler, MaskedScheduler):
        return (
            "samples continuous values, and the network predicts masked tokens: use FirstHittingScheduler, "
            "AncestralScheduler or ConfidenceScheduler of acdit"
        )
    config, mask = scheduler.config, network["vocab_size"] - 1
    if config["mask_token"] != mask:
        return f"has mask_token={config['mask_token']}: set mask_token={mask}, the last id of the network"
    if network.get("time_conditioning"):
        if isinstance(scheduler, FirstHittingScheduler | OrderedScheduler):
            return "is for networks without time conditioning: use AncestralScheduler"
        schedule = network.get("schedule")
        if schedule is not None and config["schedule"] != schedule:
            return f"has schedule={config['schedule']!r}: set schedule={schedule!r}, that of the training"
    return None


def _prediction_fault(scheduler: Any, prediction: str | None) -> str | None:
    config = _config(scheduler)
    own = prediction_of(scheduler)
    if prediction is None or own is None:
        return None
    if own == FLOW and not (_named(scheduler, FLOW_SCHEDULERS) or "use_flow_sigmas" in config):
        return f"has no prediction_type='{FLOW}' and samples diffusion networks: use {FLOW_SOLVERS}"
    if own != prediction:
        if prediction == FLOW:
            advice = (
                f"set prediction_type='{FLOW}' and use_flow_sigmas=True"
                if "use_flow_sigmas" in config
                else f"use {FLOW_SOLVERS}"
            )
        elif "prediction_type" in config:
            advice = f"set prediction_type={prediction!r}"
        else:
            advice = (
                f"use a scheduler with prediction_type={prediction!r}, such as DPMSolverMultistepScheduler"
            )
        return f"expects prediction_type={own!r}, and the network predicts {prediction!r}: {advice}"
    if config.get("use_flow_sigmas", own == FLOW) != (own == FLOW):
        return (
            f"has use_flow_sigmas={config['use_flow_sigmas']} with prediction_type={own!r}: "
            f"set use_flow_sigmas={own == FLOW}"
        )
    return None


def _process_fault(scheduler: Any, prediction: str | None) -> str | None:
    """Return the fault of a scheduler whose timesteps or noise levels are not those of training."""
    config = _config(scheduler)
    if config.get("num_train_timesteps", TRAIN_STEPS) != TRAIN_STEPS:
        return (
            f"has num_train_timesteps={config['num_train_timesteps']}: set num_train_timesteps={TRAIN_STEPS}"
        )
    if config.get("variance_type") in ("learned", "learned_range"):
        return "expects predicted variances: set variance_type='fixed_small' (or None)"
    if prediction == FLOW:
        if _named(scheduler, ("DEISMultistepScheduler", "SASolverScheduler")):
            return (
                "ends flow sampling at the noise level of its last step, so that samples stay grey: "
                "use DPMSolverMultistepScheduler or UniPCMultistepScheduler with the same settings"
            )
        if config.get("invert_sigmas"):
            return "has invert_sigmas=True: set invert_sigmas=False"
        return None
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is not None:
        betas = torch.linspace(LINEAR_BETAS["beta_start"], LINEAR_BETAS["beta_end"], TRAIN_STEPS).double()
        trained = (1 - betas).cumprod(0)
        if len(alphas) != TRAIN_STEPS or not torch.allclose(
            alphas.detach().cpu().double(), trained, rtol=1e-3, atol=1e-7
        ):
            wrong = {name: value for name, value in LEVELS.items() if config.get(name, value) != value}
            wanted = ", ".join(f"{name}={value!r}" for name, value in (wrong or LINEAR_BETAS).items())
            return f"has other noise levels than the network was trained with: set {wanted}"
    if config.get("interpolation_type", "linear") != "linear":
        return "has timesteps that do not belong to its noise levels: set interpolation_type='linear'"
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":
        return "passes noise levels as timesteps: set timestep_type='discrete'"
    if config.get("use_beta_sigmas"):
        return "takes hardly any step at low noise levels: set use_beta_sigmas=False"
    if _named(scheduler, ("PNDMScheduler",)) and prediction != "epsilon":
        return f"averages predictions of several noise levels, which is wrong for {prediction!r}: use UniPC"
    return None


def _clip_fault(scheduler: Any, bounds: tuple[float, float] | None) -> str | None:
    """Return the fault of a scheduler that clips predictions to a range that the data exceed."""
    config = _config(scheduler)
    for setting, limit in (("clip_sample", "clip_sample_range"), ("thresholding", "sample_max_value")):
        if not config.get(setting):
            continue
        if bounds is None:
            return f"clips predictions, and the network generates latents: set {setting}=False"
        largest = max(map(abs, bounds))
        if config.get(limit, 1.0) < largest:
            return (
                f"clips predictions to {config.get(limit, 1.0)}, and the data reach {largest}: "
                f"set {limit}={largest} or {setting}=False"
            )
    return None


def _levels_fault(scheduler: Any, prediction: str | None) -> str | None:
    """Return the fault of a scheduler whose noise levels, tried out, are not those of a generation."""
    if not hasattr(scheduler, "sigmas") or prediction is None:
        return None
    config, solver = _config(scheduler), copy.deepcopy(scheduler)
    with taking_steps(solver, PROBED_STEPS):
        set_probed_timesteps(solver)
        levels = torch.as_tensor(solver.sigmas).double().cpu()
    chosen = [name for name in config if name.startswith("use_") and name.endswith(("sigmas", "lambdas"))]
    chosen = [name for name in chosen if config[name] and name != "use_flow_sigmas"]
    if not levels.isfinite().all() or (prediction == FLOW and float(levels.max()) > 1 + 1e-6):
        advice = ", ".join(f"{name}=False" for name in chosen) or "its sigmas between 0 and 1"
        return f"has noise levels outside those of the network: set {advice}"
    final = float(levels[-1]) if len(levels) > len(solver.timesteps) else 0.0
    if final > ENDS_AT:
        setting = "final_sigmas_type='zero'" if "final_sigmas_type" in config else "another scheduler"
        return f"ends at the noise level {final:.2g}, so that samples stay noisy or grey: set {setting}"
    return None


def set_probed_timesteps(solver: Any) -> None:
    """Set as many timesteps as every scheduler can take, with a shift for those that need one."""
    shift = {"mu": 1.0} if _config(solver).get("use_dynamic_shifting") else {}
    solver.set_timesteps(PROBED_STEPS, **shift)


@contextmanager
def taking_steps(solver: Any, steps: object) -> Iterator[None]:
    """Turn errors that a scheduler raises for its settings, or for a number of steps, into UserError."""
    try:
        yield
    except UserError:
        raise
    except (*WRONG, *UNEXPECTED) as error:
        reason = reason_of(error)
        raise UserError(f"{type(solver).__name__} cannot take these steps ({steps}): {reason}") from error


def check_first_level(solver: Any, level: float, steps: int) -> None:
    """Check that a generation starts at a level at which pure noise may stand in for noised data.

    With one step, some spacings of timesteps start at the last one.

    Raises:
        UserError: If it does not.
    """
    flow = prediction_of(solver) == FLOW
    if level < (0.5 if flow else 2.0) and not math.isclose(level, 1.0):
        spacing = _config(solver).get("timestep_spacing")
        advice = "set timestep_spacing='trailing', or take more steps" if spacing else "take more steps"
        raise UserError(
            f"{type(solver).__name__} starts at the noise level {level:.2g}, not with noise, when it takes "
            f"{steps} steps: {advice}"
        )
