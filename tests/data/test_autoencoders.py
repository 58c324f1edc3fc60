"""Autoencoders: the statistics of latents against diffusers' own, and what is not loaded."""

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

from acdit.data.autoencoders import decode, encode, load_autoencoder, scale_factor
from acdit.utils.errors import UserError
from tests.pipelines.small import SCALE, SHIFT, small_autoencoder
from tests.tiny import relative_error

PIXELS = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_mean_and_deviation_are_those_of_scaled_draws():
    """Mean and deviation describe what one gets by drawing a latent and scaling it as diffusers does."""
    vae = small_autoencoder()
    mean, deviation = encode(vae, PIXELS)
    assert mean.shape == deviation.shape == (2, 4, 4, 6)
    with torch.no_grad():
        drawn = vae.encode(PIXELS).latent_dist
    source = torch.Generator().manual_seed(1)
    expected = (drawn.sample(source) - SHIFT) * SCALE
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    assert relative_error(mean + deviation * noise, expected) < 1e-5
    assert (deviation > 0).all()


def test_decode_undoes_the_scaling_of_encode():
    vae = small_autoencoder()
    with torch.no_grad():
        raw = vae.encode(PIXELS).latent_dist.mean
        assert relative_error(decode(vae, encode(vae, PIXELS)[0]), vae.decode(raw).sample) < 1e-5


def test_statistics_of_the_channels_take_the_place_of_the_shift():
    """As the pipelines of SDXL do it: latents * std / scaling_factor + mean."""
    vae = small_autoencoder()
    means, spreads = [0.1, -0.2, 0.3, 0.0], [1.5, 0.5, 2.0, 1.0]
    vae.register_to_config(latents_mean=means, latents_std=spreads)
    raw = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    scaled = (raw - torch.tensor(means)[:, None, None]) * SCALE / torch.tensor(spreads)[:, None, None]
    with torch.no_grad():
        assert relative_error(decode(vae, scaled), vae.decode(raw).sample) < 1e-5
        expected = vae.encode(PIXELS).latent_dist
    mean, deviation = encode(vae, PIXELS)
    shifted = (expected.mean - torch.tensor(means)[:, None, None]) * SCALE
    assert relative_error(mean, shifted / torch.tensor(spreads)[:, None, None]) < 1e-5
    assert relative_error(deviation, expected.std * SCALE / torch.tensor(spreads)[:, None, None]) < 1e-5


def test_pixels_of_a_latent_cell():
    assert scale_factor(None) == 1
    assert scale_factor(small_autoencoder()) == 2


def test_loading_by_folder_and_from_a_whole_pipeline(tmp_path):
    vae = small_autoencoder()
    vae.save_pretrained(tmp_path / "alone")
    vae.save_pretrained(tmp_path / "pipeline" / "vae")
    for name in ("alone", "pipeline"):
        loaded = load_autoencoder(tmp_path / name)
        assert isinstance(loaded, AutoencoderKL) and not loaded.training
        assert loaded.config["scaling_factor"] == SCALE
        assert torch.equal(encode(loaded, PIXELS)[0], encode(vae, PIXELS)[0])


def test_what_is_no_autoencoder_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        load_autoencoder(tmp_path / "nothing")
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(
        tmp_path / "tiny"
    )
    with pytest.raises(UserError, match="must be an AutoencoderKL"):
        load_autoencoder(tmp_path / "tiny")
    vae = small_autoencoder()
    vae.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_autoencoder(tmp_path / "pickled")
    vae.save_pretrained(tmp_path / "cut")
    weights = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_autoencoder(tmp_path / "cut")


def test_missing_weights_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    small_autoencoder().save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["decoder.conv_out.bias"]
    save_file(tensors, weights)
    with pytest.raises(UserError, match=r"decoder\.conv_out\.bias"):
        load_autoencoder(tmp_path)
