"""How far a run has come, and what one step of it did."""

from collections.abc import Mapping
from dataclasses import dataclass

MOST_SKIPPED = 10  # steps in a row without a finite gradient
LISTED = 20  # samples that a message names


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: steps that were done, the skipped ones included.
        skipped: steps that changed nothing, for their loss or gradient was not finite.
        skipped_in_a_row: of these the last ones, without another between.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    @classmethod
    def stored(cls, values: Mapping[str, int]) -> "Progress":
        """As a checkpoint holds it; of a run that was stuck, skipped steps in a row count anew."""
        progress = cls(**values)
        if progress.stuck:  # the user has looked
            progress.skipped_in_a_row = 0
        return progress

    def count(self, finite: bool) -> None:
        """Count a step, which changed nothing if its loss or gradient was not finite."""
        self.step += 1
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1

    @property
    def updates(self) -> int:
        """Steps of the optimiser."""
        return self.step - self.skipped

    @property
    def stuck(self) -> bool:
        """Whether so many steps in a row were skipped that the run must not go on."""
        return self.skipped_in_a_row == MOST_SKIPPED


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        step: its number, from 1.
        loss: mean over the batch, of all ranks.
        learning_rate, gradient_norm: of the update; the norm is that before clipping.
        flops: of the model, forward and backward, in sum over the batch.
        skipped: steps so far that changed nothing.
        unreadable: images that turned out damaged so far.
        bad_samples: in the data set; of a step that was skipped.
        halt: why the run cannot go on.
        stop: whether any rank was asked to stop.
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
    stop: bool = False


def listed(samples: tuple[int, ...]) -> str:
    """Some samples by number."""
    return ", ".join(map(str, samples[:LISTED])) + (" .." if len(samples) > LISTED else "")
