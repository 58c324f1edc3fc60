"""Between pixels and what the network works on: autoencoders, their scaling, and the pixel range."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image

from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import SCALE, SHIFT, build, latents_of, network, picture, quiet, seeded
from tests.tiny import relative_error


def test_latents_are_unscaled_and_decoded(latent_pipe):
    latents = latents_of(latent_pipe, [0, 1], generator=seeded(1, 2))
    assert latents.shape == (2, 4, 4, 4)
    images = latent_pipe([0, 1], generator=seeded(1, 2), output_type="pt").images
    with torch.no_grad():
        decoded = latent_pipe.vae.decode(latents / SCALE + SHIFT).sample
    assert images.shape == (2, 3, 8, 8)
    assert relative_error(images, (decoded / 2 + 0.5).clamp(0, 1)) < 1e-5
    assert images.std() > 0.01


def test_a_latent_network_alone_draws_the_same_latents(latent_pipe):
    alone = build(latent_pipe.transformer, patch=(1, 1))
    expected = latents_of(alone, [0, 1], generator=seeded(1, 2))
    assert torch.equal(latents_of(latent_pipe, [0, 1], generator=seeded(1, 2)), expected)


def test_a_prefix_is_encoded_and_scaled(latent_pipe):
    image = picture(3)
    scaled = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        encoded = (latent_pipe.vae.encode(scaled).latent_dist.mode() - SHIFT) * SCALE
    made = latents_of(latent_pipe, [0, 1], image=image, keep_blocks=2, generator=seeded(1, 2))
    assert relative_error(made[:, :, :2], encoded[:, :, :2].expand(2, -1, -1, -1)) < 1e-5
    assert relative_error(made[:, :, 2:], encoded[:, :, 2:].expand(2, -1, -1, -1)) > 0.1


def test_height_and_width_are_in_pixels_of_the_image(latent_pipe):
    made = latent_pipe(0, height=4, width=16)
    assert made.images[0].size == (16, 4) and made.evaluations == 4 * 3
    with pytest.raises(UserError, match="multiple of 2"):
        latent_pipe(0, height=5)


def test_save_and_load_with_an_autoencoder(latent_pipe, tmp_path):
    latent_pipe.save_pretrained(tmp_path)
    suffixes = {file.suffix for file in tmp_path.rglob("*") if file.is_file()}
    assert suffixes == {".json", ".safetensors", ".py"}
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderKL"]
    loaded = quiet(load_pipeline(tmp_path))
    before, after = (
        pipeline([0, 1], generator=seeded(1, 2), output_type="np").images
        for pipeline in (latent_pipe, loaded)
    )
    assert np.array_equal(before, after)
    assert loaded.vae.config["scaling_factor"] == SCALE


def test_an_autoencoder_without_a_distribution():
    """Any diffusers autoencoder serves: this one answers latents, and has no shift."""
    torch.manual_seed(0)
    vae: Any = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        scaling_factor=0.8,
    ).eval()
    pipeline = build(network(4), vae=vae, patch=(1, 1))
    latents = latents_of(pipeline, 0, generator=seeded(1))
    images = pipeline(0, generator=seeded(1), output_type="pt").images
    with torch.no_grad():
        decoded = vae.decode(latents / 0.8).sample
        encoded = vae.encode(torch.ones(1, 3, 8, 8)).latents * 0.8
    assert relative_error(images, (decoded / 2 + 0.5).clamp(0, 1)) < 1e-5
    white = Image.new("RGB", (8, 8), "white")
    made = latents_of(pipeline, 0, image=white, keep_blocks=2)
    assert relative_error(made[:, :, :2], encoded[:, :, :2]) < 1e-5


def test_pixel_range_is_that_of_the_data():
    """A network that was trained on pixels in 0..1 gives and takes pixels in 0..1."""
    pipeline = build(network(12), pixel_range=(0.0, 1.0))
    latents = latents_of(pipeline, 0, generator=seeded(1))
    images = pipeline(0, generator=seeded(1), output_type="pt").images
    assert relative_error(images, latents.clamp(0, 1)) < 1e-5
    image = picture(3)
    kept = latents_of(pipeline, 0, image=image, keep_blocks=2)[:, :, :4]
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    assert relative_error(kept, expected[:, :, :4]) < 1e-5
