"""A training run that diverges is a result: the study goes on, and tables, plots and verdicts say so."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from acdit.studies.design import Design, run_study
from acdit.studies.digit_quality import DISTANCE
from acdit.studies.dry_run import describe_study
from acdit.studies.finite_scores import with_interval
from acdit.studies.learned import LABEL_ACCURACY, if_learned
from acdit.studies.measurements import FILE, StoredMeasurements
from acdit.studies.run_store import RunStore
from acdit.studies.study import STUDIES
from acdit.studies.understanding import understanding_design
from acdit.studies.understanding_choice import choice_design
from acdit.studies.verdicts import LOWER, UNDECIDED, compare, scores_of
from acdit.utils.references import load_object
from tests.studies.grids import design, states
from tests.tiny import given


def refuse_constants(name: str):
    pytest.fail(f"{name} is not JSON")


def overflowing(monkeypatch):
    """Make the loss of every step of seed 0 not finite, as that of a network whose weights overflow."""
    from acdit.training.run import Run

    backward = Run._backward

    def infinite(self, *arguments):
        errors = backward(self, *arguments)
        return errors * math.inf if self.recipe.training.seed == 0 else errors

    monkeypatch.setattr(Run, "_backward", infinite)


def test_a_study_goes_on_without_a_run_that_diverges(tmp_path, monkeypatch, capsys):
    store, out = RunStore(tmp_path / "runs"), tmp_path / "out"
    tiny = design(**{"training.steps": 12})
    with monkeypatch.context() as patched:
        overflowing(patched)
        report = given(run_study(tiny, out, store=store)).report
    assert "seed 0 diverged at step 10: the study goes on without it" in capsys.readouterr().err
    assert report.startswith("seed 0 diverged at step 10: there are no scores")
    assert sorted(states(store.root).values()) == ["diverged", "finished"]  # the third starts from the first
    content = json.loads((out / FILE).read_text(), parse_constant=refuse_constants)
    rows = {row["run"]: row for row in content["rows"]}
    for name in ("0", "tuned"):
        assert rows[name]["weights"] is None and rows[name]["not_finite"] == ["weights"]
        assert rows[name]["diverged"] == "seed 0 diverged at step 10"
    assert rows["1"]["weights"] and "diverged" not in rows["1"]
    read = {row["run"]: row for row in StoredMeasurements.read(out / FILE).rows}
    assert math.isnan(read["0"]["weights"]) and read["1"] == {"run": "1", "weights": rows["1"]["weights"]}

    table = describe_study(tiny, out, store)
    assert "left out: seed 0 diverged" in table and "3 of 3 rows" in table
    total = [line.split() for line in table.splitlines() if line.startswith("total")]
    assert total[0][-1] == "0"
    anew = [line.split() for line in describe_study(tiny, out, store, refresh=True).splitlines()]
    assert next(words for words in anew if words[0] == "total")[-1] != "0"  # which trains it again
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    again = given(run_study(tiny, out, store=store))  # trains nothing again
    assert again.report == report
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()} == before
    assert json.loads((out / FILE).read_text()) == content

    mended = given(run_study(tiny, out, store=store, refresh=True)).report
    assert "diverged" not in mended and set(states(store.root).values()) == {"finished"}
    assert mended == given(run_study(tiny, tmp_path / "straight", store=store)).report


def test_a_full_disk_and_an_interruption_still_end_a_study(tmp_path, monkeypatch):
    from acdit.training.run import Run

    for fault in (OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()):

        def fail(self, *arguments, fault=fault):
            raise fault

        monkeypatch.setattr(Run, "_backward", fail)
        with pytest.raises(type(fault)):
            run_study(design(), tmp_path / "out", store=RunStore(tmp_path / "runs"))
        assert not (tmp_path / "out" / FILE).exists()
        assert set(states(tmp_path / "runs").values()) == {"unfinished"}


def rows_with_gaps(declared: Design, where, numbers: dict[str, Any]) -> dict[tuple, dict[str, Any]]:
    """Rows of a design with known scores, of which some have diverged."""
    rows = {}
    for measurement in declared.measurements:
        for key in measurement.rows:
            row: dict[str, Any] = dict(zip(declared.keys, key, strict=True))
            row |= dict.fromkeys(declared.columns, 1.0) | numbers
            row |= {DISTANCE: 2.0 + row.get("seed", 0) / 100} if DISTANCE in declared.columns else {}
            if where(row):
                row |= dict.fromkeys(declared.columns, math.nan) | {"diverged": "a run diverged at step 3"}
            elif "size" in row:
                row["parameters"] = {"small": 100, "base": 200, "large": 400}[row["size"]]
            rows[key] = row
    return rows


@pytest.mark.parametrize("name", ["scaling", "decay", "ablation", "anyblock", "context", "blocks", "video"])
@pytest.mark.parametrize("everything", [False, True])
def test_pages_of_studies_on_digits_and_video(name, everything, tmp_path):
    make: Any = load_object(STUDIES[name].design)
    declared = make(budget="full", first_seed=0, seeds=5)
    keys = [dict(zip(declared.keys, each.rows[0], strict=True)) for each in declared.measurements]
    gone = next(key for key in keys if key.get("trained", 1.0) == 1.0)  # pages show the end of the training
    del gone["seed"]

    def where(row):
        return all(row[key] == value for key, value in gone.items()) and (everything or row["seed"] == 2)

    rows = rows_with_gaps(declared, where, {"label_accuracy": 0.95, "error_ratio": 0.5})
    text, (page, plot) = declared.report(rows, tmp_path)
    shown = page.read_text()
    assert ("| diverged |" if everything else "| diverged (1 of 5) |") in shown
    assert "nan" not in shown.lower().replace("finance", "") and plot.read_bytes().startswith(b"\x89PNG")
    assert "undecided" in text


@pytest.mark.parametrize("everything", [False, True])
def test_pages_of_understanding_and_text(everything, tmp_path):
    declared = understanding_design(first_seed=0, seeds=5, quick=True)
    arms = ("fine-tuned", "linear probe, clean input", "denoising loss (saw all labels)")
    rows = rows_with_gaps(declared, lambda row: row["arm"] in arms and (everything or row["seed"] == 1), {})
    _, (page, *_) = declared.report(rows, tmp_path)
    assert page.read_text().count("undecided: a run diverged") == 4 and "nan" not in page.read_text()
    assert ("diverged |" if everything else "diverged (1 of 5)") in page.read_text()

    choice = choice_design(first_seed=0, quick=True)
    first = choice.measurements[0].rows[0]
    rows = rows_with_gaps(choice, lambda row: tuple(row[key] for key in choice.keys) == first, {})
    text, (page,) = choice.report(rows, tmp_path)
    (line,) = [line for line in page.read_text().splitlines() if "diverged" in line]
    assert "yes |" not in line.partition("diverged")[2] and "nan" not in text

    make: Any = load_object(STUDIES["text"].design)
    declared = make(steps=2, batch=2, samples=10, first_seed=0, seeds=5, blocks=(1, 256))
    rows = rows_with_gaps(
        declared, lambda row: row["masks"] == "independent" and (everything or row["seed"] == 1), {}
    )
    text, (page, _) = declared.report(rows, tmp_path)
    assert "diverged" in text and "not finite" in page.read_text() and "nan" not in text


def test_verdicts_say_why_they_are_undecided():
    rows = [{"seed": seed, "score": 1.0 + seed / 10} for seed in range(6)]
    better = [row | {"score": row["score"] - 1} for row in rows]
    assert compare("a", scores_of(better, "score"), scores_of(rows, "score"), LOWER).verdict == "confirmed"
    better[3]["score"] = math.nan
    verdict = compare("a", scores_of(better, "score"), scores_of(rows, "score"), LOWER)
    assert verdict.verdict == UNDECIDED and "a score of seed 3 is not finite" in verdict.reason
    judged = if_learned([verdict], LABEL_ACCURACY, {0: 0.99, 1: math.nan})
    assert (
        judged[0].verdict == UNDECIDED
        and judged[0].reason == "label accuracy of the reference run is not finite"
    )


def test_means_as_text():
    assert with_interval([1.0, 2.0, 3.0]) == "2 ± 2.5"
    assert with_interval([2.0]) == "2" and with_interval([math.nan]) == "diverged"
    assert with_interval([1.0, math.nan, math.inf]) == "diverged (2 of 3)"


def test_folders_of_runs_that_diverged_are_trained_again_once_they_are_removed(tmp_path, monkeypatch):
    store = RunStore(tmp_path / "runs")
    with monkeypatch.context() as patched:
        overflowing(patched)
        run_study(design(**{"training.steps": 12}), tmp_path / "out", store=store)
    (folder,) = [Path(store.root / name) for name, state in states(store.root).items() if state == "diverged"]
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    report = given(run_study(design(**{"training.steps": 12}), tmp_path / "out", store=store)).report
    assert "diverged" not in report and set(states(store.root).values()) == {"finished"}
