"""The page of `acdit demo` in headless Chromium: every tab generates, also for several people at once."""

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import acdit
from tests.playground.browser import (
    Watched,
    finished,
    gather,
    gathered,
    grey,
    pixels,
    press,
    seconds_of_drawing,
)

pytestmark = pytest.mark.long


def digit(path: Path) -> Path:
    """A picture of a seven, of another size than the model's."""
    picture = Image.new("L", (90, 90))
    ImageDraw.Draw(picture).line([(20, 20), (70, 20), (40, 75)], fill=255, width=9, joint="curve")
    picture.save(path)
    return path


def test_a_picture_is_drawn_block_by_block_and_its_code_draws_it_again(watched, tmp_path, monkeypatch):
    panel = watched.panel("draw")
    canvas = panel.locator("canvas").first
    gather(panel, canvas)
    press(watched, "draw", "Draw")
    finished(panel, "Finished in")
    shown, states = gathered(watched.page)
    assert len({grey(url).tobytes() for url in shown}) >= 5  # none, steps and blocks, the finished one
    assert "done current pending pending" in states and states[-1] == "done done done done"
    strip = panel.locator(".strip").first
    assert strip.locator("img").count() == 25
    assert strip.locator("h3").inner_text() == "Denoising steps of block 4 of 4"
    strip.get_by_role("button", name="Previous block").click()
    assert strip.locator("h3").inner_text() == "Denoising steps of block 3 of 4"
    assert panel.locator("dd").first.inner_text() == "100"
    drawn = pixels(canvas)
    first, whole = seconds_of_drawing(watched.page)
    print(f"first block after {first:.2f} s, picture after {whole:.2f} s")
    assert (pixels(canvas) == drawn).all()  # of the same seed

    panel.get_by_role("button", name="Copy as Python").click()
    panel.get_by_role("button", name="Copied").wait_for()
    monkeypatch.chdir(tmp_path)
    exec(compile(watched.page.evaluate("navigator.clipboard.readText()"), "copied", "exec"), {})
    (made,) = tmp_path.glob("*.png")
    with Image.open(made) as picture:
        difference = np.abs(np.asarray(picture.convert("L")).astype(int) - pixels(canvas))
    assert difference.max() <= 1


def test_two_block_sizes_are_drawn_with_the_same_seed_and_a_link_draws_them_again(watched):
    panel = watched.panel("draw")
    panel.get_by_label("Compare with a second block size").check()
    panel.get_by_role("combobox", name="Second block size").select_option("8x8")
    watched.page.get_by_text("More settings").first.click()
    panel.get_by_label("Solver steps for each block").fill("3")
    press(watched, "draw", "Draw")
    finished(panel, "Finished in")
    first = [pixels(panel.locator("canvas").nth(index)) for index in (0, 1)]
    assert (first[0] != first[1]).any()
    assert panel.locator("article h3").all_inner_texts()[0] == "Blocks of 4 \u00d7 4 tokens"
    watched.open(watched.page.url.partition("#")[2])
    press(watched, "draw", "Draw")
    finished(panel, "Finished in")
    again = [pixels(panel.locator("canvas").nth(index)) for index in (0, 1)]
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    for name in ("Finish", "Draw"):  # the pictures stay while another tab is in view
        watched.page.get_by_role("tab", name=name).click()
    assert (pixels(panel.locator("canvas").first) == again[0]).all()


def test_a_link_restores_what_depends_on_the_block_size(watched):
    watched.open("finish?block=2x2&keep=11&count=3&label=7&seed=5")
    panel = watched.panel("finish")
    panel.get_by_label("or type it").fill("5")
    panel.locator(".seen canvas").wait_for()
    assert panel.locator(".seen [data-state=given]").count() == 11
    assert panel.get_by_label("Blocks that are kept").input_value() == "11"
    assert panel.get_by_label("Results").input_value() == "3"
    watched.open("write?block=4&steps=3&prompt=Now")
    panel = watched.panel("write")
    assert panel.get_by_label("Steps for each block").input_value() == "3"
    assert panel.get_by_label("Beginning").input_value() == "Now"


def test_the_address_follows_what_depends_on_the_block_size(watched):
    for tab, name, (before, after), changes in (
        ("finish", "keep", (11, 2), ("2x2", "4x4")),
        ("write", "steps", (3, 16), ("4", "16")),
    ):
        watched.open(f"{tab}?block={changes[0]}&{name}={before}")
        panel = watched.panel(tab)
        panel.locator(f'input[type=radio][value="{changes[1]}"]').check(force=True)
        settings = dict(pair.split("=") for pair in watched.page.url.partition("?")[2].split("&"))
        assert (settings["block"], settings[name]) == (changes[1], str(after))


def test_a_painted_digit_is_finished_and_read(watched):
    watched.open("finish?steps=3&count=2")
    page, panel = watched.page, watched.panel("finish")
    press(watched, "finish", "Finish")
    assert "no picture yet" in panel.get_by_role("alert").inner_text()
    panel.locator(".pad").scroll_into_view_if_needed()
    box = panel.locator(".pad").bounding_box()
    assert box
    x, y, side = box["x"], box["y"], box["width"]
    page.mouse.move(x + 0.25 * side, y + 0.2 * side)
    page.mouse.down()
    page.mouse.move(x + 0.75 * side, y + 0.2 * side, steps=4)
    page.mouse.move(x + 0.45 * side, y + 0.85 * side, steps=4)
    page.mouse.up()
    seen = panel.locator(".seen canvas")
    seen.wait_for()
    assert pixels(seen).shape == (32, 32) and pixels(seen).max() > 128
    press(watched, "finish", "Finish")
    finished(panel, "2 pictures finished")
    results = [pixels(canvas) for canvas in panel.locator(".gallery canvas").all()]
    assert len(results) == 2 and (results[0] != results[1]).any()
    for result in results:  # the upper half is two blocks, which are kept
        assert np.abs(result[:16].astype(int) - pixels(seen)[:16]).max() <= 1
    assert re.fullmatch(r"Reads\s+\d", panel.locator(".reads").first.inner_text())


def test_a_digit_is_painted_by_keyboard(watched):
    watched.open("finish?steps=2&count=1")
    panel = watched.panel("finish")
    panel.get_by_role("application", name="Painting pad").focus()
    for key in ("Space", *["ArrowDown"] * 6, "Space"):
        watched.page.keyboard.press(key)
    panel.locator(".seen canvas").wait_for()
    press(watched, "finish", "Finish")
    finished(panel, "1 picture finished")


def test_an_uploaded_picture_is_finished_and_others_are_refused(watched, tmp_path):
    watched.open("finish?steps=3&count=1&way=upload")
    panel = watched.panel("finish")
    panel.get_by_label("Upload", exact=True).check()
    upload = panel.get_by_label("Your picture")
    upload.set_input_files(digit(tmp_path / "seven.png"))
    panel.locator(".seen canvas").wait_for()
    press(watched, "finish", "Finish")
    finished(panel, "1 picture finished")
    given, made = pixels(panel.locator(".seen canvas")), pixels(panel.locator(".gallery canvas"))
    assert (
        np.abs(made[:16].astype(int) - given[:16]).max() <= 1
    )  # the upper half is two blocks, which are kept
    assert (made[16:] != given[16:]).any()
    assert re.fullmatch(r"Reads\s+\d", panel.locator(".reads").inner_text())
    link = panel.get_by_role("link", name="Save picture.png")  # what the code reads
    saved = grey(link.get_attribute("href") or "")
    assert link.get_attribute("download") == "picture.png" and np.abs(saved.astype(int) - given).max() <= 1

    wrong = tmp_path / "notes.png"
    wrong.write_text("these are words, and no picture")
    upload.set_input_files(wrong)
    panel.get_by_role("alert", name="").filter(has_text="cannot be read").wait_for()
    panel.get_by_role("button", name="Close").click()
    assert panel.get_by_role("alert").count() == 0
    large = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(large)
    upload.set_input_files(large)
    panel.get_by_role("alert").filter(has_text="10,000x10,000 pixels").wait_for()
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(bytes(20 * 2**20))
    upload.set_input_files(heavy)
    panel.get_by_role("alert").filter(has_text="heavy.png has 20.0 MiB; a file may have 16.0 MiB").wait_for()
    assert len(watched.refusals()) == 2  # the last one was not sent
    upload.set_input_files(digit(tmp_path / "seven.png"))  # the server still runs
    panel.locator(".seen canvas").wait_for()
    assert panel.get_by_role("alert").count() == 0


def test_stop_ends_the_work_and_another_picture_is_drawn(watched):
    watched.open("draw?block=1x1&steps=100")
    panel = watched.panel("draw")
    press(watched, "draw", "Draw")
    panel.locator(".steps img").first.wait_for()
    press(watched, "draw", "Stop")
    finished(panel, "Stopped.")
    assert "done" not in panel.locator(".cells span").last.get_attribute("data-state")
    watched.open("draw?block=8x8&steps=2")
    press(watched, "draw", "Draw")
    finished(panel, "Finished in")


def test_four_at_once_each_get_their_own_picture(browser, address):
    """The authority is the library, which draws the same pictures here."""
    pages = [Watched(browser, address, f"draw?label={label}&seed={label}&steps=4") for label in range(4)]
    # a long job first, so that the others wait in the queue
    first = Watched(browser, address, "draw?block=1x1&steps=100")
    press(first, "draw", "Draw")
    first.panel("draw").locator(".steps img").first.wait_for()
    for page in pages:
        press(page, "draw", "Draw")
    pages[-1].panel("draw").locator(".state", has_text="before you").wait_for()
    press(first, "draw", "Stop")
    pipe = acdit.load_pipeline("mnist")
    pipe.set_progress_bar_config(disable=True)
    for label, page in enumerate(pages):
        finished(page.panel("draw"), "Finished in")
        generator = [torch.Generator().manual_seed(label)]
        own = pipe(class_labels=[label], num_inference_steps=4, generator=generator, block=(4, 4)).images[0]
        shown = pixels(page.panel("draw").locator("canvas").first)
        assert np.abs(np.asarray(own.convert("L")).astype(int) - shown).max() <= 1
    for page in (*pages, first):
        page.close()


def test_a_video_plays_while_it_is_made_and_its_class_is_changed(watched):
    watched.open("video?steps=2")
    panel = watched.panel("video")
    gather(panel, panel.locator("canvas"))
    press(watched, "video", "Start")
    panel.locator(".place", has_text=re.compile(r"Frame [2-9]")).wait_for()
    panel.get_by_label("7", exact=True).check()
    panel.locator(".state", has_text="From the next block on: 7").wait_for()
    panel.locator(".place", has_text=re.compile(r"Frame \d\d")).wait_for()
    press(watched, "video", "Stop")
    finished(panel, "Stopped after")
    assert len({grey(url).tobytes() for url in gathered(watched.page)[0]}) >= 5
    panel.get_by_role("button", name="Pause").click()
    panel.get_by_role("slider", name="Frame").fill("3")
    place = panel.locator(".place").inner_text()
    assert place.startswith("Frame 4 of")
    assert panel.get_by_role("slider", name="Frame").get_attribute("aria-valuetext") == place


def test_a_clip_is_continued(watched, tmp_path):
    frames = [Image.new("L", (32, 32)) for _ in range(4)]
    for index, frame in enumerate(frames):
        ImageDraw.Draw(frame).rectangle([8 + index, 8, 14 + index, 20], fill=255)
    clip = tmp_path / "clip.gif"
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=125)
    watched.open("video?steps=2&endless=&frames=4")
    panel = watched.panel("video")
    panel.get_by_label("Continue a clip").set_input_files(clip)
    panel.get_by_role("button", name="Remove the clip").wait_for()
    press(watched, "video", "Start")
    finished(panel, "Finished:")
    if panel.get_by_role("button", name="Pause").count():
        panel.get_by_role("button", name="Pause").click()
    for index, frame in enumerate(frames):
        panel.get_by_role("slider", name="Frame").fill(str(index))
        assert panel.locator(".place").inner_text() == f"Frame {index + 1} of 8"
        assert np.abs(pixels(panel.locator("canvas").first).astype(int) - np.asarray(frame)).max() <= 2
    wrong = tmp_path / "clip.mp4"
    wrong.write_bytes(b"no film at all")
    panel.get_by_label("Continue a clip").set_input_files(wrong)
    press(watched, "video", "Start")
    panel.get_by_role("alert").wait_for()
    assert len(watched.refusals()) == 1


def test_a_text_is_written_and_its_gaps_are_filled(watched):
    watched.open("write?steps=4&tokens=32&block=4")
    panel = watched.panel("write")
    press(watched, "write", "Write")
    finished(panel, "32 tokens in")
    tokens = panel.locator(".sheet .token[data-step]")
    assert tokens.count() == 32
    steps = {int(token.get_attribute("data-step") or 0) for token in tokens.all()}
    assert steps == {1, 2, 3, 4}
    assert re.fullmatch("Revealed in step [1-4]", tokens.first.get_attribute("title") or "")
    assert panel.locator(".sheet").inner_text().startswith("To be, or not to be")
    assert panel.locator(".legend li").all_inner_texts() == ["1", "2", "3", "4"]

    panel.get_by_label("Fill gaps").check()
    panel.get_by_label("Text with gaps").fill("To be, or ___ to be")
    press(watched, "write", "Fill")
    finished(panel, "3 tokens in")
    text = panel.locator(".sheet").inner_text()
    assert text.startswith("To be, or ") and text.endswith(" to be") and "_" not in text
    panel.get_by_label("Text with gaps").fill("no gap here")
    press(watched, "write", "Fill")
    panel.get_by_role("alert").filter(has_text="no gap").wait_for()
    assert len(watched.refusals()) == 1


@pytest.mark.parametrize("model", ["mnist", "moving-digits", "shakespeare"])
def test_layouts_are_explained(watched, model):
    watched.open(f"how?model={model}")
    panel = watched.panel("how")
    panel.locator(".order").first.wait_for()
    numbers = [int(text) for text in panel.locator(".order td").all_inner_texts()]
    blocks = {"mnist": 4, "moving-digits": 4, "shakespeare": 16}[model]
    assert sorted(set(numbers)) == list(range(1, blocks + 1))
    mask = pixels(panel.locator(".mask canvas"))
    assert (
        mask.shape[0] == mask.shape[1] and len(np.unique(mask)) == 4
    )  # nothing, and three kinds of attention
    assert panel.locator(".bars li").count() >= 4


def test_a_picture_is_pasted(watched):
    watched.open("finish")
    panel = watched.panel("finish")
    panel.get_by_label("Upload", exact=True).check()
    buffer = BytesIO()
    Image.new("L", (32, 32), 200).save(buffer, format="PNG")
    watched.page.evaluate(
        """data => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        base64.b64encode(buffer.getvalue()).decode(),
    )
    panel.locator(".seen canvas").wait_for()
    assert abs(int(pixels(panel.locator(".seen canvas")).mean()) - 200) <= 2
