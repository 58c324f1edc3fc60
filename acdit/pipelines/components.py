"""Check the components of a pipeline that were loaded from files: weights and scheduler."""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.autoencoders import check_decoding
from ..diffusion.masked_schedulers import MaskedScheduler
from ..diffusion.solver_checks import set_probed_timesteps
from ..model.stored import check_weights
from ..utils.untrusted import damage, reading

SIZE = (1, 4, 3)  # of the samples of the trial of a scheduler: (N, B, C)


def check_components(folder: Path, components: Mapping[str, Any], given: Container[str] = ()) -> None:
    """Check the components of a pipeline that were loaded from a folder.

    Args:
        folder: folder of the pipeline.
        components: components by name.
        given: names of components that were not loaded from the folder.

    Raises:
        UserError: if weights are missing or not finite, or if the scheduler does not work.
    """
    for name, component in components.items():
        if name in given or component is None:
            continue
        if isinstance(component, nn.Module):
            check_weights(folder / name, component)
            if name == "vae":
                check_decoding(folder / name, component)
        elif name == "scheduler":
            network = components["transformer"]  # only generators have a scheduler
            masked = network.config.get("vocab_size") is not None
            check_scheduler(folder / name, component, masked=masked)


def check_scheduler(folder: Path, scheduler: Any, *, masked: bool) -> None:
    """Check that a scheduler that was read from a folder can take steps.

    Args:
        folder: folder of the scheduler.
        scheduler: scheduler of diffusers, or of masked tokens.
        masked: whether the network is one of masked tokens.

    Raises:
        UserError: if it is of the other kind, or fails, or if its samples are not finite.
    """
    name = type(scheduler).__name__
    if isinstance(scheduler, MaskedScheduler) != masked:
        raise damage(folder, f"a {name} does not fit the network")
    if masked:
        return
    with reading(folder), torch.random.fork_rng(devices=[]):
        trial = type(scheduler).from_config(scheduler.config)
        set_probed_timesteps(trial)
        sample = torch.ones(SIZE)
        for timestep in trial.timesteps:
            sample = trial.step(torch.ones(SIZE), timestep, sample).prev_sample
        if sample.shape != SIZE or not bool(sample.isfinite().all()):
            raise damage(folder, f"its {name} does not give finite samples")
