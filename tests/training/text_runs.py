"""Small runs on texts for tests."""

from pathlib import Path
from typing import Any

from acdit.data.tokenizers import ByteTokenizer
from acdit.training.recipes import load_recipe

BYTES = ByteTokenizer()
SMALL = {
    "model.num_layers": 1,
    "model.hidden_size": 16,
    "model.num_heads": 1,
    "data.tokens": 32,
    "layout.blocks": ["8"],
    "training.steps": 6,
    "training.batch_size": 8,
    "training.precision": "no",
    "training.log_every": 1,
    "validation.every": 0,
    "optimizer.learning_rate": 1e-2,
}


def numbered(folder: Path) -> Path:
    """Write a text of numbered sentences to a folder; return its path."""
    path = folder / "text.txt"
    path.write_text("".join(f"{number} is the number {number}. " for number in range(200)))
    return path


def recipe(out, source, **changes: Any):
    names = {key.replace("__", "."): value for key, value in changes.items()}
    own = {"name": "texts", "data.source": str(source), "out": str(out)}
    return load_recipe("laptop-text", **(SMALL | own | names))
