"""A study with more seeds, or fewer: rows of the other seeds stay, in files of this and earlier versions."""

import json
from typing import Any

import pytest

from acdit.studies.claims import CLAIMS
from acdit.studies.design import run_study
from acdit.studies.dry_run import describe_study
from acdit.studies.measurements import FILE
from acdit.studies.run_store import RunStore
from acdit.studies.study import STUDIES
from acdit.utils.errors import UserError
from acdit.utils.references import load_object
from tests.studies.grids import seeded
from tests.tiny import given


@pytest.fixture
def two(tmp_path):
    """The store and the folder of a study that has measured two seeds, and the rows of its file."""
    store, out = RunStore(tmp_path / "runs"), tmp_path / "out"
    given(run_study(seeded(2), out, store=store))
    return store, out, json.loads((out / FILE).read_text())["rows"]


def rows_of(out):
    return json.loads((out / FILE).read_text())["rows"]


def of_an_earlier_version(out, store, seeds=2):
    """Write a file as earlier versions did: one digest, of all training runs, among the settings."""
    path = out / FILE
    content = json.loads(path.read_text())
    setting = {"first_seed": 0, "seeds": seeds, "runs": store.digest_of(seeded(seeds).runs)}
    rows = [{key: value for key, value in row.items() if key != "runs"} for row in content["rows"]]
    path.write_text(json.dumps(content | {"setting": setting, "rows": rows}))


@pytest.mark.parametrize("earlier", [False, True])
def test_only_new_seeds_are_measured(earlier, two, tmp_path):
    store, out, before = two
    if earlier:
        of_an_earlier_version(out, store)
    assert "2 of 3 rows" in describe_study(seeded(3), out, store)
    trained = {path: path.stat().st_mtime_ns for path in store.root.glob("*/run.json")}
    report = given(run_study(seeded(3), out, store=store)).report
    after = rows_of(out)
    assert after[:2] == before and [row["seed"] for row in after] == [0, 1, 2]
    assert all(path.stat().st_mtime_ns == time for path, time in trained.items())
    straight = given(run_study(seeded(3), tmp_path / "straight", store=store)).report
    assert report == straight and rows_of(tmp_path / "straight") == after


def test_fewer_and_other_seeds_leave_the_rows_of_the_others(two):
    store, out, before = two
    report = given(run_study(seeded(1), out, store=store)).report
    assert f"{out / FILE} holds 1 more rows, of other seeds" in report and before[1]["weights"] not in report
    report = given(run_study(seeded(2, first=1), out, store=store)).report
    assert before[0]["weights"] not in report and before[1]["weights"] in report
    assert rows_of(out)[:2] == before and len(rows_of(out)) == 3
    report = given(run_study(seeded(3), out, store=store)).report
    assert "more rows" not in report and all(row["weights"] in report for row in rows_of(out))


@pytest.mark.parametrize("earlier", [False, True])
def test_rows_of_other_training_runs_are_refused(earlier, two):
    store, out, before = two
    if earlier:
        of_an_earlier_version(out, store)
    for seeds in (2, 3):
        with pytest.raises(UserError, match=r"other settings \(training runs .*--refresh"):
            run_study(seeded(seeds, **{"training.steps": 7}), out, store=store)
    assert [row["weights"] for row in rows_of(out)] == [row["weights"] for row in before]


def test_a_file_of_an_earlier_version_needs_all_its_seeds(two):
    """Its digest of all training runs says nothing about a part of them."""
    store, out, _ = two
    of_an_earlier_version(out, store)
    with pytest.raises(UserError, match="or more seeds; an earlier version wrote the file"):
        run_study(seeded(1), out, store=store)
    of_an_earlier_version(out, store, seeds=3)  # it was stopped after two of them
    assert "2 of 3 rows" in describe_study(seeded(3), out, store)


def test_settings_of_studies_do_not_hold_the_number_of_seeds():
    cases: dict[str, Any] = {name: load_object(study.design) for name, study in STUDIES.items()}
    for name in ("blocks", "video"):
        settings = [cases[name](budget="full", first_seed=0, seeds=seeds).setting for seeds in (3, 5)]
        assert settings[0] == settings[1], name
    few, many = (cases["understanding"](first_seed=0, seeds=seeds) for seeds in (3, 5))
    assert few.setting == many.setting
    few, many = (cases["metrics"](seed=0, count=100, damaged=seeds) for seeds in (3, 5))
    assert few.setting == many.setting
    budgets = {each.setting.get("budget") for claim in CLAIMS for each in claim.evidence} - {None}
    assert budgets <= {"full", "full-mnist"}
