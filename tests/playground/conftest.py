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


@pytest.fixture(scope="package")
def address():
    """Address of a page of the models in the package, served by a process of its own."""
    from tests.playground.browser import served  # needs playwright, which only the long tests do

    with served() as address:
        yield address


@pytest.fixture(scope="module")
def browser(address):
    """Chromium. The server is started before it, for both take a while."""
    from tests.playground.browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def watched(browser, address):
    """The page in a browser; at the end, it must have met no error and asked nobody else."""
    from tests.playground.browser import Watched

    watched = Watched(browser, address)
    yield watched
    watched.close()
