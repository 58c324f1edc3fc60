"""Fixtures of the tests of latents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image


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
