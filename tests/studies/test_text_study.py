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
from acdit.studies import run_store
from acdit.studies.design import Design, run_study
from acdit.studies.run_store import RunStore
from acdit.studies.text import describe_order, text_design
from tests.tiny import given

NETWORK = {"num_layers": 1, "hidden_size": 8, "num_heads": 1}


def design() -> Design:
    return text_design(steps=2, batch=2, samples=10, first_seed=0, seeds=2, blocks=(1, 256), network=NETWORK)


def run(folder, store):
    result = given(run_study(design(), folder, store=store))
    assert [path.name for path in result.files] == ["measurements.json", "text.md", "text.png"]
    print(result.report)
    return json.loads((folder / "measurements.json").read_text())


def test_networks_are_trained_once_and_scored(tmp_path, capsys, monkeypatch):
    store, out = RunStore(tmp_path / "runs"), tmp_path / "study"
    made = run(out, store)
    shown = capsys.readouterr().out
    keys = {(row["trained"], row["block"], row["seed"]) for row in made["rows"]}
    assert keys == {
        (trained, block, seed) for trained in ("alone", "all") for block in (1, 256) for seed in (0, 1)
    }
    assert (out / "text.png").stat().st_size > 5000
    runs = {run.name: run for run in store.runs(design().runs)}
    assert set(runs) == {f"{name}-{seed}" for name in ("all", "block-1", "block-256") for seed in (0, 1)}
    blocks = {name: load_pipeline(runs[name].folder).config["block"] for name in ("block-256-1", "all-1")}
    assert {name: list(block) for name, block in blocks.items()} == {"block-256-1": [256], "all-1": [1]}

    pipeline = load_pipeline(runs["block-256-1"].folder, kind=ACDiTTextPipeline)
    held_out = open_texts(DataConfig(source=SHAKESPEARE), pipeline.tokenizer, 256, held_out=True)
    row = next(
        row for row in made["rows"] if (row["trained"], row["block"], row["seed"]) == ("alone", 256, 1)
    )
    again = likelihood(pipeline, held_out, Layout((256,), (256,)), Scoring(10, 2, 4, "counts", 1))
    assert again["bits_per_byte"] == row["bits_per_byte"]
    mean = statistics.mean(
        row["bits_per_byte"] for row in made["rows"] if (row["trained"], row["block"]) == ("alone", 1)
    )
    assert f"{mean:.4g}" in shown and f"| 1 | {mean:.4g} |" in (out / "text.md").read_text()

    monkeypatch.setattr(run_store, "train", lambda *_, **__: pytest.fail("it was trained again"))
    assert run(out, store) == made


def test_what_is_said_of_the_order():
    said = describe_order(
        "alone", {16: [2.5, 2.6, 2.55], 1: [2.0, 2.1, 2.04], 4: [2.0, 2.05, 2.1], 64: [2.1, 2.2, 2.15]}
    )
    assert "1 below 4: unclear" in said and "4 below 16: confirmed (+0.5000 +-" in said
    assert "16 below 64: refuted (-0.4000 +- 0.0000)" in said and "on one block size" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "x"], "unknown option --model"),
        (["--device", "cpu"], "unknown option --device"),
        (["--budget", "tiny"], "--budget must be one of full, quick"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--training-steps", "0"], "--training-steps must be at least 1"),
        (["--seeds", "1"], "--seeds must be at least 2"),
    ],
)
def test_refusals(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "text", *arguments]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
