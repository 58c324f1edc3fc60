"""The page of `acdit demo` for everyone: in the dark, on a phone, by axe-core and in trouble."""

import re
from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.playground.browser import ROOT, Watched, finished, press

pytestmark = pytest.mark.long
SCREENSHOTS = ROOT / "out" / "page"
TABS = ("draw", "finish", "video", "write", "how")
SCHEMES = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}


def test_an_address_of_no_tab_opens_the_first_one(watched):
    for fragment in ("__proto__?a=1", "constructor?model=mnist", "main", ""):
        watched.open(fragment)
        assert watched.panel("draw").is_visible()
        assert watched.page.url.partition("#")[2].startswith("draw?")


def test_a_hidden_number_that_is_wrong_blocks_nothing(watched):
    watched.open("video?steps=1&endless=&frames=5000")
    panel = watched.panel("video")
    press(watched, "video", "Start")
    assert not panel.get_by_label("Frames", exact=True).evaluate("field => field.checkValidity()")
    assert panel.get_by_role("button", name="Start").is_enabled()  # nothing was sent
    panel.get_by_label("Go on until it is stopped").check()
    press(watched, "video", "Start")
    panel.locator(".place", has_text="of").wait_for()
    press(watched, "video", "Stop")
    finished(panel, "Stopped after")

    watched.open("write?way=fill&tokens=&steps=1&gaps=To be, ___")
    press(watched, "write", "Fill")
    finished(watched.panel("write"), "3 tokens in")


def test_a_picture_of_one_block_is_not_sent(watched):
    watched.open("finish?block=8x8")
    panel = watched.panel("finish")
    assert panel.get_by_label("Blocks that are kept").is_disabled()
    panel.get_by_label("or type it").fill("5")
    panel.locator(".seen canvas").wait_for()
    press(watched, "finish", "Finish")
    assert "choose a smaller block size" in panel.get_by_role("alert").inner_text()
    panel.get_by_label("4 \u00d7 4").check()
    expect(panel.get_by_label("Blocks that are kept")).to_be_enabled()


def test_the_class_of_a_video_that_waits_is_changed(browser, address):
    first = Watched(browser, address, "draw?block=1x1&steps=100")
    press(first, "draw", "Draw")
    first.panel("draw").locator(".steps img").first.wait_for()
    second = Watched(browser, address, "video?steps=1&endless=&frames=4&label=2&model=moving-digits")
    panel = second.panel("video")
    press(second, "video", "Start")
    panel.locator(".state", has_text="1 request before you").wait_for()
    assert panel.get_by_label("Model").is_disabled()
    panel.get_by_label("7", exact=True).check()
    panel.locator(".state", has_text="From the next block on: 7").wait_for()
    press(first, "draw", "Stop")
    finished(panel, "Finished:")
    assert panel.get_by_label("Model").is_enabled()
    code = panel.locator("[data-code=python]").text_content()
    assert code and "class_labels=[7]" in code
    for page in (first, second):
        page.close()


def test_a_class_that_cannot_change_is_not_sent(watched):
    def without_change(route: Route) -> None:
        answer = route.fetch()
        described = answer.json()
        for model in described["models"]:
            model["can_change_class"] = False
        route.fulfill(response=answer, json=described)

    watched.page.route("**/api/models", without_change)
    watched.open("video?steps=1")
    panel = watched.panel("video")
    press(watched, "video", "Start")
    panel.locator(".place", has_text="of").wait_for()
    panel.get_by_label("7", exact=True).check()
    panel.locator(".state", has_text="cannot change the class").wait_for()
    press(watched, "video", "Stop")
    finished(panel, "Stopped after")
    assert not [url for url in watched.requests if url.endswith("/api/video/label")]


def test_the_first_block_stays_in_view_and_with_it_the_class(watched):
    watched.open("video?steps=1&model=moving-digits")
    panel = watched.panel("video")
    panel.get_by_label("Keep the first block in view").check()
    press(watched, "video", "Start")
    panel.locator(".place", has_text=re.compile(r"Frame [2-9]")).wait_for()
    panel.get_by_label("7", exact=True).check()
    panel.locator(".state", has_text="The first block stays in view, and with it the class").wait_for()
    press(watched, "video", "Stop")
    finished(panel, "Stopped after")
    command = panel.locator("[data-code=command]").text_content()
    assert command and "--sinks 1 --window 2 --context-noise 0.05" in command
    assert not [url for url in watched.requests if url.endswith("/api/video/label")]


@pytest.mark.parametrize(
    ("model", "said"), [("shakespeare", "This tab cannot show"), ("nobody", "There is no model nobody here")]
)
def test_a_link_with_another_model_says_so(watched, model, said):
    watched.open(f"draw?model={model}&seed=3")
    alert = watched.page.get_by_role("alert").filter(has_text=said)
    assert alert.locator("p").inner_text().endswith("so the link opens mnist.")
    assert watched.panel("draw").get_by_label("Seed", exact=True).input_value() == "3"
    watched.open("draw?model=mnist")
    assert watched.page.get_by_role("alert").count() == 0


def test_a_browser_that_forbids_copying_is_answered(watched):
    watched.page.evaluate(
        """() => {
            navigator.clipboard.writeText = () => Promise.reject(new Error("not allowed"));
            document.execCommand = () => false;
        }"""
    )
    watched.page.evaluate("location.hash = 'draw?block=8x8&steps=2'")
    panel = watched.panel("draw")
    press(watched, "draw", "Draw")
    finished(panel, "Finished in")
    button = panel.get_by_role("button", name="Copy as Python")
    button.click()
    panel.get_by_text("Select the code below").wait_for()
    assert button.evaluate("button => button === document.activeElement")
    assert panel.locator("[data-code=python]").is_visible()


def test_a_job_is_stopped_though_the_server_does_not_answer(watched):
    watched.open("draw?block=1x1&steps=100")
    panel = watched.panel("draw")
    watched.page.route("**/api/stop", lambda _: None)  # as if the browser had no free connection
    press(watched, "draw", "Draw")
    panel.locator(".steps img").first.wait_for()
    press(watched, "draw", "Stop")
    finished(panel, "Stopped.")
    watched.open("draw?block=8x8&steps=2")  # the server has stopped too, else this one would wait
    press(watched, "draw", "Draw")
    finished(panel, "Finished in")


def test_a_stop_that_failed_is_tried_again(watched):
    watched.open("draw?block=1x1&steps=100")
    panel = watched.panel("draw")
    watched.page.route("**/api/stop", lambda route: route.abort(), times=1)
    press(watched, "draw", "Draw")
    panel.locator(".steps img").first.wait_for()
    press(watched, "draw", "Stop")
    panel.get_by_role("alert").filter(has_text="does not answer").wait_for()
    panel.get_by_role("button", name="Close").click()
    press(watched, "draw", "Stop")
    finished(panel, "Stopped.")
    assert [error for error in watched.errors if "net::ERR_FAILED" in error]
    watched.errors.clear()


def test_the_copied_link_is_that_of_the_picture(watched):
    watched.open("draw?block=2x2&steps=10&seed=3")
    panel = watched.panel("draw")
    press(watched, "draw", "Draw")
    panel.locator(".steps img").first.wait_for()
    panel.get_by_label("Seed", exact=True).fill("4")
    watched.page.get_by_role("tab", name="Write").click()
    watched.page.get_by_role("tab", name="Draw").click()
    finished(panel, "Finished in")
    panel.get_by_role("button", name="Copy link").click()
    panel.get_by_role("button", name="Copied").wait_for()
    link = watched.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{watched.address}/#draw?") and "seed=3" in link
    assert "seed=4" in watched.page.url


def test_a_file_that_cannot_be_read_is_named(watched, tmp_path):
    watched.open("finish")
    panel = watched.panel("finish")
    panel.get_by_label("Upload", exact=True).check()
    gone = tmp_path / "gone.png"
    Image.new("L", (32, 32)).save(gone)
    watched.page.evaluate(
        "document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'lent'}))"
    )
    watched.page.locator("#lent").set_input_files(gone)
    gone.unlink()
    panel.locator(".drop").evaluate(
        """area => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(document.getElementById("lent").files[0]);
            area.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }"""
    )
    panel.get_by_role("alert").filter(has_text="gone.png cannot be read").wait_for()


def test_a_text_is_written_in_large_blocks(watched):
    watched.open("write?model=shakespeare&block=128&tokens=8")
    models = watched.page.request.get(f"{watched.address}/api/models").json()["models"]
    most = next(model["max_steps"] for model in models if model["name"] == "shakespeare")
    panel = watched.panel("write")
    assert panel.get_by_label("Steps for each block").input_value() == str(min(128, most))
    press(watched, "write", "Write")
    finished(panel, "8 tokens in")


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


@pytest.fixture(scope="module")
def filled(browser, address):
    """A page with a result in every tab."""
    watched = Watched(browser, address)
    settings = {
        "draw": "steps=12&compare=1&second=8x8",
        "finish": "steps=6",
        "video": "steps=4&endless=&frames=8",
    }
    for tab in TABS:
        watched.page.evaluate("hash => (location.hash = hash)", f"{tab}?{settings.get(tab, '')}")
        watched.panel(tab).wait_for()
        fill_tab(watched, tab)
    yield watched
    watched.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_tab_is_accessible_and_fits_its_window(filled, scheme):
    from axe_playwright_python.sync_playwright import Axe

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    colours, page, axe = SCHEMES[scheme], filled.page, Axe()
    page.emulate_media(color_scheme=colours["color_scheme"])
    page.set_viewport_size(colours["viewport"])
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= colours["viewport"]["width"], tab
        found = axe.run(page).response["violations"]
        faults = [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found]
        assert not [fault for fault in found if fault["impact"] in ("serious", "critical")], faults
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        picture = page.screenshot(full_page=True)
        (SCREENSHOTS / f"{tab}-{scheme}.png").write_bytes(picture)
        with Image.open(BytesIO(picture)) as screenshot:
            assert screenshot.width == colours["viewport"]["width"]
