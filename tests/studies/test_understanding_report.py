"""The report of the study of understanding, on measurements whose truth is known."""

import math

import pytest

from acdit.studies.understanding_report import (
    ALL,
    GENERATIVE,
    PROBES,
    SCRATCH,
    SCRATCH_WIDE,
    TUNED,
    TUNED_DIT,
    TUNED_WIDE,
    probe_name,
    report,
)

LABELS, LAYERS, SEEDS = (10, 50), 2, range(3)
NOISE = (0.0, 0.01, 0.03)  # of the seeds, shared by all arms
ARMS = {TUNED: 0.9, SCRATCH: 0.8, TUNED_WIDE: 0.9, SCRATCH_WIDE: 0.9, TUNED_DIT: 0.95}


def measured(**changed: tuple[float, ...]) -> dict:
    """Rows of all arms: accuracies of ARMS with the noise of the seeds; those of `changed` with their own."""
    rows = {}

    def add(arm: str, labels: int, layer: int, seed: int, accuracy: float) -> None:
        rows[arm, labels, layer, seed] = {
            "arm": arm,
            "labels": labels,
            "layer": layer,
            "seed": seed,
            "accuracy": accuracy,
            "error": 0.01,
        }

    for seed in SEEDS:
        for labels in LABELS:
            for arm, accuracy in ARMS.items():
                own = changed.get(arm.replace(" ", "_"))
                add(arm, labels, -1, seed, accuracy + NOISE[seed] if own is None else own[seed])
            for timestep in (None, 100.0):
                for probe in PROBES.values():
                    for layer in range(LAYERS + 1):
                        peak = 0.7 - 0.1 * abs(layer - 1) - (0.05 if timestep else 0.0)
                        add(probe_name(probe, timestep), labels, layer, seed, peak + NOISE[seed])
        add(GENERATIVE, ALL, -1, seed, 0.6)
    return rows


def verdicts(text: str) -> dict[tuple[str, int], tuple[str, str]]:
    """Difference and verdict of each question and number of labels, in the markdown table."""
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.count("|") == 8]
    rows = [[cell.strip() for cell in line] for line in lines if line[2].strip().isdigit()]
    return {(question, int(labels)): (gap, verdict) for question, _, labels, gap, _, _, verdict in rows}


def test_verdicts_are_those_of_paired_differences(tmp_path):
    """The noise of the seeds, 1.5 points, is shared, so that even small differences are decided."""
    _, (page, *plots) = report(LABELS, LAYERS, SEEDS, measured(), tmp_path)
    found = verdicts(page.read_text())
    for labels in LABELS:
        assert found["pretraining as a generator", labels] == ("+10.00", "helps")
        wide = found["pretraining as a generator, bidirectional attention", labels]
        assert wide == ("+0.00", "undecided")  # a tie of equal accuracies
        assert found["clean instead of noised input, fine-tuned", labels] == ("-5.00", "hurts")
        assert found["clean instead of noised input, linear probe of layer 1", labels] == ("+5.00", "helps")
    assert len(found) == 6 * len(LABELS) and f"{len(found)} comparisons" in page.read_text()
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)


def test_differences_that_vary_over_seeds_are_undecided(tmp_path):
    _, (page, *_) = report(LABELS, LAYERS, SEEDS, measured(from_scratch=(0.85, 0.95, 0.80)), tmp_path)
    gap, verdict = verdicts(page.read_text())["pretraining as a generator", 10]
    assert verdict == "undecided" and float(gap) == pytest.approx(100 * (0.9 + 0.04 / 3 - 2.6 / 3), abs=0.01)


def test_the_table_has_means_intervals_and_the_best_layer_of_probes(tmp_path):
    text, (page, *_) = report(LABELS, LAYERS, SEEDS, measured(), tmp_path)
    (row,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {TUNED} |")]
    # mean 91.33; the standard deviation of the noise is 1.528, and t(0.975, 2 degrees) = 4.303
    assert row.count("91.33 ± 3.79") == 2
    (probe,) = [line for line in page.read_text().splitlines() if line.startswith("| linear probe, clean")]
    assert probe.count("71.33") == 2  # layer 1
    assert "the aim" not in text  # without 400 labels per class
    assert f"{GENERATIVE}" in text and "60.00 ± 0.00" in text


def test_the_aim_stands_beside_the_mean_with_all_labels(tmp_path):
    rows = {
        (arm, 400 if labels == 50 else labels, *rest): row for (arm, labels, *rest), row in measured().items()
    }
    rows = {key: row | {"labels": key[1]} for key, row in rows.items()}
    text, _ = report((10, 400), LAYERS, SEEDS, rows, tmp_path)
    assert "mean accuracy with 400 labels per class after fine-tuning is 91.33%; the aim" in text
    assert "at least 98.0%" in text
    diverged = {key: row | {"accuracy": math.nan} for key, row in rows.items() if key[:2] == (TUNED, 400)}
    assert "the aim" not in report((10, 400), LAYERS, SEEDS, rows | diverged, tmp_path)[0]
