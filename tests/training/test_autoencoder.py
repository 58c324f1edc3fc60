"""Training an autoencoder: its losses by closed form, its scaling, and stopping and going on."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from acdit.cli.main import main
from acdit.data.autoencoders import encode, load_autoencoder
from acdit.data.opening import open_samples
from acdit.training import autoencoder
from acdit.training.autoencoder import build_autoencoder, losses, train_autoencoder
from acdit.training.autoencoder_config import AutoencoderRecipe
from acdit.training.checkpoint import newest_checkpoint
from acdit.training.recipes import recipe_names, recipe_to_yaml, recipe_values
from acdit.utils.errors import UserError
from acdit.utils.randomness import generator
from acdit.utils.settings import build
from tests.tiny import relative_error
from tests.training.small import damaged_pictures

CPU = torch.device("cpu")


def recipe_of(out: Path, **changes) -> AutoencoderRecipe:
    """Two stages on the 8x8 digits, a few steps."""
    keys = {"data.source": "digits", "model.channels": [4, 8], "model.latent_channels": 2, "batch_size": 8}
    keys |= {"steps": 6, "checkpoint_every": 2, "name": "tiny", "out": str(out)}
    return build(AutoencoderRecipe, recipe_values("mnist", AutoencoderRecipe) | keys | changes)


def test_losses_are_squared_error_and_divergence_per_pixel(tmp_path):
    recipe = recipe_of(tmp_path)
    data = open_samples(recipe.data, seed=0)
    network: Any = build_autoencoder(recipe, data)
    batch = torch.utils.data.default_collate([data[(2, index)] for index in (5, 9, 11)])
    with torch.no_grad():
        error, divergence = losses(network, batch, 7, CPU)
        moments = network.encoder(batch["data"])
        moments = moments if network.quant_conv is None else network.quant_conv(moments)
        mean, log_variance = moments.double().chunk(2, dim=1)
        noise = torch.stack(
            [
                torch.randn(mean.shape[1:], generator=generator(7, "posterior", 2, index))
                for index in (5, 9, 11)
            ]
        )
        latents = mean + (0.5 * log_variance).exp() * noise
        decoded = network.decode(latents.float()).sample
    expected = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / (3 * 64)
    assert relative_error(divergence, expected) < 1e-5
    assert relative_error(error, (decoded - batch["data"]).double().square().mean()) < 1e-5


@pytest.mark.parametrize("stages", [3, 5])
def test_images_that_cells_do_not_divide_are_refused(tmp_path, stages):
    folder = damaged_pictures(tmp_path / "pictures", every=100)
    keys = {"data.source": folder, "data.image_size": 10, "data.channels": 1, "model.channels": [4] * stages}
    message = rf"data\.image_size must be a multiple of {2 ** (stages - 1)}, .*, not 10$"
    with pytest.raises(UserError, match=message):
        train_autoencoder(recipe_of(tmp_path / "run", **keys), CPU)


class Stopped(Exception):
    """The power goes out."""


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole = train_autoencoder(recipe_of(tmp_path / "whole"), CPU)
    recipe = recipe_of(tmp_path / "cut", checkpoint_every=3)
    counted = iter(range(10))

    def power_cut(*arguments):
        if next(counted) == 4:
            raise Stopped
        return losses(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(autoencoder, "losses", power_cut)
        with pytest.raises(Stopped):
            train_autoencoder(recipe, CPU)
    assert not (tmp_path / "cut" / "vae").exists()
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["step-00000003"]
    resumed = train_autoencoder(recipe, CPU)
    for name in ("diffusion_pytorch_model.safetensors", "config.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_latents_are_scaled_to_mean_zero_and_deviation_one(tmp_path):
    recipe = recipe_of(tmp_path, steps=20)
    train_autoencoder(recipe, CPU)
    vae, data = load_autoencoder(tmp_path), open_samples(recipe.data, seed=0)
    mean, deviation = encode(vae, torch.stack([data.read(index)[0] for index in range(1000)]))
    drawn = mean + deviation * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    assert abs(drawn.mean()) < 0.05 and abs(drawn.std() - 1) < 0.05


def test_it_learns(tmp_path):
    recipe = recipe_of(tmp_path, steps=60, batch_size=32, **{"model.channels": [16, 16]})
    data = open_samples(recipe.data, seed=0)
    pixels = torch.stack([data.read(index)[0] for index in range(64)])
    fresh = build_autoencoder(recipe, data).eval()
    train_autoencoder(recipe, CPU)
    trained = load_autoencoder(tmp_path)

    def error(vae):
        with torch.no_grad():
            return (vae.decode(vae.encode(pixels).latent_dist.mean).sample - pixels).square().mean()

    assert error(trained) < 0.4 * error(fresh)
    assert error(trained) < 0.8 * (pixels - pixels.mean(0)).square().mean()  # no picture alone does that


def test_too_many_damaged_pictures_end_the_run_with_its_state_saved(tmp_path, capfd):
    keys = {
        "data.source": damaged_pictures(tmp_path / "pictures", every=4),
        "data.image_size": 8,
        "data.channels": 1,
    }
    out = tmp_path / "run"
    with pytest.raises(UserError, match=r"[1-6] images cannot be read, more than data.max_unreadable 0; "):
        train_autoencoder(recipe_of(out, **keys, **{"data.max_unreadable": 0}), CPU)
    stored = newest_checkpoint(out / "checkpoints")
    assert stored is not None and 1 <= stored.step < 6
    capfd.readouterr()
    assert train_autoencoder(recipe_of(out, **keys, **{"data.max_unreadable": 6}), CPU) == out / "vae"
    said = capfd.readouterr().err
    assert re.search(r"skipped [1-6] items?: .*/cat/\d\d\.png: ", said)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path):
    train_autoencoder(recipe_of(tmp_path, steps=2), CPU)
    with pytest.raises(UserError, match="differences: kl_weight"):
        train_autoencoder(recipe_of(tmp_path, steps=2, kl_weight=0.5), CPU)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["autoencoder", "mnist", "--data.source", "digits", "--model.channels", "4,8", "--steps", "1"]
    assert main([*words, "--batch_size", "4", "--out", "run"]) == 0
    assert Path("run/vae/config.json").exists() and "run/vae" in capsys.readouterr().out
    assert main(["autoencoder", "mnist", "--model.channels", "6"]) == 2
    assert "model.channels must be multiples of 4" in capsys.readouterr().err
    assert main(["autoencoder", "none"]) == 2
    assert "choose one of mnist" in capsys.readouterr().err
    assert main(["autoencoder", "mnist", "--print_config", "--device", "cpu"]) == 0
    Path("mine.yaml").write_text(capsys.readouterr().out)
    assert recipe_values("mine.yaml", AutoencoderRecipe)["name"] == "mnist-autoencoder"


@pytest.mark.parametrize("name", recipe_names(AutoencoderRecipe))
def test_shipped_recipes_read_back(name, tmp_path):
    recipe = build(AutoencoderRecipe, recipe_values(name, AutoencoderRecipe))
    (tmp_path / "again.yaml").write_text(recipe_to_yaml(recipe))
    assert build(AutoencoderRecipe, recipe_values(tmp_path / "again.yaml", AutoencoderRecipe)) == recipe


def test_texts_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"an autoencoder is for images, not for texts: leave out data\.tokens"
    ):
        recipe_of(tmp_path, **{"data.source": "shakespeare", "data.tokens": 64})
