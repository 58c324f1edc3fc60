"""Latents on disk: what encoding writes, what training reads of it, and what is refused."""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from acdit.cli.main import main
from acdit.data.autoencoders import encode, load_autoencoder
from acdit.data.encoding import encode_pixels
from acdit.data.latents import LatentDataset, open_latents, read_manifest
from acdit.data.opening import open_samples
from acdit.training.config import Recipe
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError
from tests.evaluation.stored import score, stored
from tests.tiny import relative_error

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> str:
    """A saved autoencoder of grey images with latent cells of 2x2 pixels and three channels."""
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
        "shift_factor": 0.1,
    }
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKL(**config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two classes of 5 and 6 grey pictures of 12x12 pixels."""
    levels = np.random.default_rng(0)
    for name, count in (("ant", 5), ("bee", 6)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(count):
            drawn = levels.integers(0, 256, (12, 12), dtype=np.uint8)
            Image.fromarray(drawn).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


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


def test_files_hold_what_the_autoencoder_says_of_images_and_their_mirror_images(pictures, vae):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 2)
    images, model = open_samples(recipe.data, seed=0), load_autoencoder(vae)
    manifest = read_manifest(folder)
    assert manifest["count"] == 11 and [shard["count"] for shard in manifest["shards"]] == [3, 3, 3, 2]
    assert manifest["label_names"] == ["ant", "bee"] and manifest["shape"] == [3, 4, 4]
    for number, shard in enumerate(manifest["shards"]):
        stored = load_file(folder / shard["file"])
        for row, index in enumerate(stored["index"].tolist()):
            assert index == 3 * number + row
            pixels, label = images.read(index)
            assert int(stored["label"][row]) == label
            for variant, picture in enumerate((pixels, pixels.flip(-1))):
                mean, deviation = encode(model, picture[None])
                assert relative_error(stored["mean"][row, variant], mean[0]) < 1e-5
                assert relative_error(stored["deviation"][row, variant], deviation[0]) < 1e-5


def test_few_labels_are_chosen_among_the_latents_of_all(pictures, vae):
    every, few = (recipe_of(pictures, vae, **{"data.labels_per_class": count}) for count in (None, 2))
    assert contents(encoded(few, 4)) == contents(encoded(every, 4))  # one set of latents serves both
    data, chosen = opened(every), opened(few)
    assert chosen.labels.tolist() == [0, 0, 1, 1] and chosen.identity.counts == (2, 2)
    assert chosen.identity.digest != data.identity.digest
    means = torch.cat([load_file(few.latents / file)["mean"] for file in data.files])  # (11, 2, C, h, w)
    for index in range(4):
        drawn = torch.stack([chosen.drawn(epoch, index, False)[0] for epoch in range(100)]).mean(0)
        nearest = (means[:, 0] - drawn).flatten(1).norm(dim=1).argmin()
        assert int(data.labels[nearest]) == int(chosen.labels[index])
    with pytest.raises(UserError, match=r"class 'ant' of .* has 5 training samples"):
        opened(recipe_of(pictures, vae, **{"data.labels_per_class": 6}))


def test_every_visit_draws_from_mean_and_deviation(pictures, vae):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    data = opened(recipe)
    assert len(data) == 11 and (data.channels, data.size) == (3, (4, 4))
    assert data.labels.tolist() == [0] * 5 + [1] * 6
    stored = load_file(folder / "latents-00001.safetensors")  # images 3, 4 and 5
    for index, row in ((3, 0), (5, 2)):
        drawn = torch.stack([data.drawn(epoch, index, False)[0] for epoch in range(400)])
        mirrored = torch.stack([data.drawn(epoch, index, True)[0] for epoch in range(400)])
        for variant, draws in enumerate((drawn, mirrored)):
            spread = stored["deviation"][row, variant]
            distance = (draws.mean(0) - stored["mean"][row, variant]) / (spread / 400**0.5)
            assert distance.abs().max() < 5  # standard errors
            assert (draws.std(0) / spread - 1).abs().max() < 0.25
    first, again, later = (data[(epoch, 3)] for epoch in (0, 0, 1))
    assert torch.equal(first["data"], again["data"]) and not torch.equal(first["data"], later["data"])
    assert (first["label"], first["epoch"], first["index"]) == (0, 0, 3)


def test_half_of_the_visits_see_the_mirror_image_unless_flip_is_off(pictures, vae):
    for flip, low, high in ((True, 0.4, 0.6), (False, 0.0, 0.0)):
        recipe = recipe_of(
            pictures, vae, **{"data.flip": flip, "autoencoder.latents": str(pictures.parent / str(flip))}
        )
        folder = encoded(recipe, 8)
        stored, data = load_file(folder / "latents-00000.safetensors"), opened(recipe)
        assert stored["mean"].shape[1] == 1 + flip
        seen = [
            bool(
                (data[(epoch, 0)]["data"] - stored["mean"][0, 0]).norm()
                > (data[(epoch, 0)]["data"] - stored["mean"][0, -1]).norm()
            )
            for epoch in range(200)
        ]
        assert low <= sum(seen) / 200 <= high


def test_what_was_encoded_is_kept_and_the_rest_comes_out_the_same(pictures, vae):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 2)
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
    assert manifest["count"] == len(data) == 10 and list(manifest["skipped"]) == ["1"]
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
    assert skipped.pop("1").startswith("OSError") and skipped == left_out
    keys = ["--data.source", str(pictures), "--data.image_size", "8", "--data.flip", "true"]
    keys += ["--autoencoder.model", vae, "--autoencoder.latents", str(recipe.latents), "--layout.patch", "1"]
    keys += ["--autoencoder.dtype", "float32", "--autoencoder.shard_size", "3", "--data.channels", "1"]
    assert main(["encode", "digits", *keys]) == 0
    assert "10 images; 3 could not be read" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data.image_size": 12}, "data.image_size"),
        ({"data.flip": False}, "data.flip"),
        ({"data.channels": 3}, "data.channels"),
        ({"autoencoder.dtype": "float16"}, "dtype"),
    ],
)
def test_training_refuses_latents_of_another_recipe(pictures, vae, changes, named):
    encoded(recipe_of(pictures, vae), 8)
    with pytest.raises(UserError, match=f"differences: {named}"):
        opened(recipe_of(pictures, vae, **changes))


def test_latents_belong_to_the_weights_of_their_autoencoder(pictures, vae, tmp_path):
    encoded(recipe_of(pictures, vae), 8)
    moved = shutil.copytree(vae, tmp_path / "moved")
    assert len(opened(recipe_of(pictures, str(moved)))) == 11
    tensors = load_file(moved / "diffusion_pytorch_model.safetensors")
    tensors["encoder.conv_in.bias"] += 1e-3
    save_file(tensors, moved / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match=r"autoencoder\.weights"):
        opened(recipe_of(pictures, str(moved)))


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


def test_unfinished_damaged_and_newer_latents(pictures, vae):
    recipe = recipe_of(pictures, vae)
    with pytest.raises(UserError, match="run acdit encode"):
        opened(recipe)
    folder = encoded(recipe, 8)
    manifest = folder / "manifest.json"
    written = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(written) | {"format_version": 2}))
    with pytest.raises(UserError, match="format version 2"):
        opened(recipe)
    manifest.write_text(written[:100])
    with pytest.raises(UserError, match="is damaged"):
        opened(recipe)
    manifest.write_text(written)
    (folder / "latents-00002.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match=r"latents-00002\.safetensors is missing or truncated"):
        opened(recipe)


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


def test_images_and_autoencoder_must_fit(pictures, vae, tmp_path):
    for changes, named in (
        ({"data.channels": 3}, "takes 1 channels, but data.channels is 3"),
        ({"data.image_size": 9}, "data.image_size must be a multiple of 2, the side of a latent cell"),
        ({"autoencoder.model": None}, "autoencoder.model is not set"),
    ):
        with pytest.raises(UserError, match=named):
            encoded(recipe_of(pictures, vae, **changes), 8)
    loud = shutil.copytree(vae, tmp_path / "loud")
    config = json.loads((loud / "config.json").read_text())
    (loud / "config.json").write_text(json.dumps(config | {"scaling_factor": 1e7}))
    with pytest.raises(UserError, match="too large for"):
        encoded(recipe_of(pictures, str(loud), **{"autoencoder.dtype": "float16"}), 8)
    assert not (pictures.parent / "latents").exists() or not list((pictures.parent / "latents").iterdir())


def test_the_road_from_pictures_to_scores(vae, tmp_path, capsys, monkeypatch):
    """Encode, train, sample and evaluate by four commands, on the 8x8 digits."""
    monkeypatch.chdir(tmp_path)
    keys = ["--autoencoder.model", vae, "--layout.patch", "1", "--out", "run"]
    assert main(["encode", "digits", *keys, "--batch", "256"]) == 0
    assert "latents/digits holds latents of 1,438 images; 0 could not be read" in capsys.readouterr().out
    assert main(["train", "digits", *keys, "--training.steps", "2", "--training.batch_size", "4"]) == 0
    index = json.loads(Path("run/pipeline/model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"] and index["vae_scale_factor"] == 2
    assert main(["sample", "--model", "run", "--steps", "1", "--samples", "1", "--labels", "3,4"]) == 0
    assert main(["evaluate", "--model", "run", "--steps", "1", "--count", "20", "--out", "scores.json"]) == 0
    (report,) = stored("scores.json")
    assert report["settings"]["evaluations"] == 4 and 0 <= score(report, "label_accuracy")["value"] <= 1


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


def test_latents_of_an_earlier_order_of_classes_keep_it_or_are_refused(tmp_path, vae):
    """An earlier version sorted the names 9 and 10 as text, and did not write them in files of latents."""
    for name, shade in (("9", 40), ("10", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), shade).save(tmp_path / "pictures" / name / f"{number}.png")
    recipe = recipe_of(tmp_path / "pictures", vae)
    folder = encoded(recipe, 3)
    assert opened(recipe).label_names == ("9", "10")
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["acdit"])
        assert header.pop("identity")["label_names"] == ["9", "10"]
        save_file(load_file(path), path, metadata={"acdit": json.dumps(header)})
    manifest = folder / "manifest.json"
    written = json.loads(manifest.read_text())
    sizes = [{**shard, "bytes": (folder / shard["file"]).stat().st_size} for shard in written["shards"]]
    earlier = written | {"shards": sizes, "label_names": ["10", "9"], "data": None}
    manifest.write_text(json.dumps(earlier))
    assert opened(recipe).label_names == ("10", "9")  # training reads the order that was written
    with pytest.raises(UserError, match=r"label_names was \[.10., .9.\] and is \[.9., .10.\]"):
        encoded(recipe, 3)
    manifest.unlink()
    with pytest.raises(UserError, match=r"do not record the order of their classes, which may be 10, 9 .."):
        encoded(recipe, 3)
