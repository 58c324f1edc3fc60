"""`acdit study text`: what it trains and scores, that it goes on, its comparisons, and refusals."""

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
from acdit.studies.claims_text import TOTAL
from acdit.studies.design import Design, run_study
from acdit.studies.run_store import RunStore
from acdit.studies.text import text_design
from acdit.studies.text_report import compare_masks, compare_orders, compare_sizes
from tests.tiny import given

NETWORK = {"num_layers": 1, "hidden_size": 8, "num_heads": 1}


def design() -> Design:
    return text_design(steps=2, batch=2, samples=10, first_seed=0, seeds=2, blocks=(1, 256), network=NETWORK)


def run(folder, store):
    result = given(run_study(design(), folder, store=store))
    assert [path.name for path in result.files] == ["measurements.json", "text.md", "text.png"]
    print(result.report)
    return json.loads((folder / "measurements.json").read_text())


def of(made, masks, trained, block, order="random"):
    """The rows of an arm at a block size, by seed."""
    arm = (masks, trained, order, block)
    return {
        row["seed"]: row
        for row in made["rows"]
        if (row["masks"], row["trained"], row["order"], row["block"]) == arm
    }


def test_networks_are_trained_once_and_scored(tmp_path, capsys, monkeypatch):
    store, out = RunStore(tmp_path / "runs"), tmp_path / "study"
    made = run(out, store)
    shown = capsys.readouterr().out
    arms = (("counted", "alone"), ("independent", "alone"), ("counted", "all"), ("counted", TOTAL))
    assert all(set(of(made, *arm, block)) == {0, 1} for arm in arms for block in (1, 256))
    ordered = [
        of(made, "counted", trained, 1, order)
        for order in ("left", "lowest-entropy")
        for trained in ("alone", "all")
    ]
    assert all(set(rows) == {0, 1} for rows in ordered) and len(made["rows"]) == 24
    for seed, row in (*ordered[0].items(), *ordered[2].items()):  # a block of one token has one order
        assert row["bits_per_byte"] == pytest.approx(of(made, "counted", "alone", 1)[seed]["bits_per_byte"])
    assert (out / "text.png").stat().st_size > 5000
    runs = {run.name: run for run in store.runs(design().runs)}
    names = [f"{masks}-block-{block}" for masks in ("counted", "independent") for block in (1, 256)]
    assert set(runs) == {
        f"{name}-{seed}" for name in ("counted-all", "counted-all-total", *names) for seed in (0, 1)
    }
    steps = {name: run.recipe.training.steps for name, run in runs.items()}
    assert steps["counted-all-total-0"] == 4 and steps["counted-all-0"] == steps["counted-block-1-0"] == 2
    blocks = {
        name: load_pipeline(runs[name].folder).config["block"] for name in (f"{names[1]}-1", "counted-all-1")
    }
    assert {name: list(block) for name, block in blocks.items()} == {
        "counted-block-256-1": [256],
        "counted-all-1": [1],
    }
    trained = [runs[f"{name}-1"].recipe.diffusion.masks for name in (names[1], names[3])]
    assert trained == [None, "independent"]

    pipeline = load_pipeline(runs["independent-block-256-1"].folder, kind=ACDiTTextPipeline)
    held_out = open_texts(DataConfig(source=SHAKESPEARE), pipeline.tokenizer, 256, held_out=True)
    row = of(made, "independent", "alone", 256)[1]
    again = likelihood(pipeline, held_out, Layout((256,), (256,)), Scoring(10, 2, 4, "counts", 1))
    assert again["bits_per_byte"] == row["bits_per_byte"]
    assert row["training_flops"] == given(runs["independent-block-256-1"].flops) > 0
    values = [row["bits_per_byte"] for row in of(made, "counted", "alone", 1).values()]
    mean = f"{statistics.mean(values):.3f}"
    assert mean in shown and f"| 1 | {mean} ± " in (out / "text.md").read_text()

    monkeypatch.setattr(run_store, "train", lambda *_, **__: pytest.fail("it was trained again"))
    assert run(out, store) == made


def test_comparisons_are_paired_by_seed():
    """Of bits that differ by seed more than by anything else."""
    bits = {
        ("counted", "alone"): {1: 2.0, 4: 2.5},
        ("independent", "alone"): {1: 2.1, 4: 2.4},
        ("counted", "all"): {1: 2.2, 4: 2.2},
        ("counted", TOTAL): {1: 2.0, 4: 2.3},
    }
    rows = {
        (masks, trained, "random", block, seed): {
            "masks": masks,
            "trained": trained,
            "order": "random",
            "block": block,
            "seed": seed,
            "bits_per_byte": mean + seed + 0.001 * (seed % 2) * (masks == "counted") * block,
        }
        for (masks, trained), by_block in bits.items()
        for block, mean in by_block.items()
        for seed in range(5)
    }
    masks, sizes = compare_masks((1, 4), rows), compare_sizes((1, 4), rows)
    assert [each.verdict for each in masks] == ["confirmed", "refuted"]
    differences = [each.difference.mean for each in masks if each.difference is not None]
    assert differences == pytest.approx([-0.1 + 0.0004, 0.1 + 0.0016])
    assert [each.verdict for each in sizes] == ["confirmed", "confirmed", "undecided", "confirmed"]
    assert compare_orders((1, 4), rows) == []
    ordered = {
        (*key[:2], order, *key[3:]): row | {"order": order, "bits_per_byte": row["bits_per_byte"] + more}
        for order, more in (("left", -0.2), ("lowest-entropy", 0.1))
        for key, row in rows.items()
        if key[0] == "counted" and key[1] != TOTAL
    }
    orders = compare_orders((1, 4), rows | ordered)
    assert [each.verdict for each in orders] == ["confirmed", "confirmed", "refuted", "refuted"]
    assert orders[0].name == "left to right against random order, counted masks, blocks of 4"
    assert orders[3].name == "most certain first against random order, counted masks, all sizes, blocks of 4"


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
