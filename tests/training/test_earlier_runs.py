"""Runs that an earlier version of the package left (tests/fixtures/earlier-runs) go on, and plot.

Each holds the checkpoint of step 3 of 6, the log of all six steps, and the weights that the version before
the folders exported at the end, written with one thread on a machine with AVX-512.
"""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from acdit.cli.main import main
from acdit.training.loop import train
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError
from tests.tiny import relative_error

RUNS = Path(__file__).parents[1] / "fixtures" / "earlier-runs"


@pytest.fixture(params=["digits", "laptop-text"])
def left(request, tmp_path, monkeypatch):
    """A copy of a run, and the recipe that it was started with."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUNS / request.param, request.param)
    state = json.loads(Path(request.param, "checkpoints", "step-00000003", "state.json").read_text())
    values = {key: value for key, value in state["recipe"].items() if key != "format_version"}
    if request.param == "laptop-text":  # that version knew no other masks
        values["diffusion"]["masks"] = "independent"
    return Path(request.param), load_recipe(request.param, **values)


def test_a_run_goes_on_to_the_weights_of_the_version_that_began_it(left):
    folder, recipe = left
    expected = load_file(folder / "expected.safetensors")
    exported = train(recipe)
    assert exported is not None
    found = load_file(exported / "transformer" / "diffusion_pytorch_model.safetensors")
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        assert relative_error(found[name], weights) < 1e-4, (
            name
        )  # Adam amplifies the rounding of small moments


def test_a_log_plots(left):
    folder, _ = left
    assert main(["curves", str(folder), "--out", "curves.png"]) == 0
    assert Path("curves.png").stat().st_size > 5000


def test_a_log_is_cut_where_a_run_goes_on(left):
    folder, recipe = left
    before = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    train(recipe)
    after = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in after] == [1, 2, 3, 4, 5, 6]
    assert after[:3] == before[:3] and after[3].keys() == before[3].keys()
    assert [entry["loss"] for entry in after] == pytest.approx([entry["loss"] for entry in before], rel=1e-4)


@pytest.mark.parametrize("left", ["laptop-text"], indirect=True)
def test_masks_of_an_earlier_run_are_not_drawn_otherwise_in_silence(left):
    _, recipe = left
    recipe.diffusion.masks = None
    with pytest.raises(UserError, match=r'diffusion\.masks was "independent" and is null\. Continue with'):
        train(recipe)
