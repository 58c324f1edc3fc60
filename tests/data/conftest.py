"""Fixtures of the tests of latents."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import grey_autoencoder


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> str:
    """A saved autoencoder of grey images with latent cells of 2x2 pixels and three channels."""
    folder = tmp_path_factory.mktemp("vae")
    grey_autoencoder(scaling_factor=0.5, shift_factor=0.1).save_pretrained(folder)
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
