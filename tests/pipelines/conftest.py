import pytest

from tests.pipelines.small import build, network, small_autoencoder


@pytest.fixture(scope="session", params=[1, 3], ids=["grey", "RGB"])
def pixels(request):
    """A pipeline of grey pixels, and one of colour."""
    return build(network(4 * request.param))


@pytest.fixture(scope="session")
def pipe():
    """A pipeline of colour pixels."""
    return build(network(12))


@pytest.fixture(scope="session")
def latent_pipe():
    """A pipeline with an autoencoder: images 8x8, latents 4x4 with four channels."""
    return build(network(4), vae=small_autoencoder(), patch=(1, 1))
