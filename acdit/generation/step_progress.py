"""Progress bar over batches of samples that advances with every step of the solver."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor

from ..pipelines.callbacks import LoopState
from ..utils.progress_bar import ProgressBar

FORMAT = "{l_bar}{bar}| {n:.1f}/{total} batches [{elapsed}<{remaining}, {rate_fmt}]"
T = TypeVar("T")


class StepProgress:
    """Callback of a pipeline call (`callback_on_step_end`) that advances a bar by the steps of one batch.

    It changes nothing in the call.

    Args:
        bar: bar that counts batches, of which the previous ones are finished.
    """

    tensor_inputs: Sequence[str] = ()  # read by the pipeline: no tensors are prepared for the callback

    def __init__(self, bar: ProgressBar):
        self._bar, self._finished = bar, bar.n + 1

    def __call__(self, pipeline: LoopState, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> None:
        """Advance the bar by one of the steps of the call."""
        del step, timestep, tensors
        self._bar.update(min(1 / pipeline.num_timesteps, self._finished - self._bar.n))

    def finish(self) -> None:
        """Advance the bar to the end of the batch; texts may end before all of their steps are taken."""
        self._bar.update(self._finished - self._bar.n)


def with_progress(
    batches: Iterable[T],
    total: int,
    description: str = "sampling",
    *,
    done: int = 0,
    disable: bool = False,
) -> Iterator[tuple[T, StepProgress]]:
    """Yield batches, each with the callback by which its pipeline call advances a progress bar.

    Args:
        batches: batches that are left to generate.
        total: number of all batches.
        description: label of the bar.
        done: number of batches that are finished already.
        disable: whether to show no bar.
    """
    with ProgressBar(
        desc=description,
        total=total,
        initial=done,
        unit="batch",
        bar_format=FORMAT,
        miniters=0,  # the time alone decides when the bar is drawn
        delay=3,
        leave=False,
        disable=disable,
    ) as bar:
        for batch in batches:
            progress = StepProgress(bar)
            yield batch, progress
            progress.finish()
