"""Check which settings and data differ between a run and the one that resumes it."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..data.dataset import LabelledDataset
from ..data.identity import DataIdentity, data_changes, describe_rows, named_classes, new_classes
from ..data.latent_files import checked_identity
from ..model.classifier import ACDiTForImageClassification
from ..model.stored import NETWORK_KINDS
from ..model.token_head import CausalTokenDiffusion
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from ..utils.kinds import OBJECT, TEXT, Kind, check_values, whole_number
from ..utils.ranks import Ranks
from ..utils.settings import differences, flatten
from ..utils.untrusted import damage, reading, tensor_header
from .checkpoint import STATE_FILE, Stored
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
# Keys that say where the data are; they may differ too if the data are the same.
LOCATIONS = {"data.source", "data.listed", "autoencoder.latents"}
# Prefixes of keys that determine the shape of the network.
FIXED = (
    "model.",
    "lora.",
    "layout.patch",
    "data.channels",
    "classifier.attention",
    "classifier.pooling",
    "classifier.probe",
    "classifier.queries",
    "classifier.timestep",
)
NETWORKS = {
    network.__name__: network
    for network in (ACDiTTransformer, CausalTokenDiffusion, ACDiTForImageClassification)
}
STATE_KINDS = {
    "progress": OBJECT,
    "recipe": OBJECT,
    "network": OBJECT,
    "data": OBJECT.or_none().if_given(),
    "tokenizer": TEXT.or_none().if_given(),
    "ranks": whole_number(),
    "threads": whole_number(),
}
PROGRESS_KINDS: dict[str, Kind] = dict.fromkeys(("step", "skipped", "skipped_in_a_row"), whole_number(0))


@dataclass(frozen=True)
class Resumption:
    """Differences between a run and the one that wrote a checkpoint.

    Attributes:
        changes: Descriptions of the differences.
        classes: Names of the checkpoint's classes and of the run's, if they differ.
    """

    changes: list[str]
    classes: tuple[tuple[str, ...], tuple[str, ...]] | None


def compare_with_checkpoint(
    stored: Stored,
    recipe: Recipe,
    data: LabelledDataset,
    identity: DataIdentity,
    ranks: Ranks,
    allow_changes: bool,
) -> Resumption:
    """Describe the differences between a run and the one that wrote a checkpoint.

    Args:
        stored: Checkpoint.
        recipe: Recipe of the run.
        data: Data of the run.
        identity: Identity of the data.
        ranks: Ranks of the run.
        allow_changes: Whether recipe and data may differ.

    Raises:
        UserError: If the run has completed more steps, has another network, or its changes are not allowed.
    """
    _check_state(stored, recipe)
    stored_identity = DataIdentity.from_json(stored.state.get("data"))
    if stored_identity is None or not _same_tokenizer(stored, data):  # `check_tokenizer` reports the latter
        class_texts, other_texts = [], []
    else:
        class_texts, other_texts = data_changes(stored_identity, identity)
    same = stored_identity is not None and not class_texts and not other_texts
    defaults = recipe_to_dict(Recipe())
    # a run of an earlier version has no such key; `check_tokenizer` checks whether it matters
    defaults["data"]["special_tokens"] = recipe.data.special_tokens
    defaults["diffusion"]["masks"] = _earlier_masks(stored, recipe)
    changes = check_recipe(
        stored,
        recipe_to_dict(recipe),
        CHANGEABLE | LOCATIONS if same else CHANGEABLE,
        defaults,
        fixed=FIXED,
        data=[*class_texts, *other_texts],
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
    if stored_identity is None:
        _check_class_count(stored, identity)
        changes.append("the checkpoint does not record its classes and files, so they are not compared")
    if stored_identity is None or not class_texts:
        return Resumption(changes, None)
    classes = stored_identity.label_names, identity.label_names
    if recipe.modality.objectives:
        raise UserError(
            f"the classes of a classifier cannot change while it is trained, but {', '.join(class_texts)}: "
            f"restore the data, or start from {recipe.folder} by training.init_from with another --out"
        )
    added = new_classes(*classes)
    if recipe.lora.rank and not recipe.lora.label_table and added:
        raise UserError(
            f"lora.label_table is false, so the rows of new classes cannot be trained: "
            f"{named_classes(added)}; choose another --out, and set lora.label_table to true"
        )
    return Resumption([*changes, describe_rows(*classes)], classes)


def _check_state(stored: Stored, recipe: Recipe) -> None:
    """Raise UserError if the state of a run's checkpoint holds other values than a run of the recipe writes.

    The size of the network is compared with the stored tensors before it is built.
    """
    path = stored.path / STATE_FILE
    state = check_values(stored.state, STATE_KINDS, path)
    check_values(state["progress"], PROGRESS_KINDS, path)
    class_name = recipe.network_class
    if ("num_labels" in state["network"]) != ("num_labels" in NETWORK_KINDS[class_name]):
        raise UserError(
            f"{recipe.folder} holds a run that is not one of {recipe.modality.many}: choose another --out, "
            "or remove that folder"
        )
    if ("head_layers" in state["network"]) != ("head_layers" in NETWORK_KINDS[class_name]):
        other = "token-head" if "head_layers" in state["network"] else "acdit"
        raise UserError(
            f"{recipe.folder} holds a run of model.kind {other}: set model.kind {other}, choose another "
            "--out, or remove that folder"
        )
    kinds = {key: kind for key, kind in NETWORK_KINDS[class_name].items() if key != "format_version"}
    config = check_values(state["network"], kinds, path)
    check_values(state["recipe"], {"data": OBJECT}, path)
    if state.get("data") is not None:
        checked_identity(state["data"], path)
    headers = [tensor_header(stored.path / name) for name in state["files"]]
    tensors = [tensor for header in headers for name, tensor in header.items() if name.startswith("model.")]
    elements, needed = sum(tensor.elements for tensor in tensors), 0
    layers = config["num_layers"] + config.get("head_layers", 0)
    if layers <= len(tensors):
        with reading(path), torch.device("meta"):
            network = NETWORKS[class_name](**{key: config[key] for key in kinds if key in config})
        needed = sum(parameter.numel() for parameter in network.parameters())
    if layers > len(tensors) or needed > elements:
        raise damage(path, f"it describes a larger network than the {elements:,} weights of the checkpoint")


def _earlier_masks(stored: Stored, recipe: Recipe) -> str | None:
    """Return the value of `diffusion.masks` of a run of an earlier version, which had no such key.

    It drew masks independently. The value is that of the recipe where this means the same.
    """
    network, masks = stored.state["network"], recipe.diffusion.masks
    timed = network.get("time_conditioning", "head_layers" in network)
    if recipe.modality.ignores("diffusion.masks") or recipe.diffusion.masks_for(timed) == "independent":
        return masks
    return "independent"


def _check_class_count(stored: Stored, identity: DataIdentity) -> None:
    """Raise UserError if a checkpoint without class names is for another number of classes."""
    network = stored.state["network"]
    before, now = network.get("num_labels", network.get("num_classes")) or 0, len(identity.label_names)
    if before != now:
        raise UserError(
            f"{stored.path.parent.parent} holds a run with {before} classes, but the data has {now}, and the "
            "checkpoint does not record the names of its classes: restore the data, or choose another --out"
        )


def check_tokenizer(stored: Stored, data: LabelledDataset) -> None:
    """Raise UserError if the tokenizer, or its use, has changed, so that its ids differ from those so far."""
    earlier = "special_tokens" not in stored.state["recipe"]["data"]
    if earlier and data.read_otherwise is not None:
        raise UserError(
            "an earlier version, which started this run, read the texts as other tokens: "
            f"{data.read_otherwise}, or choose another --out"
        )
    if not _same_tokenizer(stored, data):
        raise UserError(
            "data.tokenizer is not the one that this run was trained with so far: restore its file, or "
            "choose another --out"
        )


def _same_tokenizer(stored: Stored, data: LabelledDataset) -> bool:
    return stored.state.get("tokenizer") in (None, data.tokenizer_digest)


def check_recipe(
    stored: Stored,
    recipe: Mapping[str, Any],
    changeable: Container[str],
    defaults: Mapping[str, Any],
    *,
    fixed: tuple[str, ...] = (),
    data: Sequence[str] = (),
    allowed: bool | None = None,
) -> list[str]:
    """Describe the differences between a run and that of a checkpoint, except in changeable keys.

    Args:
        stored: Checkpoint to compare with.
        recipe: Recipe of the resumed run.
        changeable: Keys that may differ; they are not reported.
        defaults: Default values of keys that did not exist yet when the checkpoint was written.
        fixed: Prefixes of keys that the checkpoint's tensors depend on.
        data: Descriptions of the differences between the data.
        allowed: Whether other keys and the data may differ too; None = they may never differ.

    Raises:
        UserError: If keys or data differ that must not.
    """
    stored_settings = flatten(defaults) | flatten(stored.state["recipe"])
    changed = {
        key: text for key, text in differences(stored_settings, recipe).items() if key not in changeable
    }
    folder = stored.path.parent.parent
    if any(key.startswith(fixed) for key in changed if fixed):
        texts = [text for key, text in changed.items() if key.startswith(fixed)]
        raise UserError(
            f"{folder} holds a run with another network; differences: {', '.join(texts)}. "
            "Choose another --out, or remove that folder"
        )
    texts = [*changed.values(), *data]
    if texts and not allowed:
        kind = "with another recipe" if changed else "on other data"
        raise UserError(
            f"{folder} holds a run {kind}; differences: {', '.join(texts)}. "
            f"{'Choose' if allowed is None else 'Continue with --allow-changes, or choose'} another --out, "
            "or remove that folder"
        )
    return texts
