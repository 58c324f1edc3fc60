"""Describe a run's data, as far as possible without reading them, for `acdit plan`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ..data.class_folders import find_class_files
from ..data.data_sets import PIXEL_SETS
from ..data.file_tables import source_folder
from ..data.folders import holds_tables
from ..data.latents import read_manifest
from ..data.opening import open_samples
from ..data.selection import check_counts, divided_rows
from ..data.tokenizers import open_tokenizer
from ..utils.errors import UserError
from ..utils.kinds import check_values, list_of, whole_number
from ..utils.references import load_object
from ..utils.untrusted import read_object
from .config import Recipe

# Pixels along a latent cell, and channels, of Stable Diffusion's autoencoder: assumed if the recipe's
# autoencoder is not available.
USUAL_AUTOENCODER = (8, 4)
AUTOENCODER_KINDS = {
    "block_out_channels": list_of(whole_number(), range(1, 17)),
    "latent_channels": whole_number(1, 2**16),
}
USUAL_VOCABULARY = 50_258  # ids of GPT-2's tokenizer and the mask: assumed if the recipe's is not available


@dataclass(frozen=True)
class Data:
    """Description of the data as the network sees them.

    Attributes:
        values: Number of values of a data element: channels, or for texts the ids, including the mask.
        size: Size of a sample: (h, w) or (F, h, w), in pixels or latent cells; (L,) for texts.
        num_classes: Number of classes, or None if there are none.
        assumed: Descriptions of the assumptions that were made.
        counted: Number of classes that the data itself have, or None if they were not counted.
    """

    values: int
    size: tuple[int, ...]
    num_classes: int | None
    assumed: tuple[str, ...] = ()
    counted: int | None = None


def inspect_data(recipe: Recipe) -> Data:
    """Return the size, values and classes of the data that the network of a recipe sees.

    Raises:
        UserError: If the recipe sets no size.
    """
    inspect = cast(Callable[[Recipe], Data], load_object(recipe.modality.inspect_data))
    return inspect(recipe)


def inspect_pixels(recipe: Recipe) -> Data:
    """Describe images or clips, or the latents encoded from them; see `inspect_data`."""
    config, lengths = recipe.data, recipe.modality.lengths(recipe.data)
    channels, side, counted = config.channels, config.image_size, counted_classes(recipe)
    if config.source in PIXEL_SETS:
        opened = open_samples(config, seed=recipe.training.seed)
        channels, side = opened.channels, opened.size[-1]
    if side is None and config.source not in PIXEL_SETS:
        source_folder(config.source)  # raises an error about a path that does not exist
    if side is None:
        raise UserError(
            f"data.image_size must be set for {config.source}, to the side in pixels, such as 256"
        )
    num_classes = counted or config.num_classes
    assumed = []
    if num_classes is None:
        assumed.append("no classes, since the data is not available to count them; set data.num_classes")
    if recipe.autoencoder.model is None:
        return Data(channels, (*lengths, side, side), num_classes, tuple(assumed), counted)
    manifest = latent_manifest(recipe)
    if manifest is not None:
        size = tuple(manifest["shape"][1:])
        return Data(manifest["shape"][0], size, num_classes, tuple(assumed), counted)
    cell, channels = _autoencoder_shape(recipe.autoencoder.model) or (None, None)
    if cell is None or channels is None:
        cell, channels = USUAL_AUTOENCODER
        assumed.append(
            f"an autoencoder with {channels} latent channels, and latent cells of {cell}x{cell} pixels"
        )
    return Data(channels, (*lengths, side // cell, side // cell), num_classes, tuple(assumed), counted)


def inspect_texts(recipe: Recipe) -> Data:
    """Describe texts; see `inspect_data`.

    A tokenizer that is not a local file or folder is not loaded.
    """
    tokenizer, lengths = recipe.data.tokenizer, recipe.modality.lengths(recipe.data)
    if tokenizer != "bytes" and not Path(tokenizer).expanduser().exists():
        assumed = (
            f"a vocabulary of {USUAL_VOCABULARY:,}, GPT-2's and the mask, since {tokenizer} is not loaded"
        )
        return Data(USUAL_VOCABULARY, lengths, None, (assumed,))
    return Data(open_tokenizer(tokenizer).vocab_size, lengths, None)


def counted_classes(recipe: Recipe) -> int | None:
    """Count the classes of latents, of a built-in data set, or of a folder with one sub-folder per class.

    Returns:
        Number of classes, or None for other sources.
    """
    manifest = latent_manifest(recipe) if recipe.autoencoder.model is not None else None
    if manifest is not None:
        return len(manifest["label_names"])
    if recipe.data.source in PIXEL_SETS:
        return len(PIXEL_SETS[recipe.data.source].label_names)
    folder = Path(recipe.data.source).expanduser()
    if not folder.is_dir() or holds_tables(folder):
        return None
    return len(find_class_files(recipe.data).classes) or None  # files without classes count as one class


def check_labels(recipe: Recipe) -> str | None:
    """Describe how many labels a recipe uses, without reading files; return None if it uses all of them.

    Raises:
        UserError: If a class of a folder or of a built-in data set has fewer samples.
    """
    config, wanted = recipe.data, recipe.data.labels_per_class
    if wanted is None:
        return None
    folder = Path(config.source).expanduser()
    if config.source in PIXEL_SETS:
        return f"{len(open_samples(config, seed=recipe.training.seed)):,}, {wanted} of every class"
    if recipe.autoencoder.model is not None or not folder.is_dir() or holds_tables(folder):
        return f"{wanted} of every class, if there are as many: training checks that"
    found = find_class_files(config)
    names = found.classes
    numbers = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([numbers[name] for name, _ in found.files])
    if config.validation_fraction:
        rows = divided_rows(labels, config.validation_fraction, False, int)  # the names do not change counts
        labels = labels[rows]
    check_counts(labels.bincount(minlength=len(names)).tolist(), names, config)
    return f"{wanted * len(names):,}, {wanted} of every class; training also checks the files"


def latent_manifest(recipe: Recipe) -> dict[str, Any] | None:
    """Return the manifest of a recipe's latents, or None if it cannot be read."""
    try:
        return read_manifest(recipe.latents)
    except UserError:
        return None


def _autoencoder_shape(model: str) -> tuple[int, int] | None:
    """Return the pixels along a latent cell and the channels of an autoencoder in a folder, or None."""
    for path in (Path(model) / "vae" / "config.json", Path(model) / "config.json"):
        try:
            config = check_values(read_object(path), AUTOENCODER_KINDS, path)
        except UserError:
            continue
        return 2 ** (len(config["block_out_channels"]) - 1), config["latent_channels"]
    return None
