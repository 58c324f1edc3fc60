"""Models for sets of samples, and the command that draws one."""

from pathlib import Path

import pytest

from acdit.cli.main import main
from tests.pipelines.small import build, network, small_autoencoder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Saved pipelines for images of 8x8 pixels; three classes, or none."""
    folder = tmp_path_factory.mktemp("models")
    built = {
        "grey": build(network(4)),
        "other": build(network(4, seed=1)),
        "colour": build(network(12)),
        "latent": build(network(16), grid=(2, 2), block=(1, 1), vae=small_autoencoder()),
        "unconditional": build(network(4, num_classes=None)),
    }
    for name, pipeline in built.items():
        pipeline.save_pretrained(folder / name)
    return {name: str(folder / name) for name in built}


@pytest.fixture
def drawn(models, tmp_path):
    """Runs the command for a set of 20 images, unless told otherwise, and returns the path of its output."""

    def run(out="samples.npz", *more, model="grey", batch=8, count=20) -> Path:
        words = ["--model", models[model], "--batch", str(batch), "--count", str(count), "--steps", "2"]
        assert main(["sample", *words, *more, "--out", str(tmp_path / out)]) == 0
        return tmp_path / out

    return run
