"""Progress of a run, and the result of one step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import UserError

MOST_SKIPPED = 10  # skipped steps in a row at which a run halts
LISTED = 20  # maximum number of samples in a message


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: Number of completed steps, including skipped ones.
        skipped: Number of steps that changed nothing because their loss or gradient was not finite.
        skipped_in_a_row: Number of skipped steps since the last step that was not skipped.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    @classmethod
    def stored(cls, values: Mapping[str, int]) -> "Progress":
        """Restore the progress that a checkpoint contains.

        If the run was stuck, the count of skipped steps in a row restarts at zero.
        """
        progress = cls(**values)
        if progress.stuck:  # the user has seen the halt and resumed the run
            progress.skipped_in_a_row = 0
        return progress

    def count(self, finite: bool) -> None:
        """Count a step, as skipped if its loss or gradient was not finite."""
        self.step += 1
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1

    @property
    def updates(self) -> int:
        """Return the number of optimiser steps."""
        return self.step - self.skipped

    @property
    def stuck(self) -> bool:
        """Return whether so many steps in a row were skipped that the run must halt."""
        return self.skipped_in_a_row == MOST_SKIPPED


@dataclass(frozen=True)
class StepResult:
    """Result of a step.

    Attributes:
        step: Number of the step, from 1.
        loss: Mean loss over the batch of all ranks.
        learning_rate: Learning rate of the update.
        gradient_norm: Norm of the gradient before clipping.
        flops: FLOPs of the model, forward and backward, summed over the batch.
        skipped: Number of steps so far that changed nothing.
        unreadable: Number of images found damaged so far.
        bad_samples: Indices in the data set of the samples of a skipped step.
        halt: Reason why the run cannot continue, or None.
        diverged: Whether the reason is that loss or gradient have not been finite for many steps.
        stop: Whether any rank was requested to stop.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    flops: float
    skipped: int = 0
    unreadable: int = 0
    bad_samples: tuple[int, ...] = ()
    halt: str | None = None
    diverged: bool = False
    stop: bool = False


class DivergedError(UserError):
    """A training run cannot continue because its loss, gradient or weights are not finite.

    Attributes:
        step: Number of the step at which it ended.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


def not_finite_after(step: int, names: Sequence[str], checkpoints: Path, rate: str) -> str:
    """Return the reason why a run whose state is not finite ends without a checkpoint of that state.

    Args:
        step: Number of completed steps.
        names: Names of the tensors that are not finite.
        checkpoints: Folder of the checkpoints.
        rate: Name of the key of the learning rate.
    """
    return (
        f"after step {step} {len(names)} tensors of the training state are not finite (NaN or infinity), "
        f"such as {names[0]}; that state was not saved and nothing was exported, and the checkpoints in "
        f"{checkpoints} are unchanged: lower {rate} and run again"
    )


def stuck_after(step: int, rate: str, samples: str = "") -> str:
    """Return the reason why a run halts after `MOST_SKIPPED` skipped steps in a row; see `Progress.stuck`."""
    where = f", with the samples {samples}" if samples else ""
    return (
        f"loss or gradient was not finite in {MOST_SKIPPED} steps in a row, the last of them step {step}"
        f"{where}; the state was saved: look at {'these samples' if samples else 'the data'}, "
        f"or lower {rate}, and run the same command again"
    )


def too_many_damaged(count: int, most: int, samples: str, reasons: Mapping[str, str]) -> str:
    """Return the reason why a run halts that found `count` damaged samples, more than `most`.

    Args:
        count: Number of damaged samples.
        most: Maximum number of them, `data.max_unreadable`.
        samples: Word for samples of this modality.
        reasons: Why each cannot be read, by name.
    """
    return (
        f"{count} {samples} cannot be read, more than data.max_unreadable {most}; the state was saved: "
        f"{reasons_of(reasons)}"
    )


def skipped_items(reasons: Mapping[str, str]) -> str:
    """Format which items are skipped and why, at most `LISTED` of them; `reasons` are those by name."""
    return f"skipped {len(reasons):,} {'item' if len(reasons) == 1 else 'items'}: {reasons_of(reasons)}"


def reasons_of(reasons: Mapping[str, str]) -> str:
    """Format why items cannot be read or are left out, by name, at most `LISTED` of them."""
    more = "; .." if len(reasons) > LISTED else ""
    return "; ".join(map(": ".join, list(reasons.items())[:LISTED])) + more


def listed(samples: tuple[int, ...]) -> str:
    """Format the numbers of samples, at most `LISTED` of them."""
    return ", ".join(map(str, samples[:LISTED])) + (" .." if len(samples) > LISTED else "")
