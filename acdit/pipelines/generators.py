"""Random generators of the samples of a call, from the generator or generators that the caller passes."""

from collections.abc import Sequence

import torch

from ..utils.errors import UserError
from ..utils.randomness import seed_of

Generators = torch.Generator | Sequence[torch.Generator] | None


def one_per_sample(generator: Generators, batch: int) -> list[torch.Generator]:
    """Return a generator for every sample, for the draws that a sample makes while it is generated.

    Several generators are returned as they are. One generator serves the first sample, and the seeds of the
    others depend on a number drawn from a copy of it. For None, all seeds are drawn from torch's own
    generator.

    Raises:
        UserError: if `generator` holds anything else, or another number of generators.
    """
    if generator is None:
        return seeded_in_order(None, batch)
    if isinstance(generator, torch.Generator):
        copied = torch.Generator(generator.device)
        copied.set_state(generator.get_state())
        # Seeds drawn one after the other would return in the next call, whose copy starts a few draws later.
        base = int(torch.randint(2**63 - 1, (), generator=copied, device=copied.device))
        seeds = [seed_of(base, "sample", index) for index in range(1, batch)]
        return [generator, *(torch.Generator(generator.device).manual_seed(seed) for seed in seeds)]
    if not isinstance(generator, Sequence) or not all(
        isinstance(each, torch.Generator) for each in generator
    ):
        raise UserError(f"generator must be a torch.Generator or a list of {batch} (one per sample)")
    if len(generator) != batch:
        raise UserError(
            f"generator must be one generator or a list of {batch} (one per sample), not of {len(generator)}"
        )
    return list(generator)


def seeded_in_order(source: torch.Generator | None, count: int) -> list[torch.Generator]:
    """Return generators on the device of `source`, with seeds drawn from it; None = torch's own."""
    device = torch.device("cpu") if source is None else source.device
    seeds = torch.randint(2**63 - 1, (count,), generator=source, device=device).tolist()
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]
