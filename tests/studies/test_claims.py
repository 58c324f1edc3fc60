"""The claims on rows whose truth is known, and on the rows that the studies declare."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from acdit.cli.study import options_of
from acdit.data.shakespeare import shakespeare_works
from acdit.studies.claim import Evidence, between
from acdit.studies.claims import CLAIMS
from acdit.studies.claims_text import LEARNED
from acdit.studies.claims_time import saving_of_formula
from acdit.studies.study import STUDIES
from acdit.studies.verdicts import (
    CONFIRMED,
    NOT_LEARNED,
    NOT_MEASURED,
    REFUTED,
    UNDECIDED,
    conclude,
)
from acdit.utils.errors import UserError
from acdit.utils.references import load_object
from acdit.utils.settings import build, read_arguments
from tests.studies.test_verdicts import NOISE

EVIDENCE = {f"{claim.name} {evidence.folder}": evidence for claim in CLAIMS for evidence in claim.evidence}
Score = Callable[[Mapping[str, Any]], float]
DIGITS: dict[str, dict[str, Sequence[Any]]] = {
    "blocks": {"tokens": (16, 64), "blocks": (1, 4, 16, 64), "trained": (0.4, 1.0)},
    "scaling": {"size": ("small", "base", "large"), "blocks": (1, 4, 16)},
    "ablation": {
        "arm": ("RoPE-ND, clean past", "1-D RoPE", "absolute positions", "no positions", "noised past")
    },
    "baselines": {
        "arm": (
            *("ACDiT", "full-sequence DiT", "token-wise autoregression", "noised past", "per-token head"),
        )
    },
    "decay": {
        "schedule": ("wsd", "constant"),
        "weights": ("averaged", "raw"),
        "trained": (0.8, 0.9, 1.0),
    },
    "context": {
        "trained_noise": (0.0, 0.1),
        "context_noise": (0.0, 0.1),
        "window": (1, 2, 4, 8, 15),
    },
    "video": {"blocks": (1, 2, 4, 8)},
    "anyblock": {
        "training": ("alone", "mixed, steps of one", "mixed, steps of all"),
        "blocks": (1, 4, 16, 64),
    },
}
OTHERS: dict[str, dict[str, Sequence[Any]]] = {
    "text": {
        "masks": ("counted", "independent"),
        "trained": ("alone", "all", "all, steps of all"),
        "order": ("random", "left"),
        "block": (1, 4, 16, 64, 256),
    },
    "understanding": {
        "arm": ("fine-tuned", "from scratch", "fine-tuned, noised input"),
        "labels": (10, 50, 400),
        "layer": (-1,),
    },
}
PARAMETERS = {"small": 1e4, "base": 4e4, "large": 16e4}


def rows_of(study: str, score: Score, *, seeds: int = 5, accuracy: float = 0.95) -> list[dict[str, Any]]:
    """Rows of a study with given scores, and small noise of its own for each."""
    grid, rows = (DIGITS | OTHERS)[study], []
    column = {"text": "bits_per_byte", "understanding": "accuracy"}.get(study, "frechet_distance")
    for number, values in enumerate(itertools.product(*grid.values())):
        key = dict(zip(grid, values, strict=True))
        if "size" in key:
            key["parameters"] = PARAMETERS[key["size"]]
        for seed in range(seeds):
            noise = 1e-3 * NOISE[(seed + number) % 5]
            rows.append(
                {
                    "label_accuracy": accuracy,
                    "error_ratio": 0.5,
                    **key,
                    "seed": seed,
                    column: score(key) + noise,
                }
            )
    return rows


def log_blocks(row: Mapping[str, Any]) -> float:
    return 1 + 0.1 * (row["blocks"] ** 0.5)


def of_arm(row: Mapping[str, Any]) -> float:
    return 1.0 if row["arm"] in ("ACDiT", "RoPE-ND, clean past") else 2.0


def of_decay(row: Mapping[str, Any]) -> float:
    return 2.0 if row["schedule"] == "constant" else 4 - 3 * row["trained"]


def of_training(row: Mapping[str, Any]) -> float:
    return {"alone": 1.0, "mixed, steps of one": 1.05, "mixed, steps of all": 0.9}[row["training"]]


def of_text(row: Mapping[str, Any]) -> float:
    more = {"alone": 0.0, "all": 0.02, "all, steps of all": -0.1}[row["trained"]]
    block = 1 if row["order"] == "left" else row["block"]
    return 2 + 0.01 * block + more + 0.1 * (row["masks"] == "independent")


def of_recognition(row: Mapping[str, Any]) -> float:
    return {"fine-tuned": 0.95, "from scratch": 0.8, "fine-tuned, noised input": 0.9}[row["arm"]]


def of_noise(row: Mapping[str, Any]) -> float:
    return 3 - row["trained_noise"] - row["context_noise"]


TRUE: dict[str, Score] = {
    "video": lambda row: 0.5,
    "window": lambda row: 1 + 1 / row["window"],
    "context-noise": of_noise,
    "baselines": of_arm,
    "interpolation": log_blocks,
    "blocks": log_blocks,
    "length": lambda row: 2 - row["tokens"] / 100,
    "size": lambda row: 1 + 1e4 / row["parameters"],
    "gap": lambda row: 1 + 0.1 * row["blocks"] ** 0.5 * 1e4 / row["parameters"],
    "rope": of_arm,
    "axes": of_arm,
    "clean": of_arm,
    "decay": of_decay,
    "anyblock": of_training,
    "anyblock-total": of_training,
    "text": of_text,
    "masks": of_text,
    "understanding": of_recognition,
    "clean-input": of_recognition,
}
WORSE: dict[str, Score] = {  # of claims that something costs nothing
    "anyblock": lambda row: 1.0 if "alone" in row.values() else 1.2,
    "video": lambda row: 1 + 0.1 * row["blocks"],
}


def cases() -> list[tuple[str, Evidence, Score]]:
    """Claims that are tested on digits, text and recognition."""
    return [
        (claim.name, evidence, of_text if evidence.folder == "text" else TRUE[claim.name])
        for claim in CLAIMS
        for evidence in claim.evidence
        if evidence.study in DIGITS | OTHERS
    ]


@pytest.mark.parametrize(("name", "evidence", "score"), cases(), ids=lambda value: str(value)[:20])
def test_a_claim_is_confirmed_if_it_holds_and_refuted_if_its_opposite_does(name, evidence, score):
    def verdict(score: Score, **more: Any) -> str:
        return conclude(evidence.comparisons(rows_of(evidence.study, score, **more)))

    assert verdict(score) == CONFIRMED
    if name in WORSE:
        assert verdict(WORSE[name]) == REFUTED
    elif evidence.folder not in ("text", "understanding"):
        # without a gap, there is none to shrink; what lies between two ends does so in a mirror too
        opposite = {"gap": UNDECIDED, "interpolation": CONFIRMED}.get(name, REFUTED)
        assert verdict(lambda row: 10 - score(row)) == opposite
        assert verdict(score, accuracy=0.89) == NOT_LEARNED
    assert verdict(score, seeds=4) == UNDECIDED
    assert verdict(lambda row: 1.0) == (CONFIRMED if name in WORSE else UNDECIDED)
    assert conclude(evidence.comparisons([])) == NOT_MEASURED


def test_opposite_claims_about_text_and_recognition_are_refuted():
    for name, evidence, score in cases():
        if evidence.folder == "text" and name not in ("anyblock", "interpolation"):
            # kept below the limit of learning
            rows = rows_of("text", lambda row, score=score: 5 - score(row) if row["block"] > 1 else 3.2)
            if name == "masks":
                rows = rows_of("text", lambda row, score=score: 3.3 - 0.1 * score(row))
        elif evidence.folder == "understanding":
            rows = rows_of("understanding", lambda row, score=score: 1.87 - score(row))
        else:
            continue
        assert conclude(evidence.comparisons(rows)) in (REFUTED, NOT_LEARNED), name


@pytest.mark.parametrize("evidence", [each for name, each, _ in cases() if name == "interpolation"])
@pytest.mark.parametrize("beyond", [1.9, 3.3])
def test_what_lies_beyond_an_end_is_not_between(evidence, beyond):
    """The ends are 2 and 3.2; the sizes between are beyond one of them, whichever is the higher one."""
    for first, last in ((2.0, 3.2), (3.2, 2.0)):

        def score(row: Mapping[str, Any], first: float = first, last: float = last) -> float:
            size = row.get("block", row.get("blocks"))
            return first if size == 1 else last if size in (16, 256) else beyond

        assert conclude(evidence.comparisons(rows_of(evidence.study, score))) == REFUTED


def test_between_is_decided_by_both_ends():
    def seeds(score: float) -> dict[int, float]:
        return {seed: score + 0.1 * NOISE[seed] for seed in range(5)}

    def verdicts(middle: dict[int, float], low: float, high: float) -> list[str]:
        return [each.verdict for each in between("m", middle, {"a": seeds(low), "b": seeds(high)})]

    assert verdicts(seeds(1.5), 1, 2) == verdicts(seeds(1.5), 2, 1) == [CONFIRMED, CONFIRMED]
    assert verdicts(seeds(3), 1, 2) == [CONFIRMED, REFUTED] and verdicts(seeds(3), 2, 1)[0] == REFUTED
    assert verdicts(seeds(0), 1, 2) == [REFUTED, CONFIRMED]
    wide = {seed: 1.5 + (-1) ** seed * (2 + seed) for seed in range(5)}
    assert verdicts(wide, 1, 2) == [UNDECIDED, UNDECIDED]
    names = [each.name for each in between("4 blocks", seeds(1), {"1": {}, "16": seeds(1)})]
    assert names == ["4 blocks against 1", "4 blocks against 16"]


def test_what_has_not_learned_is_said():
    for name, evidence, score in cases():
        if evidence.folder == "text":
            rows = rows_of("text", lambda row, score=score: 2 + score(row))
        elif evidence.folder == "understanding":
            rows = rows_of("understanding", lambda row, score=score: score(row) - 0.1)
        else:
            continue
        assert conclude(evidence.comparisons(rows)) == NOT_LEARNED, name


def test_text_has_learned_below_seven_tenths_of_the_frequencies_of_bytes():
    """The best guess without context: the training works' frequencies, in bits per held-out byte."""
    counts = Counter(byte for text in shakespeare_works().values() for byte in text.encode())
    total = sum(counts.values())
    held_out = b"".join(text.encode() for text in shakespeare_works(held_out=True).values())
    bits = -sum(math.log2(counts[byte] / total) for byte in held_out) / len(held_out)
    assert pytest.approx(0.7 * bits, abs=0.05) == LEARNED.limit


def test_claims_have_names_and_reasons():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    for claim in CLAIMS:
        assert claim.full or claim.full_command
        for text in (claim.said, claim.tested, claim.beyond):
            assert text.endswith(".") and not text[0].isspace()


@pytest.mark.parametrize("name", EVIDENCE)
def test_claims_read_the_rows_that_their_study_declares(name, tmp_path, monkeypatch):
    """Rows with the keys and columns of the full design: nothing that a claim needs is missing."""
    evidence = EVIDENCE[name]
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path))
    words = evidence.command.split()
    assert words[:2] == ["acdit", "study"]
    options = options_of(STUDIES[evidence.study])
    given = build(options, read_arguments(options, words[3:]))
    assert given.folder(evidence.study) == Path(f"out/study-{evidence.folder}")
    make: Any = load_object(STUDIES[evidence.study].design)
    design = make(**given.arguments())
    keys = [key for measurement in design.measurements for key in measurement.rows]
    rows = [
        dict(zip(design.keys, key, strict=True)) | dict.fromkeys(design.columns, 1.0 + number % 7)
        for number, key in enumerate(keys)
    ]
    for row in rows:
        row |= {"label_accuracy": 0.95} if "label_accuracy" in row else {}
    comparisons = evidence.comparisons(rows)
    assert comparisons and all(each.verdict != NOT_MEASURED for each in comparisons)
    assert all(each.difference is not None and each.difference.count >= 5 for each in comparisons)


def test_rows_that_lack_columns_are_no_fault_of_the_program():
    """Files may be edited: what is missing is not measured, and no time is undecided."""
    scaling = next(each for claim in CLAIMS for each in claim.evidence if each.folder == "scaling")
    assert conclude(scaling.comparisons([{"seed": 0, "frechet_distance": 1.0}])) == NOT_MEASURED
    with pytest.raises(UserError, match="parameters must be a number"):
        scaling.comparisons(
            [{"size": "base", "blocks": 1, "seed": 0, "frechet_distance": 1.0, "parameters": "many"}]
        )
    times = [
        {"tokens": 16384, "blocks": count, "round": number, "seconds": 0.0, "formula_saving": 0.1}
        for count in (1, 4, 16, 64)
        for number in range(5)
    ]
    assert {each.verdict for each in saving_of_formula(times)} == {UNDECIDED}
