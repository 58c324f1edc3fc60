"""Latents on disk: what the files hold, what training reads of them, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from acdit.cli.main import main
from acdit.data.autoencoders import encode, load_autoencoder
from acdit.data.latents import read_manifest
from acdit.data.opening import open_samples
from acdit.utils.errors import UserError
from tests.data.latent_files import contents, encoded, opened, recipe_of
from tests.evaluation.stored import score, stored
from tests.tiny import relative_error


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
    assert "latents/digits holds latents of 1,438 images; 0 skipped" in capsys.readouterr().out
    assert main(["train", "digits", *keys, "--training.steps", "2", "--training.batch_size", "4"]) == 0
    index = json.loads(Path("run/pipeline/model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"] and index["vae_scale_factor"] == 2
    assert main(["sample", "--model", "run", "--steps", "1", "--samples", "1", "--labels", "3,4"]) == 0
    assert main(["evaluate", "--model", "run", "--steps", "1", "--count", "20", "--out", "scores.json"]) == 0
    (report,) = stored("scores.json")
    assert report["settings"]["evaluations"] == 4 and 0 <= score(report, "label_accuracy")["value"] <= 1


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
