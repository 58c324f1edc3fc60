"""Generation of texts without a cache: every step computes all previous blocks again."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from ..diffusion.masked_schedulers import MaskedScheduler
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer


@torch.no_grad()
def generate_uncached(
    network: ACDiTTransformer,
    layout: Layout,
    masked: Tensor,
    scheduler: MaskedScheduler,
    steps: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return the tokens (N, T, B) that `generate` returns for the same masked tokens and generators.

    The network must have no conditions.
    """
    finished = masked[:, :0]
    for block in range(layout.num_blocks):
        solver = copy.deepcopy(scheduler)
        solver.set_timesteps(steps)
        sample = masked[:, block]  # (N, B)
        for timestep in solver.timesteps:
            if solver.finished(sample):
                break
            clean = finished if block else None
            logits = network(sample[:, None], layout=layout, blocks=(block,), clean=clean).sample[:, 0]
            (sample,) = solver.step(logits, timestep, sample, generators, return_dict=False)
        finished = torch.cat((finished, sample[:, None]), 1)
    return finished
