"""The study of the time of sampling: FLOPs against torch's counter, and its report on known times."""

import json
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acdit.cli.main import main
from acdit.model.sizes import Size
from acdit.model.transformer import ACDiTTransformer
from acdit.studies.claims_time import LAPTOP
from acdit.studies.sampling_time import COUNTS, SIDES, counted_costs, layout_of, network_config
from acdit.studies.sampling_time_report import PROFILED, report
from acdit.studies.verdicts import CONFIRMED, REFUTED
from tests.studies.test_verdicts import NOISE

STEPS = 3


@pytest.mark.parametrize(
    ("side", "count"), [(SIDES[0], COUNTS[-1]), *((SIDES[-1], count) for count in COUNTS)]
)
def test_flops_are_those_that_torch_counts(side, count):
    """On the device `meta`, where torch counts attention too.

    The FLOPs of a call are linear in the index of its block, and the conditions of a timestep are computed
    once for all blocks.
    """
    layout = layout_of(side, count)
    assert (layout.num_tokens, layout.num_blocks) == (side**2, count)

    def call(index: int, *, clean: bool = False, timed: bool = False) -> int:
        with torch.device("meta"):
            config: dict[str, Any] = network_config(LAPTOP, layout.grid) | {"time_conditioning": timed}
            network = ACDiTTransformer(**config)
            view = torch.empty(1, 1, layout.block_tokens, 4)
            timestep = torch.empty(1, 1) if timed else None
            cache = network.new_cache(layout, 1, device=torch.device("meta")) if count > 1 else None
        if cache is not None:
            cache.advance(index - clean)
        given = view if clean else None
        with FlopCounterMode(display=False) as counter:
            network(view, timestep, layout=layout, blocks=(index,), clean=given, cache=cache)
        return counter.get_total_flops()

    last, bare = count - 1, call(0)
    total = STEPS * bare + STEPS * (call(0, timed=True) - bare)
    if last:
        first, others = ((call(1, clean=clean) + call(last, clean=clean)) / 2 for clean in (True, False))
        total += last * (first + (STEPS - 1) * others)
    costs = counted_costs(LAPTOP, layout, STEPS)
    assert costs["flops"] == pytest.approx(total, rel=0.01)
    assert costs["step_flops"] == pytest.approx(call(last, timed=True), rel=0.01)


def test_the_formula_is_that_of_the_paper():
    """L = 16, B = 4, h = 8 and theta = 12 h^2 = 768."""
    costs = counted_costs(Size(3, 8, 1), layout_of(4, 4), 5)
    assert costs["formula_flops"] == 3 * 5 * (2 * 16 * 768 + 2 * 8 * 16**2 + 2 * 8 * 16 * 4)
    one = counted_costs(Size(3, 8, 1), layout_of(4, 1), 5)
    assert one["formula_flops"] == 3 * 5 * (2 * 16 * 768 + 4 * 8 * 16**2) and one["formula_saving"] == 0
    assert costs["formula_saving"] == pytest.approx(1 - costs["formula_flops"] / one["formula_flops"])
    longest = counted_costs(LAPTOP, layout_of(2**12, 2**12), 5)["formula_saving"]
    assert 0.49 < longest < 0.5


def test_the_quick_study_writes_table_plot_and_profiles(tmp_path, capsys):
    words = ["study", "time", "--budget", "quick", "--device", "cpu", "--out", str(tmp_path)]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "comparisons, paired by round" in table and "2 of at least 5 rounds" in table
    stored = json.loads((tmp_path / "measurements.json").read_text())
    keys = {(row["tokens"], row["blocks"], row["round"]) for row in stored["rows"]}
    assert keys == {(t, b, r) for t in (16, 64) for b in (1, 4) for r in (0, 1, PROFILED)}
    for row in stored["rows"]:
        profiled = row["round"] == PROFILED
        assert (row["seconds"] is None) == profiled == (row["operators"] is not None)
        assert profiled or row["seconds"] > 0 < row["step_seconds"]
    fractions = [f for row in stored["rows"] for _, f in row["operators"] or ()]
    assert fractions and all(0 <= fraction <= 1 for fraction in fractions)
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")
    assert main(words) == 0 and capsys.readouterr().out == table  # nothing is timed again


SETTING = {
    "network": LAPTOP._asdict(),
    "steps": 10,
    "dtype": "float32",
    "machine": {"processor": "a processor", "device": "cpu", "threads": 1, "torch": "2"},
}


def timed(saved: dict[int, float]) -> dict:
    """Rows of five rounds: one block takes 100 seconds, and others save a fraction of them."""
    rows = {}
    for number in (*range(5), PROFILED):
        for blocks, fraction in saved.items():
            noise = 1 + 0.01 * NOISE[(number + blocks) % 5]
            profiled = number == PROFILED
            rows[16384, blocks, number] = {
                "tokens": 16384,
                "blocks": blocks,
                "round": number,
                "seconds": None if profiled else 100 * (1 - fraction) * noise,
                "step_seconds": None if profiled else (1 - fraction) * noise,
                "flops": 100 - 2 * blocks,
                "step_flops": 10,
                "formula_flops": 100,
                "formula_saving": {1: 0.0, 4: 0.3, 16: 0.4}[blocks],
                "operators": [["aten::bmm", 0.75], ["aten::add", 0.25]] if profiled else None,
            }
    return rows


def verdicts(text: str) -> list[str]:
    return [line.split("|")[-2].strip() for line in text.splitlines() if "16,384 tokens |" in line]


def test_the_report_on_known_times(tmp_path):
    _, (page, _) = report(SETTING, timed({1: 0.0, 4: 0.32, 16: 0.38}), tmp_path)
    text = page.read_text()
    assert verdicts(text) == [CONFIRMED] * 3 and "3 comparisons, paired by round" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| 16,384 | 16 |")]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[2] == "62" and cells[6:9] == ["38.0", "30.6", "40.0"]  # seconds and FLOPs of one: 100, 98
    assert cells[9] == f"{0.62 * 98 / 68:.2f}"
    assert "aten::bmm" in text  # a step takes 0.62 of the time of one block at equal FLOPs


def test_savings_far_from_the_formula_are_refuted(tmp_path):
    _, (page, _) = report(SETTING, timed({1: 0.0, 4: 0.1, 16: -0.3}), tmp_path)
    assert verdicts(page.read_text())[1:] == [REFUTED] * 2


def test_profiles_are_shown_only_where_seconds_deviate(tmp_path):
    _, (page, _) = report(SETTING, timed({1: 0.0, 4: 0.05, 16: 0.1}), tmp_path)
    assert "aten::bmm" not in page.read_text() and "within a factor of 1.5" in page.read_text()
