"""Measurements of other settings and other versions: said, and measured again only with `--refresh`."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from acdit.studies.design import Design, Measurement, run_study
from acdit.studies.dry_run import describe_study
from acdit.studies.measurements import EARLIER, release
from acdit.utils.errors import UserError
from tests.tiny import given


class Counter:
    """A study of two numbers, without training, that counts how often it measures."""

    def __init__(self):
        self.calls = 0

    def design(
        self,
        *,
        name: str = "counting",
        steps: int = 3,
        version: int = 1,
        limit: int = 99,
        numbers: Sequence[int] = (1, 2),
        real: float | None = None,
    ) -> Design:
        def measure(number: int):
            if self.calls == limit:
                raise KeyboardInterrupt
            self.calls += 1
            scored = {} if real is None else {"frechet_distance_real": real}
            yield {"number": number, "square": number**2, "call": self.calls, **scored}

        def report(rows, folder):
            del folder
            return f"calls {[row['call'] for row in rows.values()]}", ()

        measurements = [Measurement(((n,),), lambda n=n: measure(n)) for n in numbers]
        setting = {"steps": steps}
        return Design(
            "counting" if name is None else name,
            setting,
            ("number",),
            ("square",),
            measurements,
            report,
            version,
        )


@pytest.fixture
def counter(tmp_path) -> Counter:
    counter = Counter()
    assert given(run_study(counter.design(), tmp_path)).report == "calls [1, 2]"
    return counter


def stored(folder: Path) -> dict:
    return json.loads((folder / "measurements.json").read_text())


def test_the_file_says_what_measured_it(counter, tmp_path):
    content = stored(tmp_path)
    assert content["study"] == "counting" and content["versions"] == [release()]
    assert given(run_study(counter.design(), tmp_path)).report == "calls [1, 2]"  # nothing again


@pytest.mark.parametrize("change", [{"steps": 4}, {"version": 2}])
def test_other_settings_and_versions_of_a_study_are_refused_and_refreshed(change, counter, tmp_path):
    before = (tmp_path / "measurements.json").read_text()
    for refused in (
        lambda: run_study(counter.design(**change), tmp_path),
        lambda: describe_study(counter.design(**change), tmp_path),
    ):
        with pytest.raises(UserError, match="--refresh") as error:
            refused()
        said = "steps 3, not 4" if "steps" in change else "version None, not 2"
        assert said in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "measurements.json").read_text() == before
    assert "0 of 2 rows" in describe_study(counter.design(**change), tmp_path, refresh=True)
    assert given(run_study(counter.design(**change), tmp_path, refresh=True)).report == "calls [3, 4]"
    assert given(run_study(counter.design(**change), tmp_path)).report == "calls [3, 4]"


@pytest.mark.parametrize("stops", [1, 2])
@pytest.mark.parametrize("steps", [3, 4])
@pytest.mark.parametrize("limit", [2, 3])
def test_a_refresh_that_is_stopped_goes_on_without_it(counter, tmp_path, limit, steps, stops):
    """Also one that is stopped before its first row; what it found is kept until all is measured."""
    before = stored(tmp_path)
    for _ in range(stops):
        with pytest.raises(KeyboardInterrupt):
            run_study(counter.design(steps=steps, limit=limit), tmp_path, refresh=True)
        assert json.loads((tmp_path / EARLIER).read_text()) == before
    calls = "[4, 5]" if (limit, stops) == (3, 2) else "[3, 4]"  # the second refresh measures the row again
    assert given(run_study(counter.design(steps=steps), tmp_path)).report == f"calls {calls}"
    assert not (tmp_path / EARLIER).exists()


def test_equal_settings_are_refreshed_too(counter, tmp_path):
    assert given(run_study(counter.design(), tmp_path, refresh=True)).report == "calls [3, 4]"


def test_a_refresh_keeps_rows_that_the_study_does_not_ask_for(counter, tmp_path):
    design = counter.design(numbers=(2,))
    assert given(run_study(design, tmp_path, refresh=True)).report.endswith("\ncalls [3]")
    assert {row["number"]: row["call"] for row in stored(tmp_path)["rows"]} == {1: 1, 2: 3}
    changed = counter.design(numbers=(2,), steps=4)  # rows of other settings cannot stay
    assert given(run_study(changed, tmp_path, refresh=True)).report == "calls [4]"
    assert [row["number"] for row in stored(tmp_path)["rows"]] == [2]


def test_rows_of_another_evaluator_are_not_mixed(tmp_path):
    counter = Counter()
    run_study(counter.design(numbers=(1, 2), real=4.43), tmp_path)
    same = counter.design(numbers=(2, 3), real=4.4301)  # but for rounding
    assert given(run_study(same, tmp_path)).report.endswith("calls [2, 3]")
    other = counter.design(numbers=(3, 4), real=4.38)
    with pytest.raises(UserError, match=r"another fit of the evaluator has scored the rows .* --refresh"):
        run_study(other, tmp_path)
    assert len(stored(tmp_path)["rows"]) == 3
    assert given(run_study(other, tmp_path, refresh=True)).report == "calls [5, 6]"
    assert [row["number"] for row in stored(tmp_path)["rows"]] == [3, 4]


@pytest.mark.parametrize("refresh", [False, True])
def test_measurements_of_another_study_are_never_replaced(refresh, counter, tmp_path):
    with pytest.raises(UserError, match="does not belong to the study adding, but to counting"):
        run_study(counter.design(name="adding"), tmp_path, refresh=refresh)
    (tmp_path / "measurements.json").write_text('{"rows": []}')
    with pytest.raises(UserError, match="damaged or does not belong"):
        run_study(counter.design(), tmp_path, refresh=refresh)


def test_rows_of_another_version_of_the_package_are_kept_and_named(counter, tmp_path):
    path = tmp_path / "measurements.json"
    content = stored(tmp_path) | {"versions": ["0.0.1"]}
    path.write_text(json.dumps(content | {"rows": content["rows"][:1]}))
    note, table = given(run_study(counter.design(), tmp_path)).report.split("\n")
    assert "measured by acdit 0.0.1, and this is " + release() in note and "--refresh" in note
    assert table == "calls [1, 3]" and stored(tmp_path)["versions"] == ["0.0.1", release()]
    assert given(run_study(counter.design(), tmp_path, refresh=True)).report == "calls [4, 5]"


def test_files_that_do_not_name_their_study_are_read(counter, tmp_path):
    content = stored(tmp_path)
    (tmp_path / "measurements.json").write_text(
        json.dumps({key: content[key] for key in ("setting", "rows")})
    )
    report = given(run_study(counter.design(), tmp_path)).report
    assert report.endswith("\ncalls [1, 2]") and "measured by acdit of unknown version" in report


def test_commits_between_releases_measure_for_the_next_release(tmp_path, monkeypatch):
    counter = Counter()
    for version in ("0.4.0.dev11", "0.4.0.dev12", "0.4.0"):
        monkeypatch.setattr("acdit.studies.measurements.__version__", version)
        assert given(run_study(counter.design(), tmp_path)).report == "calls [1, 2]"
        assert stored(tmp_path)["versions"] == ["0.4.0"]
    monkeypatch.setattr("acdit.studies.measurements.__version__", "0.4.1.dev1")
    assert "measured by acdit 0.4.0, and this is 0.4.1" in given(run_study(counter.design(), tmp_path)).report
