"""Record the page of `acdit demo` while it draws, as the animated picture of the README.

python docs/record_page.py

It starts the server and Chromium, both without a screen, and needs the packages of the extra `dev`.
"""

import sys
import time
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "page.gif"
VIEW = {"width": 1080, "height": 800}
FRAGMENT = "draw?label=3&block=4x4&steps=12&seed=0&compare=1&second=2x2"
WIDTH = 720  # pixels of the recording
COLOURS = 128
MOST_BYTES = 1_500_000
LAST_MS = 2500  # how long the finished picture is shown


def record() -> list[tuple[Image.Image, float]]:
    """Return screenshots of the page while it draws, each with the time at which it was taken in seconds."""
    sys.path.insert(0, str(ROOT))  # the tests start the same server and browser
    from tests.playground.browser import Watched, launched, served

    shots: list[tuple[Image.Image, float]] = []

    def take(page: Watched) -> None:
        taken = time.perf_counter()
        picture = Image.open(BytesIO(page.page.screenshot())).convert("RGB")
        shots.append((picture.resize((WIDTH, WIDTH * VIEW["height"] // VIEW["width"])), taken))

    with served() as address, launched() as browser:
        warm = Watched(browser, address, "draw?steps=1")  # the model is loaded before the recording
        warm.panel("draw").get_by_role("button", name="Draw", exact=True).click()
        warm.panel("draw").locator(".state", has_text="Finished in").wait_for()
        warm.close()
        watched = Watched(browser, address, FRAGMENT, viewport=VIEW, color_scheme="dark")
        panel = watched.panel("draw")
        take(watched)
        panel.get_by_role("button", name="Draw", exact=True).click()
        while not panel.locator(".state", has_text="Finished in").count():
            take(watched)
        take(watched)
        watched.close()
    return shots


def save(shots: list[tuple[Image.Image, float]]) -> int:
    """Write the recording, and return its size in bytes."""
    times = [taken for _, taken in shots]
    durations = [max(40, round(1000 * (later - taken))) for taken, later in pairwise(times)]
    palette = shots[-1][0].quantize(COLOURS)
    frames = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot, _ in shots]
    frames[0].save(
        OUT, save_all=True, append_images=frames[1:], duration=[*durations, LAST_MS], loop=0, optimize=True
    )
    return OUT.stat().st_size


if __name__ == "__main__":
    size = save(record())
    print(f"{OUT}: {size / 1e6:.2f} MB")
    if size > MOST_BYTES:
        sys.exit(f"the recording is larger than {MOST_BYTES / 1e6} MB: record fewer steps")
