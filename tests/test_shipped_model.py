"""The model in the package: small, whole, offline, and as good as its card says."""

import json
import re

import pytest

from acdit.cli import main
from acdit.flops import Dimensions, parameters
from acdit.layout import parse_dims
from acdit.pipelines.loading import SHIPPED, load_pipeline

MODEL = SHIPPED / "mnist"
CARD = MODEL / "README.md"
ROW = re.compile(r"^\| (\d+x\d+) \| (\d+) \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", re.MULTILINE)


def test_it_is_small_and_holds_no_pickle():
    pipeline = load_pipeline()
    count = parameters(Dimensions.of(pipeline.transformer.config))
    assert count == sum(weight.numel() for weight in pipeline.transformer.parameters()) <= 2_000_000
    kinds = {path.suffix for path in MODEL.rglob("*") if path.is_file()}
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
    assert main(["evaluate", "--block", blocks, "--samples", "300", "--out", str(out)]) == 0
    found = json.loads(out.read_text())["scores"]
    listed = ROW.findall(CARD.read_text())
    for row, (block, evaluations, accuracy, coverage) in zip(found, listed, strict=True):
        assert (row["block"], row["evaluations"]) == (block, int(evaluations))
        expected = float(accuracy)
        spread = 3 * (expected * (1 - expected) / 300) ** 0.5
        assert row["label_accuracy"] == pytest.approx(expected, abs=max(spread, 0.01))
        assert row["judge_coverage"] == pytest.approx(float(coverage), abs=0.1)
