"""Study of recognition by generators (section 5.1, Table 3): does pretraining as a generator help?

Generators that saw no labels are fine-tuned and probed with few labels, beside the same network from scratch,
the protocol for DiT (noised input, one block), and classification by denoising losses.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from ..utils.errors import require
from .design import Design, Measurement
from .run_store import RunSpec
from .understanding_measures import measure_classifier, measure_losses, measure_probes
from .understanding_report import (
    ALL,
    DIT_TIMESTEP,
    GENERATIVE,
    PROBES,
    SCRATCH,
    SCRATCH_WIDE,
    SHIPPED_TUNED,
    TUNED,
    TUNED_DIT,
    TUNED_WIDE,
    probe_name,
    report,
)
from .understanding_runs import QUICK, SHIPPED, Budget, Settings, classifier_run, generator_run, probe_run
from .understanding_settings import CHOSEN, SHIPPED_SETTINGS


def understanding_design(*, first_seed: int, seeds: int, quick: bool = False) -> Design:
    """Return the design of the study.

    Args:
        first_seed: first seed.
        seeds: number of seeds: of generators, of the choice of labelled digits and of training.
        quick: whether tiny runs on 8x8 digits try the study in seconds.
    """
    require("matplotlib", "examples")
    budget = QUICK if quick else Budget()
    measurements = []
    for seed in range(first_seed, first_seed + seeds):
        # noised input is one block, so the network that reads it has learned to denoise one block
        generator, dit = (
            generator_run(budget, seed, labelled=False, one_block=one_block) for one_block in (False, True)
        )
        for labels in budget.labels:
            measurements += _recognition(budget, generator, dit, labels, seed)
        measurements.append(
            Measurement(
                ((GENERATIVE, ALL, -1, seed),),
                partial(measure_losses, budget, seed),
                (generator_run(budget, seed, labelled=True),),
            )
        )
        if not quick:
            most = max(budget.labels)
            tuned = classifier_run(budget, SHIPPED_SETTINGS, most, seed, SHIPPED)
            measurements.append(_classified(budget, SHIPPED_TUNED, most, seed, tuned))
    setting = {"budget": "quick" if quick else "full", "threads": torch.get_num_threads()}
    keys, columns = ("arm", "labels", "layer", "seed"), ("accuracy", "error")
    all_seeds = range(first_seed, first_seed + seeds)
    write = partial(report, budget.labels, budget.network["num_layers"], all_seeds)
    return Design("understanding", setting, keys, columns, measurements, write)


def _recognition(
    budget: Budget, generator: RunSpec, dit: RunSpec, labels: int, seed: int
) -> Iterable[Measurement]:
    """Yield the measurements with one number of labels per class and one seed.

    Args:
        budget: sizes of the runs.
        generator: generator that clean input starts from.
        dit: generator of one block, that noised input starts from.
        labels: labels per class.
        seed: seed of the runs.
    """

    def settings(arm: str) -> Settings:
        if budget is QUICK:
            return Settings(1e-3, 2, True)
        return CHOSEN[arm, labels]

    wide: dict[str, Any] = {"attention": "bidirectional"}
    runs = {
        TUNED: classifier_run(budget, settings(TUNED), labels, seed, generator),
        SCRATCH: classifier_run(budget, settings(SCRATCH), labels, seed, None),
        TUNED_WIDE: classifier_run(budget, settings(TUNED), labels, seed, generator, **wide),
        SCRATCH_WIDE: classifier_run(budget, settings(SCRATCH), labels, seed, None, **wide),
        TUNED_DIT: classifier_run(budget, settings(TUNED), labels, seed, dit, timestep=DIT_TIMESTEP),
    }
    for arm, run in runs.items():
        yield _classified(budget, arm, labels, seed, run)
    layers = range(budget.network["num_layers"] + 1)
    for timestep in (None, *budget.timesteps):
        names = [probe_name(probe, timestep) for probe in PROBES.values()]
        rows = tuple((name, labels, layer, seed) for layer in layers for name in names)
        yield Measurement(
            rows,
            partial(measure_probes, budget, labels, timestep, seed),
            (probe_run(budget, labels, seed, generator if timestep is None else dit, timestep=timestep),),
        )


def _classified(budget: Budget, arm: str, labels: int, seed: int, run: RunSpec) -> Measurement:
    return Measurement(
        ((arm, labels, -1, seed),), partial(measure_classifier, budget, arm, labels, seed), (run,)
    )
