"""Choose the samples and the layout of each step, as functions of seed and step alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from ..utils.randomness import generator
from ..utils.tracing import tensor_cache

SampleIndex = tuple[int, int]  # epoch, index in the data set


class StepBatches(Sampler[list[SampleIndex]]):
    """Micro-batches of one rank, from a given step on.

    The samples come from shuffled passes over the data, joined without a gap. The samples of a step do not
    depend on the number of ranks or of accumulation steps, which only divide them.

    Args:
        size: Number of samples in the data set.
        batch_size: Number of samples per step, over all ranks and micro-batches.
        steps: Range from the first step to the one after the last.
        seed: Seed of the order.
        accumulation: Number of micro-batches per step.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        steps: range,
        *,
        seed: int,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.size = size
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.accumulation = accumulation
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        micro_batch = self.batch_size // (self.accumulation * self.world_size)
        for step in self.steps:
            for part in range(self.accumulation):
                first = step * self.batch_size + (part * self.world_size + self.rank) * micro_batch
                yield [self._sample(position) for position in range(first, first + micro_batch)]

    def _sample(self, position: int) -> SampleIndex:
        epoch, index = divmod(position, self.size)
        return epoch, int(_shuffled(self.size, self.seed, epoch)[index])


@tensor_cache(maxsize=2)  # a batch may contain the end of one pass and the beginning of the next
def _shuffled(size: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(size, generator=generator(seed, "order", epoch))


def choice(count: int, seed: int, step: int) -> int:
    """Return the index of the layout, out of `count`, that a step uses; it is the same on all ranks."""
    return int(torch.randint(count, (), generator=generator(seed, "layout", step)))


def subset(num_blocks: int, count: int | None, seed: int, step: int) -> tuple[int, ...]:
    """Return the blocks that a step noises, sorted: `count` random blocks, or all."""
    if count is None or count >= num_blocks:
        return tuple(range(num_blocks))
    drawn = torch.randperm(num_blocks, generator=generator(seed, "views", step))[:count]
    return tuple(sorted(drawn.tolist()))
