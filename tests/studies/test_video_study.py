"""The study of video: its verdicts on rows whose truth is known, and tiny runs."""

import json
from typing import Any

import pytest

from acdit.cli.main import main
from acdit.evaluation.features import clip_network, digit_classifier
from acdit.studies.claims_video import COUNTS, video_in_blocks
from acdit.studies.run_store import RunStore
from acdit.studies.verdicts import CONFIRMED, NOT_LEARNED, NOT_MEASURED, REFUTED
from acdit.studies.video import COLUMNS, FRAMES, video_design

SEEDS = 5


def known_rows(tmp_path, ratio, distance) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows of the study with errors and distances that depend on the number of blocks."""
    rows = {}
    for seed in range(SEEDS):
        for count in COUNTS:
            row: dict[str, Any] = dict.fromkeys(COLUMNS, 1.0) | {"blocks": count, "seed": seed}
            error = None if count == 1 else ratio(count) * (1 + 0.001 * (seed * count % 3))
            row |= {"error_ratio": error, "frechet_distance": distance(count) * (1 + 0.001 * seed)}
            rows[count, seed] = row
    return rows


def by_name(rows) -> dict[str, str]:
    return {each.name: each.verdict for each in video_in_blocks(list(rows.values()))}


def test_what_costs_nothing_is_confirmed_and_what_costs_is_refuted(tmp_path):
    same = by_name(known_rows(tmp_path, lambda count: 0.5, lambda count: 2.0))
    assert len(same) == 5 and set(same.values()) == {CONFIRMED}
    costly = by_name(
        known_rows(tmp_path, lambda count: 0.5 if count < 8 else 0.6, lambda count: 2 * count**0.5)
    )
    assert [costly[f"error of continued clips, blocks: {count} against 2"] for count in (4, 8)] == [
        CONFIRMED,
        REFUTED,
    ]
    assert {costly[f"Fréchet distance of drawn clips, blocks: {count} against 1"] for count in (2, 4, 8)} == {
        REFUTED
    }
    assert by_name({}) == dict.fromkeys(same, NOT_MEASURED)


def test_there_are_no_verdicts_on_a_network_that_has_not_learned(tmp_path):
    design = video_design(budget="full", first_seed=0, seeds=SEEDS)
    report, (page, plot) = design.report(known_rows(tmp_path, lambda count: 0.8, lambda count: 2.0), tmp_path)
    assert page.read_text().count(f"| {NOT_LEARNED}: ") == 5 and plot.stat().st_size > 10_000
    assert "5 comparisons" in report


def test_runs_differ_in_blocks_and_seeds_alone(tmp_path):
    store, design = RunStore(tmp_path), video_design(budget="full", first_seed=3, seeds=2)
    recipes = [store.run(spec).recipe for spec in design.runs]
    assert [recipe.layout.blocks for recipe in recipes[:4]] == [["8x4x4"], ["4x4x4"], ["2x4x4"], ["1x4x4"]]
    assert [recipe.training.seed for recipe in recipes] == [3] * 4 + [4] * 4
    steps = {(recipe.training.steps, recipe.training.batch_size) for recipe in recipes}
    assert len(steps) == 1 and {recipe.data.frames for recipe in recipes} == {FRAMES}


@pytest.mark.long  # 20 s: the frames of moving digits are read for each measurement
def test_the_study_runs_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(clip_network, "STEPS", 2)  # networks that are hardly fitted
    monkeypatch.setattr(
        clip_network.fit_clip_network,
        "__kwdefaults__",
        {"steps": 2, "seed": 0} | {"scene": clip_network.LARGE},
    )
    monkeypatch.setattr(digit_classifier, "STEPS", 2)
    out = tmp_path / "out"
    command = ["study", "video", "--budget", "quick", "--out", str(out)]
    assert main(command) == 0
    rows = json.loads((out / "measurements.json").read_text())["rows"]
    assert len(rows) == 2 * len(COUNTS) and {row["network_calls"] for row in rows if row["blocks"] == 4} == {
        4
    }
    assert all((row["error_ratio"] is None) == (row["blocks"] == 1) for row in rows)
    page = (out / "video.md").read_text()
    assert "2 of at least 5 seeds" in page or NOT_LEARNED in page
    capsys.readouterr()
    assert main(command) == 0 and json.loads((out / "measurements.json").read_text())["rows"] == rows
    assert (out / "video.md").read_text() == page


@pytest.mark.parametrize("words", [["--budget", "ful"], ["--seeds", "1"]])
def test_what_cannot_be_is_one_line(words, capsys):
    assert main(["study", "video", *words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
