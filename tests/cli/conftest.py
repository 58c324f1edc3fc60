import pytest

from tests.cli.text_model import saved_model


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of a small model of text."""
    return saved_model(tmp_path_factory.mktemp("text") / "model")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own to work in, without the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
