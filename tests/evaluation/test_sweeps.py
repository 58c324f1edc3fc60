"""Sweeps: the syntax, the combinations, the best row, and the checkpoints of a run by the command line."""

import pytest
from PIL import Image

from acdit.cli.main import main
from acdit.cli.sweep_options import SWEPT, parse_sweep
from acdit.evaluation.report import Better, Report, Score
from acdit.evaluation.sweeps import SweepRow, best_row, combinations, plot_sweep, sweep_table
from acdit.training.loop import train
from acdit.utils.errors import UserError
from tests.evaluation.stored import score, stored
from tests.processes import on_ranks
from tests.training.small import small_recipe


def rows(values, better: Better = "lower", real=None, metric="m"):
    return [
        SweepRow({"guidance": float(index), "ema": None}, Report((Score(metric, value, "f", real, better),)))
        for index, value in enumerate(values)
    ]


def test_words_are_lists_of_values():
    found = parse_sweep(
        ["guidance=1,1.5,2", "steps=10,25", "block=8x8,4x4", "checkpoint=all", "ema=0.99,none"]
    )
    assert found == {
        "guidance": [1.0, 1.5, 2.0],
        "steps": [10, 25],
        "block": ["8x8", "4x4"],
        "checkpoint": ["all"],
        "ema": [0.99, None],
    }
    assert list(combinations({"a": [1, 2], "b": [3, 4]})) == [
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    ]
    assert list(combinations({})) == [{}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gidance=1"], "did you mean guidance"),
        (["guidance"], "must be KEY=VALUE,VALUE"),
        (["guidance="], "must be numbers, such as 1,1.5,2, not empty"),
        (["guidance=1,x"], "must be numbers, such as 1,1.5,2, not '1,x'"),
        (["guidance=nan"], "must be numbers"),
        (["steps=1.5"], "must be whole numbers above 0"),
        (["steps=0"], "must be whole numbers above 0"),
        (["block=4x"], "must be block sizes"),
        (["ema=2"], "must be decays"),
        (["checkpoint=last"], "must be steps of checkpoints of the run, or all"),
        (["checkpoint=all,3"], "leave out the others"),
        (["steps=1", "steps=2"], "names steps twice"),
    ],
)
def test_mistakes_are_named(words, said):
    with pytest.raises(UserError) as caught:
        parse_sweep(words)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_keys_of_another_modality_are_refused():
    with pytest.raises(UserError, match="cannot vary 'block'"):
        parse_sweep(["block=4x4"], [key for key in SWEPT if key != "block"])


def test_the_best_row_is_marked(tmp_path):
    assert best_row(rows([3, 1, 2])) == 1 and best_row(rows([3, 1, 3], "higher")) == 0
    assert best_row(rows([3, 1.2, 0.9], "near real")) == 2
    assert best_row(rows([3, 1.2, 0.9], "near real", 2.5)) == 0
    copied = rows([0.9, 0.1, 0.5], "near real", metric="copied_fraction")
    assert best_row(copied) == 1  # not the setting that copies most
    lines = sweep_table(rows([3.0, 1.0])).splitlines()
    assert lines[0].split() == ["guidance", "ema", "m"]
    assert [line.startswith("*") for line in lines] == [False, False, True, False] and "none" in lines[1]
    assert lines[3] == "marked *: the best m on f"
    assert sweep_table(rows([3.0, 1.0], real=0.5)).endswith("the best m on f; real data: 0.5")
    plot_sweep(rows([3.0, 1.0, 2.0], real=0.5), tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.width > 500


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits with checkpoints of steps 2 and 4."""
    settings = {"steps": 4, "checkpoint_every": 2, "keep_checkpoints": 2}
    folder = tmp_path_factory.mktemp("run")
    train(small_recipe(folder, training=settings, optimizer={"ema_decay": 0.5}, validation={"every": 0}))
    return str(folder)


def test_checkpoints_and_averages_are_swept(run, tmp_path, capsys):
    words = [
        "evaluate",
        "--model",
        run,
        "--count",
        "20",
        "--steps",
        "1",
        "--metrics",
        "frechet_distance,coverage",
    ]
    out, plot = tmp_path / "sweep.json", tmp_path / "sweep.png"
    sweep = ["--sweep", "checkpoint=all", "ema=0.5,none", "guidance=1,2"]
    assert main([*words, *sweep, "--out", str(out), "--plot", str(plot)]) == 0
    reports = stored(out)
    settings = [[one["settings"][key] for key in ("checkpoint", "ema", "guidance")] for one in reports]
    assert settings == [[step, ema, scale] for step in (2, 4) for ema in (0.5, None) for scale in (1, 2)]
    values = [score(one, "frechet_distance")["value"] for one in reports]
    assert len(set(values)) == 8 and plot.exists()
    written = capsys.readouterr()
    assert sum(line.startswith("*") for line in written.out.splitlines()) == 1
    assert "8 of 8: checkpoint 4, ema none, guidance 2" in written.err
    assert main([*words, "--guidance", "2", "--out", str(out)]) == 0  # the exported pipeline
    assert score(stored(out)[0], "frechet_distance")["value"] == pytest.approx(values[5])


@pytest.mark.long
def test_two_ranks_give_the_scores_of_one(run, tmp_path):
    """An odd number of samples, in batches that the ranks take in turn."""
    words = ["evaluate", "--model", run, "--count", "21", "--steps", "1", "--batch", "4"]
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    assert main([*words, "--out", str(one)]) == 0
    assert on_ranks(main, 2, [*words, "--out", str(two)]) == [0, 0]
    for single, shared in zip(stored(one)[0]["scores"], stored(two)[0]["scores"], strict=True):
        assert single["metric"] == shared["metric"]
        assert shared["value"] == pytest.approx(single["value"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ema=0.9"], "no moving average of decay 0.9: it holds 0.5 and none"),
        (["checkpoint=3"], "no checkpoint of step 3: it holds those of 2, 4"),
        (["guidance=1", "--guidance", "2"], "--sweep varies guidance: leave out --guidance"),
        (["steps=1", "--fast"], "--sweep varies steps, which --fast sets"),
        (["guidance=1", "--neighbours", "n.png"], "--neighbours shows the samples of one setting"),
    ],
)
def test_what_a_run_does_not_hold_is_refused_before_samples_are_drawn(run, words, said, tmp_path, capsys):
    out = tmp_path / "sweep.json"
    assert main(["evaluate", "--model", run, "--out", str(out), "--sweep", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not out.exists()
    assert main(["evaluate", "--model", "mnist", "--out", str(out), "--sweep", "ema=0.5"]) == 2
    assert "--sweep ema needs the folder of a training run" in capsys.readouterr().err
