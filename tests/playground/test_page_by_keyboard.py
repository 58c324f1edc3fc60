"""The page of `acdit demo` by keyboard: tabs, a whole job, and where the focus is."""

import re

import pytest

from tests.playground.browser import finished, press

pytestmark = pytest.mark.long


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


def test_the_link_over_the_tabs_keeps_the_tab_and_its_settings(watched):
    watched.open("video?seed=9")
    watched.page.locator(".skip").focus()
    watched.page.keyboard.press("Enter")
    watched.page.locator("main:focus").wait_for()
    watched.page.wait_for_url(re.compile(r"#video\?"))
    assert watched.panel("video").is_visible()
    assert watched.panel("video").get_by_label("Seed", exact=True).input_value() == "9"


def test_a_picture_is_drawn_and_stopped_by_keyboard(watched):
    watched.open("draw?steps=100")
    page, panel = watched.page, watched.panel("draw")
    page.get_by_role("tab", name="Draw").focus()

    def focused():
        return page.evaluate("document.activeElement.textContent")

    for _ in range(40):  # to the first class, and through the other fields to the button
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type === 'radio'"):
            break
    page.keyboard.press("ArrowRight")
    chosen = panel.locator("fieldset").first.locator("input:checked").get_attribute("value")
    panel_block = panel.get_by_label("1 \u00d7 1")
    for _ in range(40):
        page.keyboard.press("Tab")
        if panel.locator("fieldset").nth(1).evaluate("group => group.contains(document.activeElement)"):
            break
    while not panel_block.is_checked():
        page.keyboard.press("ArrowRight")
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused() == "Draw":
            break
    page.keyboard.press("Enter")
    panel.locator(".steps img").first.wait_for()
    assert focused() == "Stop"
    page.keyboard.press("Enter")
    finished(panel, "Stopped. The code makes the whole picture.")
    assert focused() == "Draw"
    assert page.locator("#announcer").inner_text() == "Stopped. The code makes the whole picture."
    code = panel.locator("[data-code=python]").first.text_content()
    assert code and f"class_labels=[{chosen}]" in code and "block=(1, 1)" in code


def test_closing_a_message_and_turning_blocks_keep_the_focus(watched):
    page, panel = watched.page, watched.panel("finish")
    watched.open("finish")
    press(watched, "finish", "Finish")
    panel.get_by_role("button", name="Close").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Finish"
    watched.open("draw?steps=2&block=4x4")
    press(watched, "draw", "Draw")
    finished(watched.panel("draw"), "Finished in")
    watched.panel("draw").get_by_role("button", name="Previous block").focus()
    for _ in range(3):
        page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Next block"
