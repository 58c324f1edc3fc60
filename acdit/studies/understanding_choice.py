"""Study that chooses the settings of the study of understanding, on a part of the training digits."""

import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data.config import DataConfig
from ..data.opening import open_samples
from ..evaluation.report import format_table
from ..utils.files import whole
from .design import Design, Measurement, Row, Rows
from .measurements import markdown_table
from .run_store import StoredRun
from .understanding_measures import head_accuracies, load_classifier
from .understanding_report import SCRATCH, TUNED
from .understanding_runs import (
    HELD_OUT_FRACTION,
    QUICK,
    Budget,
    Settings,
    classifier_run,
    generator_run,
)

KEYS = ("arm", "labels", "learning_rate", "steps", "augmented")
CENTRE = 4e-3  # learning rate of the central candidate


def choice_design(*, first_seed: int, quick: bool = False) -> Design:
    """Return the design of the study: each candidate is trained once for each arm and number of labels.

    The candidates differ from a central one in the learning rate, or in augmentation and steps.

    Args:
        first_seed: seed of the runs.
        quick: whether tiny runs on 8x8 digits try the study in seconds.
    """
    budget = QUICK if quick else Budget()
    generator = generator_run(budget, first_seed, labelled=False)
    measurements = []
    for labels in budget.labels:
        # of 400 digits of a class, a fifth is held out
        count = min(labels, round((1 - HELD_OUT_FRACTION) * max(budget.labels)))
        for arm, start in ((TUNED, generator), (SCRATCH, None)):
            for settings in candidates(budget.steps[labels]):
                run = classifier_run(budget, settings, count, first_seed, start, validation=True)
                key = (arm, labels, *astuple(settings))
                measurements.append(Measurement((key,), partial(_measure, budget, key), (run,)))
    setting = {"budget": "quick" if quick else "full", "seed": first_seed, "threads": torch.get_num_threads()}
    return Design(
        "understanding-settings",
        setting,
        KEYS,
        ("accuracy", "error"),
        measurements,
        partial(_report, budget.labels),
    )


def candidates(steps: int) -> list[Settings]:
    """Return the settings to try: the central one, other learning rates, no augmentation, twice the steps.

    Both numbers of steps are tried without augmentation too.

    Args:
        steps: training steps of the central candidate.
    """
    centre = Settings(CENTRE, steps, True)
    return [
        centre,
        replace(centre, learning_rate=CENTRE / 2),
        replace(centre, learning_rate=CENTRE * 2),
        replace(centre, augmented=False),
        replace(centre, steps=2 * steps),
        replace(centre, steps=2 * steps, augmented=False),
    ]


def _measure(budget: Budget, key: tuple[Any, ...], run: StoredRun) -> list[dict[str, Any]]:
    """Return the accuracy of a candidate on the validation part of the training digits."""
    config = DataConfig(source=budget.recipe, channels=1, validation_fraction=HELD_OUT_FRACTION)
    data = open_samples(config, seed=run.recipe.training.seed, held_out=True)
    images = torch.stack([data.decode(index) for index in range(len(data))])
    (accuracy,) = head_accuracies(load_classifier(run), images, data.labels)
    return [dict(zip(KEYS, key, strict=True)) | accuracy]


def chosen(rows: Rows, arm: str, labels: int) -> dict[str, Any]:
    """Return the row of the best candidate; of equal ones that with the fewest steps, then the lowest rate.

    Of candidates that differ in augmentation alone, it is the one without.

    Args:
        rows: all rows.
        arm: name of the arm.
        labels: labels per class.
    """
    own = [row for row in rows.values() if (row["arm"], row["labels"]) == (arm, labels)]
    return dict(
        max(
            own,
            key=lambda row: (
                row["accuracy"] if math.isfinite(row["accuracy"]) else -1.0,  # it diverged
                -row["steps"],
                -row["learning_rate"],
                not row["augmented"],
            ),
        )
    )


def _accuracy(row: Row) -> str:
    """Return the accuracy of a candidate with its error in percent, or that it diverged."""
    if not math.isfinite(row["accuracy"]):
        return "diverged"
    return f"{100 * row['accuracy']:.2f} ± {100 * row['error']:.2f}"


def _report(counts: Sequence[int], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the table of all candidates, and return it with the best of each."""
    best = [chosen(rows, arm, labels) for labels in counts for arm in (TUNED, SCRATCH)]
    table = [
        {
            "network": row["arm"],
            "labels per class": str(row["labels"]),
            "learning rate": f"{row['learning_rate']:g}",
            "steps": row["steps"],
            "augmented": "yes" if row["augmented"] else "no",
            "accuracy, %": _accuracy(row),
            "chosen": "yes" if dict(row) in best else "",
        }
        for row in rows.values()
    ]
    note = "Accuracies on a fifth of the training digits, with standard errors over these digits; one seed."
    path = folder / "understanding-settings.md"
    page = ["# Settings of the study of understanding", "", note, "", *markdown_table(table), ""]
    with whole(path) as temporary_path:
        temporary_path.write_text("\n".join(page))
    return f"{format_table(table)}\n\n{note}", [path]
