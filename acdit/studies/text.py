"""Study of block size, masks, order of revealing and likelihood of text (Table 4).

Networks of equal size are trained for equally many steps: with counted and with independent masks, each on
one block size, and with counted masks on all block sizes. One more is trained on all sizes in as many steps
as the networks of one size take together. All are scored by the bound of random order; those with counted
masks and equally many steps also from left to right, and the most certain token first, exactly, in blocks
of at most 16 tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from ..data.config import DataConfig
from ..data.shakespeare import SHAKESPEARE
from ..data.texts import open_texts
from ..diffusion.orders import LEFT, LOWEST_ENTROPY, RANDOM
from ..evaluation.likelihood import Scoring, likelihood
from ..model.layout import Layout
from ..pipelines.loading import load_pipeline
from ..pipelines.text import ACDiTTextPipeline
from ..utils.errors import require
from ..utils.ranks import launched
from .claims_text import ALONE, COUNTED, NETWORK, TOTAL
from .design import Design, Measurement
from .run_store import RunSpec, StoredRun
from .text_report import ARMS, report

LENGTH = 256
BLOCKS = (1, 4, 16, 64, LENGTH)
ORDERED_TOKENS = 16  # larger blocks are scored in random order alone: each token needs a view of its block


@dataclass(frozen=True)
class TextTraining:
    """Settings that the training runs of the study have in common.

    Attributes:
        steps: number of training steps.
        batch: number of sequences per step.
        network: size of the network.
    """

    steps: int
    batch: int
    network: Mapping[str, int]

    def run(
        self, masks: Literal["counted", "independent"], sizes: Sequence[int], seed: int, *, total: bool
    ) -> RunSpec:
        """Return the run of a network that is trained on blocks of some sizes.

        Args:
            masks: masks of the training, as in `diffusion.masks`.
            sizes: block sizes in tokens.
            seed: seed of the run.
            total: whether it takes the steps for each of the block sizes.
        """
        steps = self.steps * (len(sizes) if total else 1)
        blocks = f"block-{sizes[0]}" if len(sizes) == 1 else "all"
        overrides = {
            "model": self.network,
            "data": {"tokens": LENGTH},
            "layout": {"blocks": [str(size) for size in sizes]},
            # counted masks are the default, which has no part in the digest of a run
            "diffusion": {} if masks == COUNTED else {"masks": masks},
            "training": {"steps": steps, "batch_size": self.batch},
            "validation": {"every": 0},
        }
        name = f"{masks}-{blocks}{'-total' if total else ''}-{seed}"
        return RunSpec("laptop-text", overrides, seed, name)


def text_design(
    *,
    steps: int,
    batch: int,
    samples: int,
    first_seed: int,
    seeds: int,
    blocks: Sequence[int] = BLOCKS,
    network: Mapping[str, int] = NETWORK,
) -> Design:
    """Return the design of the study: every network is trained with every seed and scored on held-out works.

    Args:
        steps: number of training steps of each network.
        batch: number of sequences per training step, and per forward pass of the scoring.
        samples: number of held-out sequences to score.
        first_seed: first seed of the training runs.
        seeds: number of training runs of each network.
        blocks: block sizes in tokens.
        network: size of each network.
    """
    require("matplotlib", "examples")
    setting = {
        "network": dict(network),
        "tokens": LENGTH,
        "steps": steps,
        "batch": batch,
        "samples": samples,
        "threads": torch.get_num_threads(),
    }
    training, measurements = TextTraining(steps, batch, network), []
    for seed in range(first_seed, first_seed + seeds):
        for masks, trained in ARMS:
            groups = [(block,) for block in blocks] if trained == ALONE else [tuple(blocks)]
            for sizes in groups:
                measurements.append(
                    Measurement(
                        tuple(
                            (masks, trained, order, block, seed)
                            for order, block in scored(masks, trained, sizes)
                        ),
                        partial(_score_network, masks, trained, sizes, seed, samples, batch),
                        (training.run(masks, sizes, seed, total=trained == TOTAL),),
                    )
                )
    keys = ("masks", "trained", "order", "block", "seed")
    columns = ("bits_per_byte", "nats_per_token", "standard_error", "training_flops")
    return Design("text", setting, keys, columns, measurements, partial(report, tuple(blocks)))


def scored(masks: str, trained: str, sizes: Sequence[int]) -> list[tuple[str, int]]:
    """Return the orders and block sizes in which a network is scored.

    Args:
        masks: masks of its training.
        trained: training of the network, see `claims_text`.
        sizes: block sizes that it is trained on.
    """
    orders = [(RANDOM, size) for size in sizes]
    if masks == COUNTED and trained != TOTAL:
        orders += [
            (order, size) for order in (LEFT, LOWEST_ENTROPY) for size in sizes if size <= ORDERED_TOKENS
        ]
    return orders


def _score_network(
    masks: str, trained: str, sizes: Sequence[int], seed: int, samples: int, batch: int, run: StoredRun
) -> list[dict[str, Any]]:
    """Score the held-out works, and return a row for each order and block size."""
    pipeline = load_pipeline(run.pipeline, kind=ACDiTTextPipeline).to(launched().device)
    data = open_texts(DataConfig(source=SHAKESPEARE), pipeline.tokenizer, LENGTH, held_out=True)
    scoring = Scoring(min(samples, len(data)), batch, draws=4, estimate="counts", seed=seed)
    arm = {"masks": masks, "trained": trained}
    return [
        {**arm, "order": order, "seed": seed, "training_flops": run.flops}
        | likelihood(pipeline, data, Layout((LENGTH,), (size,)), scoring._replace(order=order))
        for order, size in scored(masks, trained, sizes)
    ]
