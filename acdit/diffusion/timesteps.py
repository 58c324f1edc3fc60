"""Timesteps and noise levels of a generation: how a scheduler is started for a block."""

import copy
import inspect
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ..utils.errors import UserError
from .masked_schedulers import MaskedScheduler
from .schedulers import Solver
from .solver_checks import check_first_level, taking_steps

MIDDLE = (0.2, 0.8)  # bounds of the middle noise levels, as fractions of their number


@dataclass(frozen=True)
class Spacing:
    """Choice of the timesteps of a block, beyond their number; all None = the scheduler's own.

    Attributes:
        timesteps: Timesteps of every block, the noisiest first.
        sigmas: Noise levels of every block, the highest first.
        mu: Shift of the noise levels, for schedulers with `use_dynamic_shifting`.
    """

    timesteps: Sequence[float] | None = None
    sigmas: Sequence[float] | None = None
    mu: float | None = None

    def __post_init__(self) -> None:
        if self.timesteps is not None and self.sigmas is not None:
            raise UserError("pass timesteps or sigmas, not both")
        for name, values in (("timesteps", self.timesteps), ("sigmas", self.sigmas)):
            if values is not None and not isinstance(values, Iterable):
                raise UserError(f"{name} must be a list of numbers, not {values!r}")
            if values is not None and len(values) == 0:
                raise UserError(f"{name} must hold at least one value")
            if values is not None and not all(one >= other for one, other in pairwise(values)):
                raise UserError(f"{name} must fall from the first to the last, not be {list(values)}")

    @property
    def length(self) -> int | None:
        """Return the number of given timesteps or noise levels; None if there are none."""
        given = self.sigmas if self.timesteps is None else self.timesteps
        return None if given is None else len(given)

    def step_counts(self, steps: int | Sequence[int] | None, default: int) -> int | Sequence[int]:
        """Return the numbers of steps of a call, which given timesteps or noise levels determine.

        Args:
            steps: Number of steps of every block, or of each; None = not given.
            default: Number of steps if none is given, and no timesteps or noise levels are.

        Raises:
            UserError: If `steps` differs from the number of given timesteps or noise levels.
        """
        if self.length is None:
            return default if steps is None else steps
        counts = [] if steps is None else list(steps) if isinstance(steps, Sequence) else [steps]
        if any(count != self.length for count in counts):
            raise UserError(
                f"num_inference_steps must be left out, or {self.length}, the number of given timesteps or "
                f"sigmas, which hold for every block; not {steps}"
            )
        return steps or self.length

    def arguments(self, steps: int) -> dict[str, Any]:
        """Return the arguments of `set_timesteps` for a number of steps."""
        given: dict[str, Any] = {} if self.mu is None else {"mu": self.mu}
        for name, values in (("timesteps", self.timesteps), ("sigmas", self.sigmas)):
            if values is not None:
                numbers = [float(value) for value in values]
                return given | {name: np.array(numbers) if name == "sigmas" else numbers}  # some scale sigmas
        return given | {"num_inference_steps": steps}


def started(
    scheduler: Solver, steps: int, spacing: Spacing | None = None, device: torch.device | None = None
) -> Any:
    """Return a copy of a scheduler that is ready for the first step of a block.

    The copy may have attributes that are not in the protocol `Solver`.

    Raises:
        UserError: If the scheduler takes no such timesteps, or needs others.
    """
    solver: Any = copy.deepcopy(scheduler)
    arguments = (spacing or Spacing()).arguments(steps)
    taken = inspect.signature(solver.set_timesteps).parameters
    name = type(solver).__name__
    refused = [each for each in arguments if each not in taken and each != "num_inference_steps"]
    if refused:
        raise UserError(f"{name} takes no {refused[0]}: leave it out, or use another scheduler")
    if "mu" in arguments and not solver.config.get("use_dynamic_shifting"):
        raise UserError(f"{name} takes no mu without use_dynamic_shifting: leave it out")
    with taking_steps(solver, steps):
        count = arguments.pop("num_inference_steps", None)
        if count is None:
            solver.set_timesteps(device=device, **arguments)
        else:
            solver.set_timesteps(count, device=device, **arguments)
    if hasattr(
        solver, "set_begin_index"
    ):  # by searching, a solver may find the second of two equal timesteps
        solver.set_begin_index(0)
    if not isinstance(solver, MaskedScheduler) and not (spacing and spacing.length):
        check_first_level(solver, noise_levels(solver)[0], steps)
    return solver


def number_of_timesteps(
    scheduler: Solver, steps: int | Sequence[int], blocks: range, spacing: Spacing | None = None
) -> int:
    """Return the number of calls of the network for some blocks.

    Solvers of second order call it nearly twice in each step.

    Args:
        scheduler: Scheduler.
        steps: Number of steps of every block of the layout, one number for all or one for each.
        blocks: Indices of the blocks.
        spacing: See `started`.
    """
    numbers = {steps: len(blocks)} if isinstance(steps, int) else Counter(steps[index] for index in blocks)
    return sum(
        number * len(started(scheduler, count, spacing).timesteps) for count, number in numbers.items()
    )


def noise_levels(scheduler: Solver) -> list[float]:
    """Return the sigma of every timestep: the scheduler's, or sqrt((1 - alpha) / alpha) if it has none."""
    solver: Any = scheduler
    if hasattr(solver, "sigmas_interpol"):  # every other step is at a level between two of `sigmas`
        levels = ((1 - solver.alphas_cumprod) / solver.alphas_cumprod).sqrt().log().cpu().numpy()
        return np.exp(np.interp(solver.timesteps.cpu(), np.arange(len(levels)), levels)).tolist()
    if hasattr(solver, "sigmas"):
        return [float(sigma) for sigma in solver.sigmas[: len(solver.timesteps)]]
    alphas = solver.alphas_cumprod[solver.timesteps.cpu().long()]
    return ((1 - alphas) / alphas).sqrt().tolist()


def middle_levels(scheduler: Solver, steps: int) -> tuple[float, float]:
    """Return the lowest and the highest middle noise level for this number of steps; see `MIDDLE`."""
    levels = sorted(noise_levels(started(scheduler, steps)))
    first, last = (int(fraction * (len(levels) - 1)) for fraction in MIDDLE)
    return levels[first], levels[last]
