"""`acdit study text`: what it trains and scores, that it goes on, what it says of the order, and refusals."""

import json
import statistics

import pytest

from acdit.cli.main import main
from acdit.data.config import DataConfig
from acdit.data.shakespeare import SHAKESPEARE
from acdit.data.texts import open_texts
from acdit.evaluation.texts import Scoring, likelihood
from acdit.model.layout import Layout
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.studies import text
from acdit.studies.text import Budget, describe_order, study_text


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(text, "NETWORK", {"num_layers": 1, "hidden_size": 8, "num_heads": 1})


BUDGET = Budget(steps=2, batch=2, samples=10)


def run(folder):
    result = study_text(folder, BUDGET, first_seed=0, seeds=2, blocks=(1, 256))
    assert result is not None
    print(result.report)
    return json.loads((folder / "measurements.json").read_text())


def test_networks_are_trained_once_and_scored(tmp_path, capsys, monkeypatch):
    made = run(tmp_path)
    shown = capsys.readouterr().out
    keys = {(row["trained"], row["block"], row["seed"]) for row in made["rows"]}
    assert keys == {
        (trained, block, seed) for trained in ("alone", "all") for block in (1, 256) for seed in (0, 1)
    }
    assert (tmp_path / "text.png").stat().st_size > 5000
    blocks = {name: load_pipeline(tmp_path / f"{name}-1").config["block"] for name in ("block-256", "all")}
    assert blocks == {"block-256": [256], "all": [1]} or blocks == {"block-256": (256,), "all": (1,)}

    pipeline = load_pipeline(tmp_path / "block-256-1", kind=ACDiTTextPipeline)
    held_out = open_texts(DataConfig(source=SHAKESPEARE), pipeline.tokenizer, 256, held_out=True)
    row = next(
        row for row in made["rows"] if (row["trained"], row["block"], row["seed"]) == ("alone", 256, 1)
    )
    again = likelihood(pipeline, held_out, Layout((256,), (256,)), Scoring(10, 2, 4, "counts", 1))
    assert again["bits_per_byte"] == row["bits_per_byte"]
    mean = statistics.mean(
        row["bits_per_byte"] for row in made["rows"] if (row["trained"], row["block"]) == ("alone", 1)
    )
    assert f"{mean:.4g}" in shown

    monkeypatch.setattr(text, "train", lambda *_: pytest.fail("it was trained again"))
    assert run(tmp_path) == made


def test_a_stopped_training_ends_the_study(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text, "train", lambda *_: None)
    assert study_text(tmp_path, BUDGET, first_seed=0, seeds=2) is None
    assert not (tmp_path / "measurements.json").exists() and capsys.readouterr().out == ""


def test_what_is_said_of_the_order():
    said = describe_order(
        "alone", {16: [2.5, 2.6, 2.55], 1: [2.0, 2.1, 2.04], 4: [2.0, 2.05, 2.1], 64: [2.1, 2.2, 2.15]}
    )
    assert "1 below 4: unclear" in said and "4 below 16: confirmed (+0.5000 +-" in said
    assert "16 below 64: refuted (-0.4000 +- 0.0000)" in said and "on one block size" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "x"], "trains its own networks"),
        (["--device", "cpu"], "trains its own networks"),
        (["--training-steps", "0"], "--training-steps must be at least 1"),
        (["--seeds", "1"], "--seeds must be at least 2"),
    ],
)
def test_refusals(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "text", *arguments]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
