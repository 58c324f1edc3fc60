"""The study of understanding and the choice of its settings, with tiny runs on 8x8 digits."""

import json
from dataclasses import asdict
from pathlib import Path

from acdit.cli.main import main
from acdit.studies.run_store import RunSpec
from acdit.studies.understanding import understanding_design
from acdit.studies.understanding_choice import candidates, chosen
from acdit.studies.understanding_report import GENERATIVE, PROBES, SCRATCH, TUNED, TUNED_DIT
from acdit.studies.understanding_runs import Budget
from acdit.studies.understanding_settings import CHOSEN


def test_the_study_runs_to_its_tables_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path / "runs"))
    command = ["study", "understanding", "--budget", "quick", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert main([*command, "--dry-run"]) == 0
    assert "0 of" in capsys.readouterr().out and not (tmp_path / "out" / "measurements.json").exists()
    assert main(command) == 0
    first = (tmp_path / "out" / "understanding.md").read_text()
    rows = json.loads((tmp_path / "out" / "measurements.json").read_text())["rows"]
    arms = {row["arm"] for row in rows}
    assert {TUNED, TUNED_DIT, GENERATIVE} <= arms
    probes = [row for row in rows if row["layer"] != -1]
    assert len(probes) == len(PROBES) * 2 * 2 * 2  # kinds of input, layers, seeds
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} >= {".json", ".md", ".png"}
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("run.json")}
    (tmp_path / "out" / "understanding.md").unlink()
    assert main(command) == 0  # trains and measures nothing again
    assert (tmp_path / "out" / "understanding.md").read_text() == first
    assert trained == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("run.json")}


def test_runs_start_from_generators_of_their_seed_and_share_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path))
    design = understanding_design(first_seed=0, seeds=2, quick=True)
    starts = [
        (spec.seed, spec.overrides["training.init_from"])
        for spec in design.runs
        if isinstance(spec.overrides.get("training.init_from"), RunSpec)
    ]
    assert starts and all(start.seed == seed for seed, start in starts)
    assert {start.overrides["diffusion"]["label_dropout"] for _, start in starts} == {1.0}  # no label is seen
    noised = {
        spec.overrides["training.init_from"].overrides["layout"]["blocks"][0]: spec.overrides["layout.blocks"]
        for spec in design.runs
        if spec.overrides.get("classifier.timestep") is not None
    }
    assert noised == {"4x4": ["4x4"]}  # the whole image is one block in both
    labelled = {
        spec.name: spec.overrides["diffusion"]["label_dropout"]
        for spec in design.runs
        if "diffusion" in spec.overrides
    }
    assert labelled == {"generator-with-labels-0": 0.1, "generator-with-labels-1": 0.1}


def test_the_choice_is_the_best_candidate_and_the_simpler_one_of_equals():
    def row(rate: float, augmented: bool, accuracy: float, steps: int = 300) -> tuple:
        values = {"arm": TUNED, "labels": 10, "learning_rate": rate, "steps": steps, "augmented": augmented}
        return tuple(values.values()), values | {"accuracy": accuracy, "error": 0.01}

    rows = dict([row(1e-3, False, 0.7), row(1e-3, True, 0.8), row(2e-3, False, 0.8), row(2e-3, True, 0.6)])
    assert chosen(rows, TUNED, 10)["learning_rate"] == 1e-3 and chosen(rows, TUNED, 10)["augmented"]
    rows |= [row(1e-3, False, 0.8)]
    assert not chosen(rows, TUNED, 10)["augmented"]
    rows |= [row(5e-3, True, 0.8, steps=150)]
    assert chosen(rows, TUNED, 10)["steps"] == 150


def test_the_study_takes_the_settings_that_are_chosen():
    """Those of the committed measurements."""
    path = Path(__file__).parents[2] / "docs" / "studies" / "understanding-settings" / "measurements.json"
    rows = dict(enumerate(json.loads(path.read_text())["rows"]))
    best = {
        (arm, labels): chosen({(number,): row for number, row in rows.items()}, arm, labels)
        for arm, labels in CHOSEN
    }
    assert {(arm, labels) for arm in (TUNED, SCRATCH) for labels in Budget().labels} == set(CHOSEN)
    for key, settings in CHOSEN.items():
        assert asdict(settings).items() <= best[key].items()


def test_candidates_differ_from_the_first_one_in_one_setting_each_and_the_last_in_two():
    centre, *others = candidates(300)
    assert len(set(others)) == 5 and centre not in others
    fields = asdict(centre)
    changes = [sum(fields[key] != value for key, value in asdict(other).items()) for other in others]
    assert changes == [1, 1, 1, 1, 2]


def test_the_choice_trains_on_training_digits_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path / "runs"))
    out = tmp_path / "out"
    assert main(["study", "understanding-settings", "--budget", "quick", "--out", str(out)]) == 0
    table = (out / "understanding-settings.md").read_text()
    assert table.count("| yes |\n") == 2 and "understanding-settings.md" in capsys.readouterr().out
    settings = [json.loads(path.read_text())["settings"] for path in (tmp_path / "runs").glob("*/run.json")]
    classifiers = [each for each in settings if each.get("training.objective") == "classification"]
    assert classifiers and {each["data.validation_fraction"] for each in classifiers} == {0.2}
