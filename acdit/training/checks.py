"""Check what a run needs before it starts: configuration, data, latents and free disk space."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..data.data_sets import built_in
from ..data.file_tables import source_folder
from ..data.latents import check_settings, data_settings, read_manifest
from ..model.flops import Dimensions
from ..model.layout import Layout, dims
from ..model.positions import rotary_split
from ..utils.errors import UserError
from ..utils.files import check_writable
from ..utils.resources import free_disk
from .build import build_layouts
from .config import Recipe
from .costs import Costs
from .export import check_scheduler
from .inspection import Data, check_labels, latent_manifest
from .objectives import objective_name
from .validation import check_validation

T = TypeVar("T")
STATES_OF_TRAINED = 3  # values in a checkpoint beside a trained weight: its average and two moments


@dataclass(frozen=True)
class Check:
    """Result of one check of a run."""

    subject: str
    ok: bool
    found: str


@dataclass
class Checks:
    """Results of checks; a check that fails is recorded as a problem."""

    results: list[Check] = field(default_factory=list)

    def run(self, subject: str, check: Callable[[], T]) -> T | None:
        """Run a check, record its result and return it.

        A result of None is not recorded. If the check raises ValueError or OSError, the error is recorded as
        a problem, and None is returned.
        """
        try:
            result = check()
        except (ValueError, OSError) as error:
            self.results.append(Check(subject, False, " ".join(str(error).split())))
            return None
        if result is not None:
            text = "; ".join(map(str, result)) if isinstance(result, list) else str(result)
            self.results.append(Check(subject, True, text))
        return result


def check_run(recipe: Recipe, ranks: int, data: Data, network: Costs) -> tuple[list[Check], list[Layout]]:
    """Run all checks of a recipe for a number of ranks.

    Returns:
        The results, and the layouts of the recipe; no layouts if they do not tile.
    """
    checks = Checks()
    layouts = checks.run("layout", lambda: build_layouts(recipe, data.size))
    checks.run("heads", lambda: _check_heads(network.network, len(data.size)))
    checks.run("batch", lambda: _check_batch(recipe, ranks))
    if recipe.autoencoder.model is not None:
        checks.run("latents", lambda: _check_latents(recipe))
    if recipe.autoencoder.model is None or latent_manifest(recipe) is None:
        checks.run("data", lambda: _check_source(recipe))
    if counted := data.counted:
        checks.run("classes", lambda: _check_classes(recipe, counted))
    checks.run("labels", lambda: check_labels(recipe))
    checks.run("objective", lambda: recipe.training.objective and objective_name(recipe))
    checks.run("masks", lambda: _check_masks(recipe, network.network))
    checks.run("scheduler", lambda: check_scheduler(recipe, network.network.time_conditioning))
    checks.run("validation", lambda: check_validation(recipe))
    checks.run("disk", lambda: _check_disk(recipe, network))
    return checks.results, layouts or []


def _check_heads(network: Dimensions, axes: int) -> str:
    hidden, heads = network.hidden_size, network.num_heads
    if hidden % heads:
        raise UserError(f"model.num_heads must divide the hidden size of {hidden}; {heads} does not")
    split = rotary_split(network.positions, "eq4", None, hidden, heads, axes)
    if network.positions in ("absolute", "none"):
        return f"positions are {network.positions}, not rotary"
    return f"rotary dimensions of an axis: {dims(split, '|')}"


def _check_masks(recipe: Recipe, network: Dimensions) -> str | None:
    if recipe.modality.ignores("diffusion.masks"):
        return None
    return recipe.diffusion.masks_for(network.time_conditioning)


def _check_batch(recipe: Recipe, ranks: int) -> str:
    config = recipe.training
    passes = ranks * config.accumulation
    if config.batch_size % passes:
        raise UserError(
            f"training.batch_size must be a multiple of ranks x accumulation, {passes}, "
            f"not {config.batch_size}"
        )
    return f"{config.batch_size} in {passes} forward passes"


def _check_latents(recipe: Recipe) -> str:
    manifest = read_manifest(recipe.latents)
    expected = {"data": data_settings(recipe.data, recipe.autoencoder.clips)}
    stored = {"data": manifest["settings"]["data"]}
    check_settings(recipe.latents, stored, expected, located=manifest.get("data") is None)
    summary = f"{manifest['count']:,} {recipe.modality.samples} in {recipe.latents}"
    return f"{summary}; training also checks the autoencoder and the files"


def _check_source(recipe: Recipe) -> str:
    """Describe the data source without reading it.

    Raises:
        UserError: If the source can only be a folder and there is none.
    """
    source = recipe.data.source
    if source in built_in():
        return f"{source} needs no download"
    if recipe.modality.single_file and Path(source).expanduser().is_file():
        return f"{source} is a file; it is not read"
    if source_folder(source) is None:
        return f"{source} is not a local folder; it is assumed to be on the hub, which is not contacted"
    return f"{source} is a folder; its files are not read"


def _check_classes(recipe: Recipe, counted: int) -> str:
    configured = recipe.data.num_classes
    if configured not in (None, counted):
        raise UserError(
            f"data.num_classes must be {counted}, the number of classes in the data, not {configured}"
        )
    return f"{counted} in the data"


def _check_disk(recipe: Recipe, network: Costs) -> str:
    check_writable(recipe.folder / "checkpoints")
    config = recipe.training
    kept = config.keep_checkpoints + 1  # the newest is written before the oldest is removed
    kept += bool(recipe.validation.every)  # the best one
    if config.keep_every:
        kept += config.steps // math.lcm(config.keep_every, config.checkpoint_every)
    required = kept * 4 * (network.parameters + STATES_OF_TRAINED * network.trained)
    free = free_disk(recipe.folder)
    summary = f"{kept} checkpoints of {recipe.folder} take {required / 1e9:,.3g} GB"
    if required > free:
        raise UserError(
            f"{summary}, {free / 1e9:,.3g} GB are free: choose another --out, lower "
            "training.keep_checkpoints, or raise training.keep_every"
        )
    return f"{summary}, {free / 1e9:,.3g} GB are free"
