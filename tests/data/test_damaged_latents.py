"""Damaged files of latents: refused when they are opened, and repaired by encoding with `verify`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from acdit.data.encoding import encode_pixels
from acdit.utils.errors import UserError
from tests.data.latent_files import CPU, encoded, opened, recipe_of


def damage(file: Path, change: str) -> None:
    """Damage a file of latents in one of several ways."""
    with safe_open(file, framework="pt") as opened_file:
        metadata = opened_file.metadata()
    tensors = load_file(file)
    if change == "flipped bits":
        written = bytearray(file.read_bytes())
        for place in range(len(written) - 200, len(written), 7):
            written[place] ^= 16
        file.write_bytes(written)
        return
    if change == "means of NaN":
        tensors["mean"].fill_(torch.nan)
    elif change == "labels of 99":
        tensors["label"].fill_(99)
    elif change == "other labels":
        tensors["label"] = 1 - tensors["label"]
    elif change == "fewer items":
        tensors = {name: tensor[:-1].contiguous() for name, tensor in tensors.items()}
    save_file(tensors, file, metadata=metadata)


@pytest.mark.parametrize(
    "change", ["flipped bits", "means of NaN", "labels of 99", "other labels", "fewer items"]
)
def test_damaged_latents_are_refused_and_repaired(pictures, vae, tmp_path, monkeypatch, change):
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    opened(recipe)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    kept = (folder / "latents-00000.safetensors").stat().st_ino
    damage(folder / "latents-00001.safetensors", change)
    with pytest.raises(UserError, match=r"latents-00001\.safetensors is .*acdit encode"):
        opened(recipe)
    arguments: Any = {"seed": recipe.training.seed, "device": CPU, "batch": 8, "verify": True}
    encode_pixels(folder, recipe.data, recipe.autoencoder, **arguments)
    opened(recipe)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert (folder / "latents-00000.safetensors").stat().st_ino == kept


def test_a_file_of_latents_is_read_once_on_each_machine(pictures, vae, tmp_path, monkeypatch):
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    opened(recipe)
    read = []
    monkeypatch.setattr("acdit.data.shard_checks.is_sound", lambda path, _: read.append(path.name) or True)
    opened(recipe)
    assert read == []
    (folder / "latents-00001.safetensors").touch()
    opened(recipe)
    assert read == ["latents-00001.safetensors"]
