import pytest

from tests.playground.models import save_models
from tests.playground.page import served


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of tiny models, by their names on the page."""
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def page(folders):
    """A page of these models and those of the package."""
    with served(*folders.values()) as page:
        yield page
