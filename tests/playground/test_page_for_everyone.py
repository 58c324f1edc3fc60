"""The page of `acdit demo` for everyone: by keyboard, in light and dark, on a phone, by rules of axe-core."""

from io import BytesIO

import pytest
from PIL import Image

from tests.playground.browser import ROOT, Watched, finished, press

pytestmark = pytest.mark.long
SCREENSHOTS = ROOT / "out" / "page"
TABS = ("draw", "finish", "video", "write", "how")
SCHEMES = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}


def test_tabs_are_moved_between_by_arrow_keys(watched):
    watched.page.get_by_role("tab", name="Draw").focus()
    for name in ("Finish", "Video", "Write", "How it works", "Draw"):
        watched.page.keyboard.press("ArrowRight")
        tab = watched.page.get_by_role("tab", name=name)
        assert tab.get_attribute("aria-selected") == "true"
        assert tab.evaluate("tab => tab === document.activeElement")
        assert watched.page.get_by_role("tabpanel").count() == 1  # the others are hidden
    watched.page.keyboard.press("End")
    assert watched.page.url.partition("#")[2].startswith("how")


def test_the_page_says_that_the_server_is_gone(watched):
    watched.page.route("**/api/draw", lambda route: route.abort())
    press(watched, "draw", "Draw")
    watched.panel("draw").get_by_role("alert").filter(has_text="does not answer").wait_for()
    assert [error for error in watched.errors if "net::ERR_FAILED" in error]
    watched.errors.clear()


def test_the_chosen_theme_stays(watched):
    button = watched.page.get_by_role("button", name="Dark")
    before = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.click()
    after = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    watched.open("draw")
    assert watched.page.evaluate("getComputedStyle(document.body).backgroundColor") == after
    assert button.get_attribute("aria-pressed") == "true"


def fill_tab(watched: Watched, tab: str) -> None:
    """Bring a tab to the state in which most of it is in view."""
    panel = watched.panel(tab)
    if tab == "finish":
        panel.get_by_label("or type it").fill("5")
        panel.locator(".seen canvas").wait_for()
    if tab == "how":
        panel.locator(".order").wait_for()
        return
    start = {"draw": "Draw", "finish": "Finish", "video": "Start", "write": "Write"}[tab]
    press(watched, tab, start)
    end = {"draw": "Finished in", "finish": "finished in", "video": "Finished:", "write": "tokens in"}[tab]
    finished(panel, end)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_tab_is_accessible_and_fits_its_window(browser, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    watched = Watched(browser, address, **SCHEMES[scheme])
    settings = {
        "draw": "steps=12&compare=1&second=8x8",
        "finish": "steps=6",
        "video": "steps=4&endless=&frames=8",
    }
    for tab in TABS:
        watched.open(f"{tab}?{settings.get(tab, '')}")
        fill_tab(watched, tab)
        width = watched.page.evaluate("document.documentElement.scrollWidth")
        assert width <= SCHEMES[scheme]["viewport"]["width"], tab
        found = Axe().run(watched.page).response["violations"]
        faults = [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found]
        assert not [fault for fault in found if fault["impact"] in ("serious", "critical")], faults
        watched.page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        picture = watched.page.screenshot(full_page=True)
        (SCREENSHOTS / f"{tab}-{scheme}.png").write_bytes(picture)
        with Image.open(BytesIO(picture)) as screenshot:
            assert screenshot.width == SCHEMES[scheme]["viewport"]["width"]
    watched.close()
