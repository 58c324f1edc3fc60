"""The studies of metrics: faults of samples, what they do to scores, and coverage of intervals."""

import json

import pytest
import scipy.ndimage
import torch

from acdit.cli.main import main
from acdit.data.digits import LABEL_NAMES, digit_images
from acdit.evaluation.intervals import INTERVALS
from acdit.metrics import resampling
from acdit.studies import intervals, metric_faults
from acdit.studies.design import run_study
from acdit.studies.expected_faults import EXPECTED, REASONS, expected_effect
from acdit.studies.faults import FAULTS, balanced, blurred, duplicated, noised
from acdit.studies.intervals import gaussian_population, intervals_design
from acdit.studies.metric_faults import metrics_design, observed_effect
from acdit.studies.pictures import Pictures, digit_pictures, photograph_pictures
from acdit.utils.errors import UserError
from tests.tiny import given

LABELS = torch.arange(10).repeat_interleave(60)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_blur_and_noise():
    images = torch.rand(2, 3, 12, 12, generator=random()) * 2 - 1
    expected = scipy.ndimage.gaussian_filter(images.numpy(), 0.8, mode="mirror", axes=(2, 3), radius=3)
    torch.testing.assert_close(
        blurred(images, 0.8, random()), torch.from_numpy(expected), rtol=1e-5, atol=1e-5
    )
    still = torch.zeros(100, 1, 12, 12)
    assert float(noised(still, 0.2, random()).std()) == pytest.approx(0.2, rel=0.02)
    assert noised(images, 5.0, random()).abs().max() == 1


def test_which_samples_are_drawn():
    assert LABELS[balanced(LABELS, 100, random())].bincount().tolist() == [10] * 10
    for strength in FAULTS["dropped classes"].strengths:
        rows = given(FAULTS["dropped classes"].draws)(LABELS, strength, 100, random())
        assert (LABELS[rows].bincount(minlength=10) == 0).sum() == strength and len(rows.unique()) == 100
    rows = given(FAULTS["class imbalance"].draws)(LABELS, 16.0, 200, random())
    counts = LABELS[rows].bincount().sort().values
    ratios = counts[1:] / counts[:-1]
    assert counts.sum() == 200 and counts[-1] / counts[0] == pytest.approx(16, rel=0.2)
    assert ratios.min() >= 1 and ratios.max() < 1.8  # evenly from class to class
    for strength in FAULTS["duplicates"].strengths:
        rows = duplicated(LABELS, strength, 100, random())
        assert len(rows) == 100 and len(rows.unique()) == round(100 * (1 - strength))


def test_parts_of_the_pictures_are_disjoint():
    for pictures, channels, pool in ((digit_pictures(), 1, 300), (photograph_pictures(), 3, 200)):
        parts = (pictures.pool, pictures.reference, pictures.training)
        assert [part[1].bincount().tolist()[0] for part in parts[:2]] == [pool, 50]
        assert all(len(set(labels.bincount().tolist())) == 1 for _, labels in parts)
        images = torch.cat([part[0] for part in parts])
        assert images.shape[1:] == (channels, 32, 32) and -1 <= images.min() < images.max() <= 1
        assert len(images.flatten(1).unique(dim=0)) > 0.97 * len(images)  # a film has tiles that stand still
        assert len(pictures.label_names) == 10


def test_what_counts_as_an_effect():
    base = [9.0, 10.0, 11.0]  # a standard deviation of 1: changes beyond 3 count
    assert observed_effect(base, [10, 11, 9, 13, 7]) == "not seen"
    assert observed_effect(base, [10, 11, 9, 13, 14]) == "rises"
    assert observed_effect(base, [10, 9, 8, 7, 6]) == "falls"
    assert observed_effect(base, [10, 20, 16, 20, 30]) == "mixed"
    assert observed_effect(base, [20, 20, 20, 18, 12]) == "mixed"
    assert observed_effect(base, [0, 5, 6, 7, 20]) == "mixed"
    assert observed_effect([0, 0], [0, 0, 0, 0, 0.001], least=0.002) == "not seen"
    assert observed_effect([0, 0], [0, 0, 0, 0, 0.003], least=0.002) == "rises"


def test_every_effect_was_expected_before():
    assert all(set(faults) == set(FAULTS) for faults in EXPECTED.values())
    assert expected_effect("precision", "blur", "pixels") == "rises"
    assert expected_effect("precision", "blur", "digit-classifier") == "falls"
    assert all(score in EXPECTED and fault in FAULTS for _, score, fault in REASONS)


def tiny_pictures() -> Pictures:
    images, labels = digit_images("digits")
    parts = ((images[first : first + 400], labels[first : first + 400]) for first in (0, 400, 800))
    return Pictures("digits", LABEL_NAMES, *parts)


def test_the_study_of_faults(tmp_path, monkeypatch):
    monkeypatch.setitem(metric_faults.PICTURES, "digits", tiny_pictures)
    arguments = {"count": 30, "undamaged": 3, "damaged": 1, "cases": [("digits", "pixels")]}
    result = given(run_study(metrics_design(**arguments), tmp_path))
    stored = json.loads((tmp_path / "measurements.json").read_text())
    assert len(stored["rows"]) == 3 + 5 * 5
    clean = [row["scores"]["frechet_distance"] for row in stored["rows"] if row["fault"] == "none"]
    noisy = {row["strength"]: row["scores"] for row in stored["rows"] if row["fault"] == "noise"}
    assert noisy[5]["frechet_distance"] > noisy[4]["frechet_distance"] > max(clean)
    assert "label_accuracy" not in noisy[1] and "copied_fraction" in noisy[1]  # pixels have no logits
    page = (tmp_path / "metric-faults.md").read_text()
    values = [noisy[strength]["frechet_distance"] for strength in range(1, 6)]
    observed = observed_effect(clean, values)
    agrees = "yes" if observed == "rises" else "no"
    assert f"| digits | pixels | frechet_distance | noise | rises | {observed} | {agrees} |" in page
    assert (tmp_path / "metric-faults.png").stat().st_size > 10_000
    assert result.files[1] == tmp_path / "metric-faults.md"
    monkeypatch.setitem(metric_faults.PICTURES, "digits", lambda: pytest.fail("it was measured again"))
    assert given(run_study(metrics_design(**arguments), tmp_path)).report == result.report
    with pytest.raises(UserError, match="other settings"):
        run_study(metrics_design(**{**arguments, "count": 31}), tmp_path)
    with pytest.raises(UserError, match="20 to 600 samples, not 601"):
        metrics_design(count=601)


def test_the_study_of_intervals(tmp_path, monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 10)
    built: list[int] = []

    def build() -> intervals.Population:
        built.append(1)
        return gaussian_population(4)

    populations = {"Gaussian, 4 features": build}
    design = intervals_design(simulations=3, sizes=(40,), large=(60,), populations=populations)
    result = given(run_study(design, tmp_path))
    rows = json.loads((tmp_path / "measurements.json").read_text())["rows"]
    assert [(row["samples"], row["score"]) for row in rows] == [
        *((40, score) for score in INTERVALS),
        (60, "frechet_distance"),
    ]
    assert all(0 <= row["coverage"] <= 1 and row["width"] > 0 for row in rows)
    assert "Fraction of 3 simulated sets" in (tmp_path / "coverage.md").read_text()
    assert len(built) == 1
    again = intervals_design(simulations=3, sizes=(40,), large=(60,), populations=populations)
    assert given(run_study(again, tmp_path)).report == result.report
    assert len(built) == 1  # nothing was measured again


def test_a_gaussian_population_is_what_it_says():
    population = gaussian_population(5)
    drawn = population.draw(200_000, random()).double()
    torch.testing.assert_close(drawn.mean(dim=0), population.statistics.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.T.cov(), population.statistics.covariance, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrics", "--model", "mnist"], "unknown option --model"),
        (["intervals", "--samples", "100"], "unknown option --samples"),
        (["metrics", "--jobs", "2"], "unknown option --jobs"),
        (["metrics", "--samples", "700"], "20 to 600 samples, not 700"),
        (["interval"], "unknown study 'interval'; did you mean intervals?"),
    ],
)
def test_options_that_do_not_fit(arguments, message, capsys, tmp_path):
    assert main(["study", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
