"""Encoding of pictures to latents on disk: resumed, shared by ranks, with damaged pictures, and refused."""

import resource
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from acdit.cli.main import main
from acdit.data.autoencoders import encode, load_autoencoder
from acdit.data.encoding import encode_pixels
from acdit.data.latents import read_manifest
from acdit.data.opening import open_samples
from acdit.utils.errors import UserError
from tests.data.latent_files import CPU, contents, encode_latents, encoded, opened, recipe_of
from tests.tiny import relative_error


def test_what_was_encoded_is_kept_and_the_rest_comes_out_the_same(pictures, vae):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 2)
    shutil.copy(folder / "latents-00000.safetensors", folder / "latents-00000.bak.safetensors")
    before = contents(folder)
    kept = (folder / "latents-00000.safetensors").stat().st_mtime_ns
    (folder / "latents-00001.safetensors").unlink()
    (folder / "manifest.json").unlink()
    cut = folder / "latents-00003.safetensors"
    cut.write_bytes(cut.read_bytes()[:50])
    encoded(recipe, 2)
    assert contents(folder) == before
    assert (folder / "latents-00000.safetensors").stat().st_mtime_ns == kept


def test_ranks_share_the_files_and_the_last_writes_the_manifest(pictures, vae, monkeypatch):
    whole = contents(encoded(recipe_of(pictures, vae), 2))
    recipe = recipe_of(pictures, vae, **{"autoencoder.latents": str(pictures.parent / "shared")})
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        assert not (recipe.latents / "manifest.json").exists()
        monkeypatch.setenv("RANK", rank)
        manifest = encode_latents(recipe, 2)
        assert (manifest is None) == (rank == "1")
    assert contents(recipe.latents) == whole


def test_unreadable_pictures_are_left_out_and_counted(pictures, vae):
    cut = pictures / "ant" / "1.png"
    cut.write_bytes(cut.read_bytes()[:60])  # its header is whole
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 2)
    manifest, data = read_manifest(folder), opened(recipe)
    assert manifest["count"] == len(data) == 10 and list(manifest["skipped"]) == [str(cut)]
    assert data.labels.tolist() == [0] * 4 + [1] * 6
    mean, _ = encode(load_autoencoder(vae), open_samples(recipe.data, seed=0).read(10)[0][None])
    draws = torch.stack([data.drawn(epoch, 9, False)[0] for epoch in range(200)])
    assert relative_error(draws.mean(0), mean[0]) < 0.5


def test_files_that_are_left_out_before_encoding_are_counted_too(pictures, vae, capsys):
    (pictures / "ant" / "notes.txt").write_text("a text")
    cut = pictures / "ant" / "1.png"
    cut.write_bytes(cut.read_bytes()[:60])
    shutil.copy(pictures / "ant" / "0.png", pictures / "loose.png")
    recipe = recipe_of(pictures, vae)
    skipped = read_manifest(encoded(recipe, 4))["skipped"]
    left_out = {
        str(pictures / "ant" / "notes.txt"): "not an image",
        str(pictures / "loose.png"): "is not in a class folder",
    }
    reason = skipped.pop(str(cut))
    assert reason.startswith("OSError") and skipped == left_out
    keys = ["--data.source", str(pictures), "--data.image_size", "8", "--data.flip", "true"]
    keys += ["--autoencoder.model", vae, "--autoencoder.latents", str(recipe.latents), "--layout.patch", "1"]
    keys += ["--autoencoder.dtype", "float32", "--autoencoder.shard_size", "3", "--data.channels", "1"]
    assert main(["encode", "digits", *keys]) == 0
    printed = capsys.readouterr().out
    assert "10 images; 3 skipped: " in printed and f"{cut}: {reason}" in printed


def test_a_file_without_any_readable_picture(pictures, vae):
    for number in range(3):  # the whole of the first file
        path = pictures / "ant" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:60])
    recipe = recipe_of(pictures, vae)
    encoded(recipe, 4)
    data = opened(recipe)
    assert len(data) == 8 and data[(0, 0)]["label"] == 0 and data[(0, 7)]["label"] == 1


@pytest.mark.parametrize("cut", [60, 4], ids=["damaged", "no image"])
def test_a_class_without_a_readable_picture_is_one_clear_error(pictures, vae, cut):
    for path in (pictures / "ant").iterdir():
        path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="ant"):
        encoded(recipe_of(pictures, vae), 4)


def test_encoding_leaves_latents_of_other_settings_alone(pictures, vae):
    folder = encoded(recipe_of(pictures, vae), 8)
    before = contents(folder)
    for changes, named in (
        ({"data.image_size": 12}, "data.image_size"),
        ({"autoencoder.shard_size": 4}, "shard_size"),
    ):
        with pytest.raises(UserError, match=named):
            encoded(recipe_of(pictures, vae, **changes), 8)
    shutil.copy(pictures / "ant" / "0.png", pictures / "ant" / "9.png")
    with pytest.raises(UserError, match="differences: images"):
        encoded(recipe_of(pictures, vae), 8)
    assert contents(folder) == before


def test_tensors_of_other_programs_are_left_alone(pictures, vae):
    recipe = recipe_of(pictures, vae)
    recipe.latents.mkdir()
    own = recipe.latents / "latents-00001.safetensors"
    save_file({"latents": torch.ones(2, 3)}, own, metadata={"made by": "another"})
    before = contents(recipe.latents)
    for verify in (False, True):
        with pytest.raises(UserError, match=r"00001\.safetensors is not a file of latents and would be rep"):
            encode_pixels(
                recipe.latents, recipe.data, recipe.autoencoder, seed=0, device=CPU, batch=8, verify=verify
            )
    assert contents(recipe.latents) == before
    own.unlink()
    encoded(recipe, 8)


def test_a_disk_that_refuses_keeps_what_was_written(pictures, vae):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    before = contents(folder)
    (folder / "manifest.json").unlink()
    (folder / "latents-00002.safetensors").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = len(before["latents-00002.safetensors"]) - 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            encoded(recipe, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(folder) == {
        name: content for name, content in before.items() if "manifest" not in name and "00002" not in name
    }
    encoded(recipe, 8)
    assert contents(folder) == before


@pytest.mark.long
def test_a_killed_encoding_goes_on_and_ends_with_the_same_bytes(vae, tmp_path):
    """SIGKILL at some moment after the first file, then the same command again."""
    command = [sys.executable, "-m", "acdit", "encode", "digits", "--autoencoder.model", vae]
    command += ["--autoencoder.shard_size", "10", "--batch", "5", "--autoencoder.latents"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=300)
    broken = tmp_path / "broken"
    for pause in (0.3, 0.05):
        process = subprocess.Popen([*command, str(broken)])
        count = len(list(broken.glob("latents-*")))
        while len(list(broken.glob("latents-*"))) == count and process.poll() is None:
            time.sleep(0.005)
        time.sleep(pause)
        process.kill()
        process.wait(timeout=60)
    left = list(broken.glob("latents-*"))
    assert 0 < len(left) < 144 and not (broken / "manifest.json").exists()  # it was killed on the way
    subprocess.run([*command, str(broken)], check=True, timeout=300)
    found = {name: content for name, content in contents(broken).items() if not name.startswith(".")}
    assert found == contents(tmp_path / "whole")
