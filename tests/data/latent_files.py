"""Latents for tests: the recipe of eleven small pictures, what encoding writes, and their data set."""

from pathlib import Path
from typing import Any

import torch

from acdit.data.autoencoders import load_autoencoder
from acdit.data.encoding import encode_pixels
from acdit.data.latents import LatentDataset, open_latents
from acdit.training.config import Recipe
from acdit.training.recipes import load_recipe

CPU = torch.device("cpu")


def recipe_of(pictures: Path, vae: str, **changes: Any) -> Recipe:
    """Latents of 8x8 crops, three pictures a file, kept beside the pictures."""
    keys = {
        "data.source": str(pictures),
        "data.image_size": 8,
        "data.channels": 1,
        "autoencoder.model": vae,
        "autoencoder.latents": str(pictures.parent / "latents"),
        "autoencoder.dtype": "float32",
        "autoencoder.shard_size": 3,
        "layout.patch": 1,
    }
    return load_recipe("digits", **(keys | {"data.flip": True} | changes))


def encoded(recipe: Recipe, batch: int) -> Path:
    """The folder of a recipe's latents, encoded."""
    encode_latents(recipe, batch)
    return recipe.latents


def encode_latents(recipe: Recipe, batch: int) -> dict[str, Any] | None:
    """The manifest of a recipe's latents; None where another rank has files left to write."""
    seed = recipe.training.seed
    return encode_pixels(recipe.latents, recipe.data, recipe.autoencoder, seed=seed, device=CPU, batch=batch)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def opened(recipe: Recipe) -> LatentDataset:
    vae = load_autoencoder(str(recipe.autoencoder.model))
    return open_latents(recipe.latents, recipe.data, recipe.autoencoder, vae, seed=recipe.training.seed)
