"""The studies on digits: what they declare, measure, report and refuse, with tiny runs that they share."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from acdit.cli.main import main
from acdit.data.digits import digit_images
from acdit.evaluation.features.digit_classifier import load_digit_classifier
from acdit.metrics.paired import mean_interval
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.studies import digit_quality
from acdit.studies.baseline_arms import BASELINES, RATES
from acdit.studies.baseline_choice import baseline_choice_design, chosen_rates
from acdit.studies.baseline_settings import CHOSEN
from acdit.studies.design import Design, Rows, run_study
from acdit.studies.digit_quality import COLUMNS, DISTANCE
from acdit.studies.digit_report import claimed
from acdit.studies.digit_runs import BUDGETS
from acdit.studies.run_store import RunStore
from acdit.studies.study import STUDIES
from acdit.training.stored_weights import StoredWeights
from acdit.utils.references import load_object
from tests.tiny import given

NAMES = ("blocks", "scaling", "decay", "ablation", "baselines", "anyblock", "context")
SEEDS = 5


def design_of(name: str, budget: str = "full", first_seed: int = 0, seeds: int = SEEDS) -> Design:
    make: Any = load_object(STUDIES[name].design)
    return make(budget=budget, first_seed=first_seed, seeds=seeds)


def known_rows(design: Design, distance, accuracy: float = 0.95) -> Rows:
    """Rows of a design whose distance is that of a function of the row, and noise that seeds share."""
    rows = {}
    for measurement in design.measurements:
        for key in measurement.rows:
            row: dict[str, Any] = dict(zip(design.keys, key, strict=True)) | dict.fromkeys(COLUMNS, 1.0)
            row |= {
                "label_accuracy": accuracy,
                "parameters": {"small": 100, "large": 400}.get(row.get("size", "base"), 200),
            }
            rows[key] = row | {DISTANCE: distance(row) + 0.01 * row["seed"]}
    return rows


def verdicts(page: Path) -> dict[str, str]:
    """The verdicts of a page by the name of the comparison."""
    lines = page.read_text().split("| comparison |")[1].splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {name: verdict for name, *_, verdict in cells}


def test_studies_declare_runs_of_equal_compute_that_they_share(tmp_path):
    store, digests, images = RunStore(tmp_path), {}, {}
    base = BUDGETS["full"].steps * BUDGETS["full"].batch
    for name in NAMES:
        design = design_of(name, seeds=1)
        runs = {store.run(spec).digest: store.run(spec) for spec in design.runs}
        digests[name] = set(runs)
        images[name] = {run.recipe.training.steps * run.recipe.training.batch_size for run in runs.values()}
        for measurement in design.measurements:
            training = store.run(measurement.runs[0]).recipe.training
            trained = dict(zip(design.keys, measurement.rows[0], strict=True)).get("trained", 1.0)
            step = trained * training.steps  # of the checkpoint that is measured
            assert step == pytest.approx(round(step)) and round(step) % training.keep_every == 0
    assert images.pop("anyblock") == {base, 3 * base} and base in images.pop("baselines")
    assert set().union(*images.values()) == {base}
    # the study of baselines has a learning rate of its own
    reference = set.intersection(*(digests[name] for name in NAMES if name not in ("context", "baselines")))
    assert len(reference) == 1 and digests["context"] & digests["blocks"]


@pytest.mark.parametrize("name", ["full", "full-mnist"])
def test_baselines_train_for_equal_flops(name, tmp_path):
    """Those of a step are counted by torch on `meta`, in tests of the plan."""
    store = RunStore(tmp_path)
    for design in (design_of("baselines", name, seeds=1), baseline_choice_design(budget=name, first_seed=0)):
        runs = [store.run(spec) for spec in design.runs]
        flops = [given(run.flops) for run in runs]
        assert max(flops) < 1.01 * min(flops) and len({run.recipe.training.steps for run in runs}) == 5
    reference = store.run(design_of("baselines", name, seeds=1).runs[0])
    assert reference.recipe.training.steps == BUDGETS[name].steps


def test_a_page_shows_its_claims_and_their_verdicts(tmp_path):
    design = design_of("blocks")
    rows = known_rows(design, lambda row: 2 + row["blocks"] ** 0.5 - (row["tokens"] == 64))
    text, (page, plot) = design.report(rows, tmp_path)
    decided = verdicts(page)
    assert decided["more blocks, 16 tokens"] == decided["more blocks, 64 tokens"] == "confirmed"
    assert decided["64 tokens against 16, 4 blocks"] == "confirmed"
    assert set(decided) == {comparison.name for comparison in claimed("blocks", rows)} and len(decided) >= 4
    assert f"{len(decided)} comparisons, paired by seed" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    interval = mean_interval([6 + 0.01 * seed for seed in range(SEEDS)])
    shown = f"| 16 | 16 | 1 | {interval.mean:.3g} ± {interval.mean - given(interval.low):.2g} |"
    assert shown in page.read_text()
    worse = known_rows(design, lambda row: 9 - row["blocks"] ** 0.5 + (row["tokens"] == 64))
    decided = {comparison.name: comparison.verdict for comparison in claimed("blocks", worse)}
    assert decided["more blocks, 16 tokens"] == "refuted"
    poor = known_rows(design, lambda row: row["blocks"], accuracy=0.9)
    assert {comparison.verdict for comparison in claimed("blocks", poor)} == {"not learned at this budget"}


def test_every_study_has_claims_that_find_their_rows(tmp_path):
    sizes, schedules = {"small": 3.0, "base": 2.0, "large": 1.0}, {"wsd": 0.0, "constant": 1.0}
    truths = {
        "scaling": lambda row: sizes[row["size"]] * (1 + row["blocks"]),
        "decay": lambda row: 9 - row["trained"] + schedules[row["schedule"]],
        "ablation": lambda row: 1.0 + (row["arm"] != "RoPE-ND, clean past"),
        "baselines": lambda row: 1.0 + (row["arm"] != "ACDiT"),
        "anyblock": lambda row: {"mixed, steps of all": 1.0}.get(row["training"], 3.0),
        "context": lambda row: 20 - row["window"] - row["trained_noise"] - row["context_noise"],
    }
    for name, truth in truths.items():
        design = design_of(name)
        text, (page, plot) = design.report(known_rows(design, truth), tmp_path)
        decided = verdicts(page)
        assert decided and set(decided.values()) == {"confirmed"}, name
        assert f"{len(decided)} comparison" in text and plot.stat().st_size > 10_000
        assert page.read_text().count("\n| ") > len(design.measurements) / SEEDS


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> RunStore:
    """The store that the tests share."""
    return RunStore(tmp_path_factory.mktemp("digit-studies") / "runs")


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Fréchet distance of features (N, F), by the eigenvalues of the product of the covariances."""
    first, second = a.double().T.cov(), b.double().T.cov()
    roots = torch.linalg.eigvals(first @ second).sqrt().real
    gap = (a.double().mean(0) - b.double().mean(0)).square().sum()
    return float(gap + first.trace() + second.trace() - 2 * roots.sum())


def rows_of_some(design: Design, rows: set[tuple], folder: Path, store: RunStore) -> dict[tuple, Any]:
    """The rows of a design with these keys, trained and measured."""
    chosen = [each for each in design.measurements if set(each.rows) <= rows]
    given(run_study(replace(design, measurements=chosen, report=lambda *_: ("", ())), folder, store=store))
    measured = json.loads((folder / "measurements.json").read_text())["rows"]
    return {tuple(row[key] for key in design.keys): row for row in measured}


def drawn_digits(pipeline: ACDiTImagePipeline, classes: torch.Tensor, seed: int) -> Any:
    """What a pipeline draws for classes (N,), with the quick budget's settings and the noise of a seed."""
    generators = [torch.Generator().manual_seed(seed * len(classes) + row) for row in range(len(classes))]
    return pipeline(
        classes.tolist(),
        num_inference_steps=2,
        guidance_scale=1.5,
        generator=generators,
        output_type="pt",
    )


def test_checkpoints_are_measured_with_both_kinds_of_weights(runs, tmp_path, monkeypatch):
    design = design_of("decay", "quick", first_seed=3, seeds=1)
    keys = {
        ("wsd", "raw", 0.8, 3),
        ("wsd", "averaged", 0.8, 3),
        ("wsd", "raw", 1.0, 3),
        ("wsd", "averaged", 1.0, 3),
        ("constant", "raw", 1.0, 3),
    }
    rows = rows_of_some(design, keys, tmp_path, runs)
    assert set(rows) == keys and all(set(COLUMNS) < set(row) for row in rows.values())
    assert len({row[DISTANCE] for row in rows.values()}) == len(keys)

    budget, run = BUDGETS["quick"], runs.run(design.runs[0])
    pipeline = load_pipeline(run.pipeline, kind=ACDiTImagePipeline)
    StoredWeights(run.folder).load(pipeline, 8, None)
    real, labels = digit_images("digits", held_out=True)
    held_out = torch.arange(budget.samples) * len(labels) // budget.samples  # evenly spaced
    classes = labels[held_out]
    drawn = drawn_digits(pipeline, classes, seed=3)
    images = 2 * drawn.images - 1
    classifier = load_digit_classifier(*digit_images("digits"))
    row = rows["wsd", "raw", 0.8, 3]
    assert row["label_accuracy"] == pytest.approx(
        float((classifier.predict(images) == classes).float().mean())
    )
    expected = frechet_distance(classifier.features(images), classifier.features(real[held_out]))
    assert row[DISTANCE] == pytest.approx(expected, rel=1e-3)
    assert row["network_calls"] == drawn.evaluations == 8
    assert row["training_flops"] == pytest.approx(0.8 * given(run.flops))

    monkeypatch.setattr(digit_quality, "load_pipeline", lambda *_, **__: pytest.fail("it was measured again"))
    assert rows_of_some(design, keys, tmp_path, runs) == rows


def test_a_window_and_noise_on_the_past_change_what_is_drawn(runs, tmp_path):
    design = design_of("context", "quick", seeds=1)
    keys = {(0.0, 0.0, 15, 0), (0.0, 0.3, 15, 0), (0.0, 0.0, 2, 0)}
    rows = rows_of_some(design, keys, tmp_path, runs)
    assert len({row[DISTANCE] for row in rows.values()}) == len(rows) == 3
    assert [row["sampling_flops"] is None for row in map(rows.get, sorted(keys)) if row] == [
        True,
        False,
        False,
    ]


def test_learning_rates_are_chosen_against_training_digits(runs, tmp_path):
    design = baseline_choice_design(budget="quick", first_seed=0)
    key = ("ACDiT", 3e-3, 1000)
    row = rows_of_some(design, {key}, tmp_path, runs)[key]
    pipeline = load_pipeline(runs.run(design.runs[1]).pipeline, kind=ACDiTImagePipeline)
    training, labels = digit_images("digits")
    half, count = len(training) // 2, BUDGETS["quick"].samples
    reference, classes = training[: 2 * half : 2], labels[: 2 * half : 2]
    drawn = drawn_digits(pipeline, classes[torch.arange(count) * half // count], seed=1000)
    classifier = load_digit_classifier(training, labels)
    expected = frechet_distance(classifier.features(2 * drawn.images - 1), classifier.features(reference))
    assert row[DISTANCE] == pytest.approx(expected, rel=1e-3)


def test_learning_rates_are_chosen_on_a_seed_of_their_own():
    design = baseline_choice_design(budget="full", first_seed=0)
    assert {spec.seed for spec in design.runs}.isdisjoint(spec.seed for spec in design_of("baselines").runs)
    rates = RATES["digits"]
    assert len(design.runs) == len(BASELINES) * len(rates)
    best = dict(zip(BASELINES, (*rates, *rates), strict=False))
    rows = known_rows(design, lambda row: float(row["learning_rate"] != best[row["arm"]]))
    assert chosen_rates(rows) == best
    assert set(chosen_rates(known_rows(design, lambda row: 1.0)).values()) == {min(rates)}  # of equal ones


@pytest.mark.parametrize("data", CHOSEN)
def test_the_study_takes_the_rates_that_are_chosen(data):
    """Those of the committed measurements, once there are any."""
    assert set(CHOSEN[data]) == set(BASELINES) and set(CHOSEN[data].values()) <= set(RATES[data])
    suffix = "" if data == "digits" else f"-{data}"
    studies = Path(__file__).parents[2] / "docs" / "studies"
    path = studies / f"baselines-settings{suffix}" / "measurements.json"
    assert path.exists() or not (studies / f"baselines{suffix}").exists()  # the choice comes first
    if path.exists():
        rows = dict(enumerate(json.loads(path.read_text())["rows"]))
        assert chosen_rates({(number,): row for number, row in rows.items()}) == CHOSEN[data]


@pytest.mark.long
@pytest.mark.parametrize("name", [*NAMES, "baselines-settings"])
def test_a_quick_study_runs_by_its_command(name, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACDIT_RUNS", str(runs.root))
    command = ["study", name, "--budget", "quick", "--out", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0 and "hours left" in capsys.readouterr().out
    assert main(command) == 0
    assert (tmp_path / f"{name}.md").is_file() and f"{name}.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["blocks", "--seeds", "1"], "--seeds must be at least 2"),
        (["blocks", "--data", "cifar"], "--data must be one of digits, mnist"),
        (["anyblock", "--data", "mnist", "--budget", "quick"], "--budget quick is for 8x8 digits"),
        (["baselines-settings", "--data", "mnist", "--budget", "quick"], "--budget quick is for 8x8 digits"),
        (["scaling", "--data", "mnist"], "unknown option --data"),
        (["decay", "--budget", "tiny"], "--budget must be one of full, quick"),
    ],
)
def test_refusals(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
