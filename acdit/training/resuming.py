"""What may differ between a run and the one that goes on with it."""

import torch

from ..data.dataset import LabelledDataset
from ..utils.errors import UserError
from ..utils.ranks import Ranks
from .checkpoint import Stored, check_recipe
from .config import Recipe
from .recipes import recipe_to_dict

# Another number of steps goes on with the schedule of that length: exactly as if it had been so from the
# start, as long as the learning rate has not decayed yet.
CHANGEABLE = {
    "name",
    "out",
    "data.workers",
    "data.max_unreadable",
    "training.steps",
    "training.parallel",
    "training.world_size",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.keep_every",
    "training.sample_every",
    "training.log_every",
    "training.trackers",
    "validation.every",
    "validation.images",
    "validation.source",
    "validation.split",
    "validation.listed",
    "sampling.scheduler",
    "sampling.steps",
    "sampling.guidance_scale",
}
# Beginnings of keys that shape the network.
FIXED = ("model.", "lora.", "layout.patch", "data.channels")


def compared(stored: Stored, recipe: Recipe, ranks: Ranks, allow_changes: bool) -> list[str]:
    """In what a run differs from the one that wrote a checkpoint, in words.

    Raises:
        UserError: if the run has done more steps, is of another network, or was not allowed its changes.
    """
    changes = check_recipe(
        stored,
        recipe_to_dict(recipe),
        CHANGEABLE,
        recipe_to_dict(Recipe()),
        fixed=FIXED,
        allowed=allow_changes,
    )
    if stored.step > recipe.training.steps:
        raise UserError(
            f"training.steps must be at least {stored.step}, which {recipe.folder} has done, "
            f"not {recipe.training.steps}"
        )
    here = {"ranks": ranks.world_size, "threads": torch.get_num_threads()}
    for name, now in here.items():
        if stored.state[name] != now:
            changes.append(f"{name} were {stored.state[name]} and are {now}: results agree to rounding alone")
    return changes


def check_tokenizer(stored: Stored, data: LabelledDataset) -> None:
    """Raise UserError if a run learns other ids than so far: its tokeniser's file was written anew."""
    known = stored.state.get("tokenizer")
    if known not in (None, data.tokenizer_digest):
        raise UserError(
            "data.tokenizer is not the one that this run has learned with so far: bring its file back, or "
            "name another --out"
        )
