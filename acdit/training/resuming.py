"""Check which settings differ between a run and the one that resumes it."""

import torch

from ..data.dataset import LabelledDataset
from ..utils.errors import UserError
from ..utils.ranks import Ranks
from .checkpoint import Stored, check_recipe
from .config import Recipe
from .recipes import recipe_to_dict

# With another number of steps, the run continues on the schedule of that length. The result is exactly as if
# the number had been the same from the start, as long as the learning rate has not decayed yet.
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
# Prefixes of keys that determine the shape of the network.
FIXED = ("model.", "lora.", "layout.patch", "data.channels")


def recipe_changes(stored: Stored, recipe: Recipe, ranks: Ranks, allow_changes: bool) -> list[str]:
    """Describe the differences between a run and the one that wrote a checkpoint.

    Raises:
        UserError: If the run has completed more steps, has another network, or its changes are not allowed.
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
            f"training.steps must be at least {stored.step}, the completed steps of {recipe.folder}, "
            f"not {recipe.training.steps}"
        )
    current = {"ranks": ranks.world_size, "threads": torch.get_num_threads()}
    for name, now in current.items():
        if stored.state[name] != now:
            changes.append(f"{name} were {stored.state[name]} and are {now}: results may differ by rounding")
    return changes


def check_tokenizer(stored: Stored, data: LabelledDataset) -> None:
    """Raise UserError if the tokenizer's file has changed, so that its ids differ from those used so far."""
    stored_digest = stored.state.get("tokenizer")
    if stored_digest not in (None, data.tokenizer_digest):
        raise UserError(
            "data.tokenizer is not the one that this run was trained with so far: restore its file, or "
            "choose another --out"
        )
