"""The models in the package: small, whole, offline, and as good as their cards say."""

import re

import pytest

from acdit.cli.main import main
from acdit.modalities.table import MODALITIES
from acdit.model.flops import Dimensions, parameters
from acdit.model.layout import parse_dims
from acdit.pipelines.folders import SHIPPED, pipeline_folder, shipped_models
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.stored_pipeline import StoredPipeline
from acdit.utils.errors import UserError
from tests.evaluation.stored import score, series, stored

CARD = SHIPPED / "mnist" / "README.md"
MOVING = SHIPPED / "moving-digits" / "README.md"
CLASSIFIER = SHIPPED / "mnist-classifier" / "README.md"
TEXT = SHIPPED / "shakespeare" / "README.md"
ROW = re.compile(r"^\| (\d+x\d+) \| (\d+) \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", re.MULTILINE)


def test_they_go_by_name(tmp_path, monkeypatch):
    assert {modality.model for modality in MODALITIES.values()} == set(shipped_models())
    assert pipeline_folder(None) == pipeline_folder("mnist") == SHIPPED / "mnist"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # a folder of one's own goes before
    with pytest.raises(UserError, match=r"mnist is not a model.* package: mnist, mnist-classifier, mov"):
        load_pipeline("mnist")


@pytest.mark.parametrize("name", shipped_models())
def test_they_are_small_and_hold_no_pickle(name):
    pipeline = load_pipeline(name, kind=StoredPipeline)
    network = getattr(pipeline, pipeline.network_name)
    most = 4_000_000 if name == MODALITIES["text"].model else 2_000_000
    count = sum(weight.numel() for weight in network.parameters())
    assert count <= most
    if pipeline.network_name == "transformer":
        assert count == parameters(Dimensions.of(network.config))
    kinds = {path.suffix for path in (SHIPPED / name).rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".md"}


def test_its_card_lists_scores_of_three_block_sizes():
    rows = ROW.findall(CARD.read_text())
    assert [row[0] for row in rows] == ["8x8", "4x4", "2x2"]
    layout = load_pipeline().layout
    for block, evaluations, _, _ in rows:
        assert int(evaluations) == 25 * layout.with_block(parse_dims(block)).num_blocks


@pytest.mark.long
def test_it_scores_what_its_card_says(tmp_path):
    """With a third of the card's samples, to save time: so accuracy to three standard errors."""
    out = tmp_path / "scores.json"
    blocks = "8x8,4x4,2x2"
    assert main(["evaluate", "--block", blocks, "--count", "300", "--out", str(out)]) == 0
    found = stored(out)
    listed = ROW.findall(CARD.read_text())
    for row, (block, evaluations, accuracy, coverage) in zip(found, listed, strict=True):
        settings = row["settings"]
        assert (settings["block"], settings["evaluations"]) == (block, int(evaluations))
        expected = float(accuracy)
        spread = 3 * (expected * (1 - expected) / 300) ** 0.5
        assert score(row, "label_accuracy")["value"] == pytest.approx(expected, abs=max(spread, 0.01))
        assert score(row, "coverage")["value"] == pytest.approx(float(coverage), abs=0.1)


def test_the_classifier_scores_what_its_card_says(tmp_path):
    """On a fifth of the held-out digits, so accuracy to three standard errors."""
    out = tmp_path / "scores.json"
    assert main(["evaluate", "--model", "mnist-classifier", "--count", "200", "--out", str(out)]) == 0
    (report,) = stored(out)
    listed = dict(re.findall(r"^\| ([\w ]+) \| ([\d.]+) \|", CLASSIFIER.read_text(), re.MULTILINE))
    accuracy = float(listed["accuracy"])
    spread = 3 * (accuracy * (1 - accuracy) / 200) ** 0.5
    assert score(report, "accuracy")["value"] == pytest.approx(accuracy, abs=spread)
    assert score(report, "calibration_error")["value"] == pytest.approx(
        float(listed["calibration error"]), abs=0.03
    )


@pytest.mark.long
def test_shakespeare_has_the_bits_per_byte_of_its_card(tmp_path):
    """With an eighth of the held-out sequences, always the same, which have 0.01 bits more than all."""
    out = tmp_path / "scores.json"
    command = ["evaluate", "--model", "shakespeare", "--block", "1,4,16"]
    assert main([*command, "--samples", "228", "--out", str(out)]) == 0
    reports = stored(out)
    listed = re.findall(r"^\| (\d+) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|", TEXT.read_text(), re.MULTILINE)
    assert [report["settings"]["block"] for report in reports] == [int(block) for block, _ in listed]
    for report, (_, bits) in zip(reports, listed, strict=True):
        assert score(report, "bits_per_byte")["value"] == pytest.approx(float(bits), abs=0.02)


@pytest.mark.long
def test_moving_digits_move_as_their_card_says(tmp_path):
    """With a fifth of the card's clips, and the next frames alone: so shares to three standard errors."""
    card, out = MOVING.read_text(), tmp_path / "scores.json"
    command = re.search(r"`acdit (evaluate --model moving-digits .*?)`", card)
    assert command
    assert main([*command[1].split(), "--count", "100", "--frames", "12", "--out", str(out)]) == 0
    (found,) = stored(out)
    for name, value, spread in (
        ("label accuracy", score(found, "label_accuracy", "moving-frames")["value"], 0.085),
        ("coverage", score(found, "coverage")["value"], 0.15),  # of fewer clips
        ("digit recognised in the first new frame", series(found, "read")["values"][0], 0.07),
        (
            "squared error of the next 8 frames, relative to the best simple baseline",
            score(found, "error_ratio")["value"],
            0.07,
        ),
        ("centroid error over them, in pixels", score(found, "centroid_error")["value"], 0.2),
    ):
        listed = re.search(rf"^\| {re.escape(name)} \| ([\d.]+) \|", card, re.MULTILINE)
        assert listed and value == pytest.approx(float(listed[1]), abs=spread), name
