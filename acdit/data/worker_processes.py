"""Processes that load data beside training."""

import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from ..utils.errors import UserError


def load_batches(
    data: Dataset[Any],
    batches: Iterable[list[Any]],
    workers: int,
    *,
    collate: Callable[[list[Any]], Any] = default_collate,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield batches of items of a data set, from processes that read ahead.

    Args:
        data: data set.
        batches: keys of the items of each batch.
        workers: number of processes; 0 = this one reads.
        collate: function that makes a batch of a list of items.
        pin_memory: whether the batches are in pinned memory.

    Raises:
        UserError: as the data set raises it. PyTorch would add the traceback of the process.
    """
    loader: DataLoader[Any] = DataLoader(
        _Guarded(data),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(_collated, collate),
        pin_memory=pin_memory,
        worker_init_fn=leave_signals,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _Guarded(Dataset[Any]):
    """Items of a data set; in place of an item, the UserError that it raised."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.data[key]
        except UserError as error:
            return error


def _collated(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """Return a batch of items, or the first error among them."""
    return next((item for item in items if isinstance(item, UserError)), None) or collate(items)


def leave_signals(worker: int) -> None:
    """Let a worker of a data loader ignore requests to stop, which the main process answers.

    Schedulers of jobs and terminals send SIGTERM and SIGINT to all processes of a job. A worker that ended by
    itself would make the main process fail before it can save its state.

    Args:
        worker: number of the worker, as PyTorch passes it.
    """
    del worker
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
