"""The processes that a launcher started for one job, and what they tell one another."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among its fellows; without any, everything that is shared stays as it is."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among the processes of this machine."""

    @property
    def main(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.world_size == 1

    @property
    def device(self) -> torch.device:
        """This process' own GPU, or the CPU."""
        return torch.device(f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu")

    @contextmanager
    def joined(self, timeout: timedelta | None = None) -> Iterator[None]:
        """The group of all ranks, while the context lasts; any wait ends after `timeout`, or 30 minutes."""
        if self.alone:
            yield
            return
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        # both: tensors on the GPU go by nccl, and objects and flags by gloo
        backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=timeout or timedelta(minutes=30))
        yield
        # What still holds the group, such as DDP's reducer, must go before it, or gloo's threads may hang.
        gc.collect()
        # Not after an error: a rank that fails must end at once, not wait for the others.
        distributed.destroy_process_group()

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if not self.alone:
            distributed.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """The greatest over all ranks, element by element, in place."""
        if not self.alone:
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values

    def gathered(self, value: T) -> list[T]:
        """A small value of every rank, in their order."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def told(self, value: T) -> T:
        """A small value of the first rank, on all."""
        return self.gathered(value)[0]

    def wait(self) -> None:
        """Until all ranks are here."""
        if not self.alone:
            distributed.barrier()


ALONE = Ranks()


def launched() -> Ranks:
    """What torchrun, or another launcher that sets its variables, says of this process."""
    rank, world_size, local = (
        int(os.environ.get(*found)) for found in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    return Ranks(rank, world_size, local)
