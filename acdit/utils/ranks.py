"""Processes that a launcher started for one job, and the communication between them."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from .errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Rank and world size of this process; collectives do nothing for a single process."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Rank of this process on its machine."""

    @property
    def main(self) -> bool:
        """Return whether this is the first rank, which writes and prints for all ranks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Return whether this is the only process."""
        return self.world_size == 1

    @property
    def device(self) -> torch.device:
        """Return this process's own GPU, or the CPU."""
        return torch.device(f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu")

    @contextmanager
    def joined(self, timeout: timedelta | None = None) -> Iterator[None]:
        """Join the process group of all ranks inside the context.

        A rank that waits for another one longer than `timeout` (default: 30 minutes) fails.
        """
        if self.alone:
            yield
            return
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        # two backends: nccl for tensors on the GPU, gloo for objects and flags
        backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=timeout or timedelta(minutes=30))
        yield
        _free_reducers()
        # Not reached after an error: a rank that fails must end at once, not wait for the others.
        distributed.destroy_process_group()

    def total(self, values: Tensor) -> Tensor:
        """Sum values over all ranks, in place."""
        if not self.alone:
            distributed.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Take the maximum of values over all ranks, element by element, in place."""
        if not self.alone:
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values

    def copied(self, values: Tensor, source: int) -> Tensor:
        """Copy the values of a rank to all ranks, in place."""
        if not self.alone:
            distributed.broadcast(values, source)
        return values

    def gathered(self, value: T) -> list[T]:
        """Return a small value from every rank, in the order of the ranks."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def from_main(self, value: T) -> T:
        """Return a small value from the first rank, on all ranks."""
        return self.gathered(value)[0]

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Raise the UserError of one rank on all ranks when they leave the context.

        Otherwise the others would wait for the failed rank. Inside, ranks must not wait for each other.
        """
        own: UserError | None = None
        try:
            yield
        except UserError as error:
            own = error
        for message in self.gathered(None if own is None else str(own)):
            if own is not None and message == str(own):
                raise own
            if message is not None:
                raise UserError(message)

    def wait(self) -> None:
        """Wait until all ranks have called this method."""
        if not self.alone:
            distributed.barrier()


def _free_reducers() -> None:
    """Free the process group that DDP's wrappers hold: they are of no use without it, whoever refers to them.

    A reducer that is freed after the group waits for the group's threads and holds the GIL meanwhile. gloo's
    threads need the GIL to free a tensor that was sent. Now and then, both would wait for ever.
    """
    gc.collect()
    for item in gc.get_objects():
        if type(item) is DistributedDataParallel:
            for name in ("reducer", "logger", "process_group"):
                vars(item).pop(name, None)  # those of an earlier group are gone already


ALONE = Ranks()


def launched() -> Ranks:
    """Read the ranks of this process from the environment variables of torchrun or a similar launcher."""
    rank, world_size, local = (
        int(os.environ.get(*variable))
        for variable in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    return Ranks(rank, world_size, local)


def local_world_size() -> int:
    """Return the number of processes that a launcher has started on this machine; 1 without a launcher."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or launched().world_size)


def leave_launcher() -> Ranks:
    """Return the ranks of this process, and make it a process of its own, for which `launched` is `ALONE`."""
    ranks = launched()
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(variable, None)
    return ranks
