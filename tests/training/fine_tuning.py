"""Recipes of classifiers with all augmentation and regularisation on."""

from pathlib import Path
from typing import Any

from acdit.training.config import Recipe
from tests.training.small import small_recipe

EVERYTHING: dict[str, Any] = {
    "model": {"num_layers": 2},
    "training": {"objective": "classification"},
    "optimizer": {"layer_decay": 0.7},
    "classifier": {
        "label_smoothing": 0.1,
        "mixup": 0.4,
        "cutmix": 1.0,
        "drop_path": 0.3,
        "shift": 1,
        "rotation": 10,
        "scaling": 0.1,
        "randaugment": 1,
        "pooling": "attention",
        "queries": 2,
    },
}


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Join changes of recipes section by section."""
    joined: dict[str, Any] = {}
    for part in parts:
        for section, values in part.items():
            joined[section] = joined.get(section, {}) | values
    return joined


def classifier(out: Path, *changes: dict[str, Any]) -> Recipe:
    """The recipe of a tiny classifier with everything on, and changes."""
    return small_recipe(out, **merged(EVERYTHING, *changes))
