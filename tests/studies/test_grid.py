"""The store of training runs and the grid: trained once, shared, stopped, resumed, planned, refused."""

import json
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from acdit.cli.main import main
from acdit.studies import run_store, train_runs
from acdit.studies.design import run_study
from acdit.studies.dry_run import describe_study
from acdit.studies.grid import train_grid
from acdit.studies.grid_worker import spec_from_json, spec_to_json
from acdit.studies.run_store import RunSpec, RunStore
from acdit.studies.study import STUDIES, study_named
from acdit.studies.train_runs import GridProgress, current_step, train_all
from acdit.training.inspection import inspect_data
from acdit.training.loop import train
from acdit.training.plan import make_plan
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError
from acdit.utils.files import file_digest, only_writer
from acdit.utils.references import load_object
from tests.studies.grids import TINY, design, spec, states, weights
from tests.tiny import given
from tests.training.test_checkpoint import small_disk


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A store with one finished run."""
    root = tmp_path_factory.mktemp("grid") / "runs"
    given(train_grid([spec(0)], store=RunStore(root)))
    return root


@pytest.fixture
def one_run(trained_once, tmp_path):
    """A store of this test with that run, and the run."""
    shutil.copytree(trained_once, tmp_path / "runs")
    store = RunStore(tmp_path / "runs")
    return store, store.run(spec(0))


def not_again(*_, **__):
    pytest.fail("it was trained again")


def test_a_run_is_trained_once_and_shared(store, tmp_path, monkeypatch):
    first = spec(0)
    runs = given(train_grid([first, spec(1), spec(0)], store=store))
    assert runs[0].folder == runs[2].folder != runs[1].folder
    assert states(store.root) == {run.digest: "finished" for run in runs}
    plain = load_recipe("digits", out=str(tmp_path / "plain"), **TINY)
    trained = given(train(plain))
    assert weights(runs[0]) == file_digest(trained / "transformer" / "diffusion_pytorch_model.safetensors")

    facts = json.loads((runs[1].folder / "run.json").read_text())
    assert facts["settings"]["training.seed"] == 1 and facts["settings"]["training.steps"] == 6
    assert facts["seconds"] > 0 and facts["threads"] >= 1 and facts["name"] == "seed 1"
    assert facts["flops"] == make_plan(plain).total_flops

    monkeypatch.setattr(run_store, "train", not_again)
    other = RunSpec("digits", TINY | {"training.log_every": 3, "data.workers": 0}, 0, "of another study")
    assert given(train_grid([other], store=RunStore(store.root)))[0].folder == runs[0].folder


def test_a_run_starts_from_another_that_is_trained_before(store, tmp_path):
    pretrained = spec(0)
    tuned = spec(5, pretrained)
    assert [run.name for run in store.runs([tuned])] == ["seed 0", "seed 5 fine-tuned"]
    (run,) = given(train_grid([tuned], store=store))
    start = store.run(pretrained)
    assert run.recipe.training.init_from == str(start.folder) and start.finished
    recipe = load_recipe("digits", out=str(tmp_path / "tuned"), **TINY)
    recipe.training.seed, recipe.training.init_from = 5, str(start.folder)
    trained = given(train(recipe))
    assert weights(run) == file_digest(trained / "transformer" / "diffusion_pytorch_model.safetensors")

    elsewhere = RunStore(tmp_path / "elsewhere")
    assert elsewhere.run(tuned).digest == run.digest  # the folder of the store does not count
    assert store.run(spec(5, spec(1))).digest != run.digest
    assert store.run(spec(5, spec(0, None, {"training.steps": 7}))).digest != run.digest
    assert store.run(spec(5, spec(0, None, {"training.log_every": 7}))).digest == run.digest
    # once it is finished, the run that it started from is not needed
    assert [each.name for each in store.runs([tuned])] == ["seed 5 fine-tuned"]


def test_flops_of_a_run_whose_start_is_not_trained(store):
    wide = spec(0, None, {"model.hidden_size": 32})
    tuned = store.run(spec(1, spec(2, wide)))
    expected = given(make_plan(store.run(wide).recipe).total_flops)
    assert tuned.flops == expected and store.run(spec(0)).flops != expected
    assert inspect_data(tuned.recipe).num_classes == 10
    from_outside = store.run(RunSpec("mnist", {"training.init_from": "mnist", "training.steps": 3}))
    assert given(from_outside.flops) > 0


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The report of the tiny study that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    return given(run_study(design(), folder / "out", store=RunStore(folder / "runs"))).report


def stop_at(monkeypatch, at):
    """Send SIGTERM to this process at a number of steps of all runs."""
    shown = GridProgress._show

    def show(self):
        shown(self)
        if sum(self._steps.values()) == at:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(train_runs.GridProgress, "_show", show)


@pytest.mark.parametrize(("at", "stopped_at"), [(2, 3), (6, 6)])
def test_a_stopped_study_ends_and_resumes(at, stopped_at, straight, tmp_path, monkeypatch, capsys):
    """In the first run, which completes the step that it has begun, and after its last step."""
    root, out = tmp_path / "runs", tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_at(patched, at)
        assert run_study(design(), out, store=RunStore(root)) is None
    assert "run the same command again" in capsys.readouterr().err
    assert not (out / "measurements.json").exists()
    runs = {run.name: run for run in RunStore(root).runs(design().runs)}
    assert sum(current_step(run) for run in runs.values()) == stopped_at
    table = describe_study(design(), out, RunStore(root))
    assert "0 of 3 rows" in table
    assert stopped_at == 6 or f"{stopped_at % 6} of 6 steps" in table
    result = given(run_study(design(), out, store=RunStore(root)))
    assert result.report == straight

    monkeypatch.setattr(run_store, "train", not_again)  # rows that are measured need no runs
    again = given(run_study(design(), out, store=RunStore(tmp_path / "empty")))
    assert again.report == straight and not (tmp_path / "empty").exists()
    with pytest.raises(UserError, match="other settings"):  # of other runs
        run_study(design(**{"training.steps": 7}), out, store=RunStore(root))


def test_rows_are_measured_before_the_next_run_is_trained(straight, tmp_path, monkeypatch):
    """A study that is stopped in its second run keeps the row of the first."""
    root, out = tmp_path / "runs", tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_at(patched, 8)
        assert run_study(design(), out, store=RunStore(root)) is None
    (row,) = json.loads((out / "measurements.json").read_text())["rows"]
    assert row["run"] == "0" and "1 of 3 rows" in describe_study(design(), out, RunStore(root))
    assert given(run_study(design(), out, store=RunStore(root))).report == straight


def test_a_run_that_another_process_trains_is_left_to_it(store):
    mine, theirs = store.run(spec(0)), store.run(spec(1))
    done = []
    with only_writer(theirs.folder, "a study"):
        thread = threading.Thread(target=lambda: done.append(train_all([theirs, mine])))
        thread.start()
        deadline = time.monotonic() + 60
        while not mine.finished and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mine.finished and theirs.facts is None and thread.is_alive()
    thread.join(60)
    assert done == [True] and theirs.finished


def test_a_study_measures_what_it_can_while_another_process_trains_its_first_run(tmp_path, capsys):
    """The first run is held, and with it the one that starts from it: the second is trained and measured."""
    store, out = RunStore(tmp_path / "runs"), tmp_path / "out"
    first, second, _ = store.runs(design().runs)
    results = []
    with only_writer(first.folder, "a study"):
        thread = threading.Thread(target=lambda: results.append(run_study(design(), out, store=store)))
        thread.start()
        deadline = time.monotonic() + 60
        said = ""
        while "waiting" not in said and time.monotonic() < deadline:
            time.sleep(0.05)
            said += capsys.readouterr().err
        (row,) = json.loads((out / "measurements.json").read_text())["rows"]
        assert row["run"] == "1" and second.finished and first.facts is None and thread.is_alive()
        assert said.count(f"waiting: another process trains seed 0 in {first.folder}") == 1
    thread.join(60)
    straight = given(run_study(design(), tmp_path / "straight", store=store)).report
    assert [given(result).report for result in results] == [straight]  # in the order of the design
    assert "3 training runs: 100%" in capsys.readouterr().err


def test_declarations_pass_to_a_worker_as_json(store):
    declared = spec(3, spec(1, None, {"layout.blocks": ["2x2", "4x4"]}), {"diffusion.views": 2})
    received = spec_from_json(json.loads(json.dumps(spec_to_json(declared))))
    assert store.run(received).digest == store.run(declared).digest
    assert store.run(received).needs[0].digest == store.run(declared).needs[0].digest


def test_a_dry_run_writes_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(run_store, "train", not_again)
    table = describe_study(design(), tmp_path / "out", store)
    assert not list(tmp_path.iterdir())
    flops = given(make_plan(load_recipe("digits", **TINY)).total_flops)
    lines = table.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        *("seed 0", "seed 1", "seed 2 fine-tuned", "total")
    ]
    assert all("missing" in line and f"{flops:.3g}" in line for line in lines[1:4])
    assert "0 of 3 finished" in lines[4] and f"{3 * flops:.3g}" in lines[4]
    assert "30% of its best rate" in lines[5] and "0 of 3 rows" in lines[6]
    assert lines[4].endswith("< 0.01")


def test_a_dry_run_names_runs_that_are_not_needed(store, tmp_path):
    """All their rows are measured, so that the store may be removed."""
    given(run_study(design(), tmp_path / "out", store=store))
    table = describe_study(design(), tmp_path / "out", RunStore(tmp_path / "empty"))
    assert table.count("not needed: measured") == 3 and "3 of 3 rows" in table
    assert [line.split()[-1] for line in table.splitlines()[1:5]] == ["0"] * 4
    again = describe_study(design(), tmp_path / "out", RunStore(tmp_path / "empty"), refresh=True)
    assert again.count("missing") == 3 and "0 of 3 rows" in again


def test_hours_follow_the_finished_runs_of_the_machine(one_run, tmp_path):
    store, run = one_run
    path = run.folder / "run.json"
    facts = json.loads(path.read_text())
    large = facts["flops"] * 1e12  # as of a long run
    path.write_text(json.dumps(facts | {"seconds": 7200.0, "flops": large}))
    assert run.finished
    path.write_text(json.dumps(facts | {"seconds": 7200.0}))
    lines = describe_study(design(), tmp_path / "out", store).splitlines()
    assert lines[1].split()[3:] == ["finished", f"{facts['flops']:.3g}", "0"]
    assert [line.split()[-1] for line in lines[2:5]] == ["2", "2", "4"]  # each as long as the first
    assert "as the 1 finished runs of this machine" in lines[5]
    half = {"seconds": 3600.0, "timed_steps": facts["timed_steps"] // 2}  # the other half was killed
    path.write_text(json.dumps(facts | half))
    assert describe_study(design(), tmp_path / "out", store).splitlines()[1:5] == lines[1:5]
    path.write_text(json.dumps(facts | {"seconds": 7200.0, "threads": 4000}))
    assert "30% of its best rate" in describe_study(design(), tmp_path / "out", store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: "{", "is damaged"),
        (lambda facts: json.dumps(facts | {"state": "done"}), "state must be one of finished, unfinished"),
        (lambda facts: json.dumps({"state": "finished"}), "it lacks 'name'"),
        (
            lambda facts: json.dumps(facts | {"settings": facts["settings"] | {"training.seed": 9}}),
            "holds a run with another recipe",
        ),
        (lambda facts: json.dumps(facts | {"flops": -1.0}), "flops must be a number of FLOPs or null"),
        (lambda facts: json.dumps(facts | {"version": 9999}), "holds a run with another recipe"),
        (lambda facts: json.dumps(facts | {"digest": "0"}), "holds a run with another recipe"),
    ],
)
def test_a_folder_that_holds_something_else_is_named(change, said, one_run, tmp_path):
    store, run = one_run
    path = run.folder / "run.json"
    path.write_text(change(json.loads(path.read_text())))
    for attempt in (
        lambda: train_grid([spec(0)], store=store),
        lambda: describe_study(design(), tmp_path / "out", store),
    ):
        with pytest.raises(UserError, match=said) as refused:
            attempt()
        assert str(run.folder) in str(refused.value) and "\n" not in str(refused.value)


def test_a_finished_run_without_its_pipeline_is_damaged(one_run):
    store, run = one_run
    run.pipeline.rename(run.folder / "away")
    with pytest.raises(UserError, match="its pipeline is missing: remove it to train it again"):
        train_grid([spec(0)], store=store)


def test_a_run_that_cannot_be_trained_is_named(store):
    with pytest.raises(UserError, match=r"run seed 0 in .*: training\.batch_size must be a multiple"):
        train_grid([spec(0, None, {"training.accumulation": 5})], store=store)
    assert set(states(store.root).values()) == {"unfinished"}
    with pytest.raises(UserError, match="unknown key"):
        train_grid([spec(0, None, {"training.stepz": 5})], store=store)


def test_a_full_disk_leaves_nothing_half_written(store):
    with small_disk(), pytest.raises(OSError, match="too large"):
        train_grid([spec(0)], store=store)
    assert not list(store.root.rglob("*.partial")) and not list(store.root.rglob("*.lock"))
    assert given(train_grid([spec(0)], store=store))[0].finished


def test_where_runs_are_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACDIT_RUNS", raising=False)
    assert RunStore().root == tmp_path / "out" / "runs"
    monkeypatch.setenv("ACDIT_RUNS", "elsewhere")
    assert RunStore().root == tmp_path / "elsewhere"


def test_every_study_has_options_and_a_design():
    for study in STUDIES.values():
        assert load_object(study.options) and callable(load_object(study.design))
        assert study.example.startswith(f"acdit study {study.name}")
    with pytest.raises(UserError, match="unknown study 'smapling'; did you mean sampling"):
        study_named("smapling")


def test_the_command_plans_and_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path / "runs"))
    assert main(["study", "text", "--budget", "quick", "--dry-run"]) == 0
    assert "block-256-1" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert main(["study", "intervals", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("no training runs\nmeasurements: 0 of")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path / "file" / "runs"))
    assert main(["study", "text", "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert "cannot be written: set ACDIT_RUNS to another one" in err and err.count("\n") == 1
    for words in (["--help"], ["sampling", "--help"], ["text", "--help"]):
        assert main(["study", *words]) == 0
    assert "--jobs" in capsys.readouterr().out
    assert list(Path().iterdir()) == [Path("file")]


def test_under_a_launcher_the_first_rank_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["study", "text", "--budget", "quick"]) == 0
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
