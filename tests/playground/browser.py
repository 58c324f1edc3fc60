"""The page in headless Chromium: the server, the browser, and what the tests read from the page."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.playground.offline import OFFLINE, watched_process

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT = 60_000  # milliseconds within which anything that the tests wait for must happen
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Path of the browser; a test is skipped without one, and fails in CI."""
    paths = [path for name in NAMES if (path := shutil.which(name))]
    if paths:
        return paths[0]
    reason = "Chromium is not installed: run `sh tests/install_chromium.sh`, or `apt-get install chromium`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def served(*words: str) -> Iterator[str]:
    """Address of a page that `acdit demo` serves in a process of its own, which may not use the network."""
    command = [sys.executable, "-m", OFFLINE, "demo", "--port", "0", "--device", "cpu", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with (
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server,
        watched_process(server),
    ):
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "http://" in line, line
            yield next(word for word in line.split() if word.startswith("http://"))
            assert server.poll() is None, "the server has ended"
        finally:
            server.terminate()


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium without a screen."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Watched:
    """A page whose requests and errors are kept.

    Args:
        browser: the browser.
        address: address of the page.
        fragment: state of the page behind the `#` of its address.
        settings: settings of the browser's context, such as its colour scheme.
    """

    def __init__(self, browser: Browser, address: str, fragment: str = "draw", **settings: object):
        self.address, self.errors, self.requests = address, list[str](), list[str]()
        self.context = browser.new_context(**settings)  # pyright: ignore[reportArgumentType]
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.open(fragment)

    def open(self, fragment: str) -> None:
        """Load the page anew in a state."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/#{fragment}")
        self.page.wait_for_selector("html[data-ready]")

    def panel(self, name: str) -> Locator:
        """Panel of a tab."""
        return self.page.locator(f"#{name}")

    def close(self) -> None:
        """Close the page, and check that it asked nobody else and met no error."""
        self.context.close()
        elsewhere = [url for url in self.requests if not url.startswith((self.address, "data:", "blob:"))]
        assert elsewhere == ["about:blank"] * len(elsewhere)
        assert self.errors == [], self.errors

    def refusals(self) -> list[str]:
        """Take the errors that the browser writes about refused requests."""
        taken = [error for error in self.errors if "the server responded with a status of 4" in error]
        self.errors = [error for error in self.errors if error not in taken]
        return taken

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(text)


def pixels(canvas: Locator) -> np.ndarray:
    """Grey values (h, w) of a canvas."""
    url = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    return grey(url)


def grey(url: str) -> np.ndarray:
    """Grey values (h, w) of a picture's data URL."""
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("L"))


def seconds_of_drawing(page: Page) -> tuple[float, float]:
    """Draw a picture with the settings of the page; return the seconds to its first block and to its end."""
    return tuple(
        page.evaluate(
            """() => new Promise((resolve) => {
                const panel = document.getElementById("draw");
                const began = performance.now();
                let first = null;
                panel.querySelector("button[type=submit]").click();
                const look = () => {
                    const seconds = (performance.now() - began) / 1000;
                    if (panel.querySelector(".cells [data-state=done]")) first ??= seconds;
                    const state = panel.querySelector(".state").textContent;
                    if (state.startsWith("Finished")) resolve([first, seconds]);
                    else setTimeout(look, 5);
                };
                look();
            })"""
        )
    )


def gather(panel: Locator, canvas: Locator) -> None:
    """Begin to keep every different picture that a canvas shows, and every state of the blocks in a panel."""
    canvas.evaluate(
        """canvas => {
            window.shown = new Set();
            window.states = new Set();
            const look = () => {
                window.shown.add(canvas.toDataURL("image/png"));
                const cells = [...canvas.parentNode.querySelectorAll("[data-state]")];
                window.states.add(cells.map((cell) => cell.dataset.state).join(" "));
                if (!window.gathered) requestAnimationFrame(look);
            };
            window.gathered = false;
            look();
        }"""
    )
    panel.wait_for()


def gathered(page: Page) -> tuple[list[str], list[str]]:
    """Data URLs of the pictures that were gathered, and the states of the blocks; no more are gathered."""
    return page.evaluate("window.gathered = true, [[...window.shown], [...window.states]]")


def finished(panel: Locator, text: str) -> None:
    """Wait until a tab says that it is done, and check that it shows no error."""
    panel.locator(".state", has_text=text).wait_for()
    assert panel.get_by_role("alert").count() == 0


def press(watched: Watched, tab: str, name: str) -> None:
    """Press a button of a tab."""
    watched.panel(tab).get_by_role("button", name=name, exact=True).click()
