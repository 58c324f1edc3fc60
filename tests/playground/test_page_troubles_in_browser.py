"""The page in headless Chromium: slow players, texts and files that cannot be, and tabs that are closed."""

import re
import wave

import pytest
from PIL import Image

from tests.playground.browser import Watched, finished, press

pytestmark = pytest.mark.long
# Keeps the id of a job, which is in the first line of the answer.
NOTE_ANSWERS = """() => {
    const original = window.fetch;
    window.fetch = async (...words) => {
        const answer = await original(...words);
        const type = answer.headers.get("content-type");
        if (type === "application/x-ndjson") {
            const { value } = await answer.clone().body.getReader().read();
            window.job = JSON.parse(new TextDecoder().decode(value).split("\\n")[0]).job;
        }
        return answer;
    };
}"""
UNPLAYED, BLOCK = 64, 4  # frames that may wait to be played, as in player.js; frames of a block


def test_frames_wait_for_a_player_that_is_slow(watched):
    """65 frames that were not played are too many, unless it pauses, is hidden, or the video is stopped."""
    waits = watched.page.evaluate(
        """async () => {
            const { Player } = await import("/static/player.js");
            const picture = () => createImageBitmap(new ImageData(8, 8));
            const outcome = async (count, change, over = () => false) => {
                const player = new Player("frames");
                player.reset([1, 8, 8], 1e-6); // frames a second: none is played
                const frames = [];
                for (let frame = 0; frame < count; frame += 1) frames.push(await picture());
                player.push(frames);
                while (player.at < 0) await new Promise((resolve) => setTimeout(resolve, 5)); // the first one
                player.due = Infinity;
                change(player);
                let waits = true;
                const room = player.room(over).then(() => (waits = false));
                await new Promise((resolve) => setTimeout(resolve, 300));
                const waited = waits;
                player.at += 1; // one more is played
                if (waited) await room;
                player.pause();
                return waited;
            };
            const hide = () => Object.defineProperty(document, "hidden", { value: true, configurable: true });
            const nothing = () => null;
            const waits = {
                enough: await outcome(65, nothing),
                full: await outcome(66, nothing),
                paused: await outcome(66, (player) => player.pause()),
                stopped: await outcome(66, nothing, () => true),
                hidden: await outcome(66, hide),
            };
            delete document.hidden;
            return waits;
        }"""
    )
    assert waits == {"enough": False, "full": True, "paused": False, "stopped": False, "hidden": False}


def test_a_video_waits_until_its_frames_were_played(watched):
    watched.open("video?steps=1&model=moving-digits")
    page, panel = watched.page, watched.panel("video")
    press(watched, "video", "Start")
    panel.locator(".place", has_text="of").wait_for()
    page.evaluate("() => { window.requestAnimationFrame = () => 0; }")  # from here on none is played
    unplayed = "Number(track.max) - Number(track.value)"
    find = "const track = document.querySelector('#video input[type=range][aria-label=Frame]');"
    page.wait_for_function(f"() => {{ {find} return {unplayed} > {UNPLAYED}; }}")
    page.wait_for_timeout(2000)
    assert page.evaluate(f"() => {{ {find} return {unplayed}; }}") <= UNPLAYED + BLOCK
    panel.get_by_role("button", name="Pause").click()  # who has paused need not see every frame
    page.wait_for_function(f"() => {{ {find} return {unplayed} > {UNPLAYED + 2 * BLOCK}; }}")
    press(watched, "video", "Stop")
    finished(panel, "Stopped after")


@pytest.mark.parametrize(
    ("fragment", "button", "at_work"),
    [
        ("draw?block=1x1&steps=100", "Draw", ".steps img"),
        ("finish?block=1x1&steps=100&count=8", "Finish", ".gallery canvas"),
        ("video?steps=100", "Start", ".state:has-text('at work')"),
        ("write?block=1&tokens=200", "Write", ".sheet .token[data-step]"),
    ],
)
def test_a_tab_that_is_closed_stops_its_work(fragment, button, at_work, browser, address, watched):
    """The page that is loaded afterwards takes longer than a solver step, so the job must be gone by then."""
    closed, tab = Watched(browser, address, fragment), fragment.partition("?")[0]
    closed.page.evaluate(NOTE_ANSWERS)
    if tab == "finish":
        closed.panel(tab).get_by_label("or type it").fill("5")
        closed.panel(tab).locator(".seen canvas").wait_for()
    press(closed, tab, button)
    closed.panel(tab).locator(at_work).first.wait_for()
    job = closed.page.evaluate("window.job")
    closed.close()
    watched.open("draw?block=8x8&steps=2")
    assert re.fullmatch("[0-9a-f]{16}", job)
    answer = watched.page.request.post(f"{address}/api/stop", data={"job": job})
    assert answer.json() == {"stopped": False}  # there is no such job any more
    press(watched, "draw", "Draw")
    finished(watched.panel("draw"), "Finished in")


def test_a_page_that_is_left_at_once_is_served_again(browser, address):
    for fragment in ("draw", "finish", "video", "write", "how"):
        context = browser.new_context()
        context.new_page().goto(f"{address}/#{fragment}", wait_until="commit")
        context.close()
    page = Watched(browser, address, "how")
    page.panel("how").locator(".order").first.wait_for()
    page.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'\\ud83d'", "not valid Unicode"),
        ("'a'.repeat(2 ** 20)", "the request is too long"),
        ("'a'.repeat(1000)", "must be shorter than the model's 256 tokens"),
    ],
    ids=["half a character", "a megabyte", "too long"],
)
def test_texts_that_cannot_be_are_refused_in_words(text, said, watched):
    watched.open("write?tokens=8")
    panel = watched.panel("write")
    panel.get_by_label("Beginning").evaluate(f"field => {{ field.value = {text}; }}")
    press(watched, "write", "Write")
    panel.get_by_role("alert").filter(has_text=said).wait_for()
    watched.refusals()  # a line of the browser's about the status, for those that are not begun
    panel.get_by_label("Beginning").fill("\U0001f600 To be")
    press(watched, "write", "Write")
    finished(panel, "8 tokens in")
    assert panel.locator(".sheet").inner_text().startswith("\U0001f600 To be")
    assert panel.get_by_role("alert").count() == 0


def test_clips_that_cannot_be_continued_are_refused_in_words(watched, tmp_path):
    files = {"empty.mp4": b"", "words.gif": b"these are words"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    Image.new("L", (32, 32)).save(tmp_path / "still.png")
    watched.open("video?steps=1&endless=&frames=4")
    panel = watched.panel("video")
    names = (*files, "sound.mp4", "still.png")
    for name in names:
        panel.get_by_label("Continue a clip").set_input_files(tmp_path / name)
        panel.get_by_role("button", name="Remove the clip").wait_for()
        press(watched, "video", "Start")
        alert = panel.get_by_role("alert")
        alert.filter(has_text=re.compile("the clip cannot be read|holds no video")).wait_for()
        panel.get_by_role("button", name="Remove the clip").click()
    assert len(watched.refusals()) == len(names)
    press(watched, "video", "Start")
    finished(panel, "Finished: 4 frames")
    assert panel.get_by_role("alert").count() == 0
