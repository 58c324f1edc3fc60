"""Figures that a page repeats from the place that has the measurement are equal there."""

import re

import pytest

from tests.site.pages import ROOT

CARDS = "acdit/pretrained/{}/README.md"
LOG = "docs/log.md"
REPEATED = [
    ("docs/text.md", CARDS.format("shakespeare"), "2.203 2.406 2.633"),
    ("docs/video.md", CARDS.format("moving-digits"), "0.208 0.722"),
    ("docs/sampling.md", LOG, "3.34 ± 0.24|3.98 ± 0.27|0.966|0.979"),
]


@pytest.mark.parametrize(("page", "source", "figures"), REPEATED, ids=lambda value: str(value)[:20])
def test_figures_are_those_of_their_source(page, source, figures):
    for figure in figures.split("|") if "|" in figures else figures.split():
        assert figure in (ROOT / page).read_text(), f"{page} has no {figure}"
        assert figure in (ROOT / source).read_text(), f"{source} has no {figure}"


def test_the_accuracy_of_the_classifier_is_that_of_its_card():
    card = (ROOT / CARDS.format("mnist-classifier")).read_text()
    (accuracy,) = re.findall(r"^\| accuracy \| ([\d.]+) \|", card, re.MULTILINE)
    assert f"recognises {100 * float(accuracy):.1f}% of" in (ROOT / "docs/classification.md").read_text()


def test_speeds_on_the_first_page_are_those_of_the_log():
    """Ratios of a row, plain and compiled, stand side by side in a row of the same name in the log."""
    part = (ROOT / "README.md").read_text().partition("## Speed")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)`.*\| ([\d.]+) \| ([\d.]*) ?\|$", part, re.MULTILINE)
    assert len(rows) == 5
    log = (ROOT / LOG).read_text()
    for name, plain, compiled in rows:
        if compiled:
            pattern = rf"^\| {name} \|.*\| {plain} \| {compiled} \|"
        else:
            pattern = rf"{name} [\d.]+ and [\d.]+ s, {plain} times"
        assert re.search(pattern, log, re.MULTILINE), name


def test_no_page_gives_another_length_for_the_clips_of_the_model_in_the_package():
    card = (ROOT / CARDS.format("moving-digits")).read_text()
    (frames,) = set(re.findall(r"trained on [\d,]+ clips of (\d+) frames", card))
    for page in ("docs/video.md", "docs/demo.md", "docs/log.md"):
        text = (ROOT / page).read_text()
        named = re.findall(r"(?:learned|was trained on) clips of (\d+) frames", text)
        assert named and set(named) == {frames}, page
