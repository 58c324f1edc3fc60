"""Fine-tuning is the same in one piece or resumed, on one rank or two, in one micro-batch or several."""

import shutil
from typing import Any

import pytest
import torch

from acdit.training.loop import train
from acdit.training.run import Run
from acdit.utils.ranks import launched
from tests.processes import on_ranks
from tests.training.fine_tuning import classifier, merged
from tests.training.small import advance, all_state, small_recipe, unequal

NOISED: dict[str, Any] = {"classifier": {"timestep": 100}, "layout": {"blocks": ["4x4"]}}
PROBES: dict[str, Any] = {
    "training": {"objective": "probes"},
    "classifier": {"probe": "both", "drop_path": 0.0},
}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> dict[str, Any]:
    """Changes of a recipe by which it starts from a trained generator."""
    out = tmp_path_factory.mktemp("generator")
    train(small_recipe(out, training={"steps": 2}, model={"num_layers": 2}))
    return {"training": {"init_from": str(out)}}


@pytest.mark.parametrize("workers", [0, 1])
def test_fine_tuning_resumes_bit_for_bit(tmp_path, workers):
    changes = {"data": {"workers": workers}}
    whole, cut = Run(classifier(tmp_path / "whole", changes)), Run(classifier(tmp_path / "cut", changes))
    results = advance(whole, 5)
    advance(cut, 2)
    cut.save()
    resumed = Run(classifier(tmp_path / "cut", {"data": {"workers": 0}}))
    assert resumed.step == 2
    again = advance(resumed, 3)
    assert [result.loss for result in again] == [result.loss for result in results[2:]]
    assert not unequal(all_state(whole), all_state(resumed))


@pytest.mark.parametrize("form", [{}, NOISED, PROBES], ids=["clean", "noised", "probes"])
def test_a_run_that_starts_from_a_generator_resumes_bit_for_bit(start, tmp_path, form):
    """Without the generator: after the first checkpoint, the weights are those of the run."""
    folder = tmp_path / "generator"
    shutil.copytree(start["training"]["init_from"], folder)
    own = {"training": {"init_from": str(folder)}}
    whole = Run(classifier(tmp_path / "whole", own, form))
    cut = Run(classifier(tmp_path / "cut", own, form))
    first = all_state(whole)
    results = advance(whole, 5)
    advance(cut, 2)
    cut.save()
    shutil.rmtree(folder)
    resumed = Run(classifier(tmp_path / "cut", own, form))
    again = advance(resumed, 3)
    assert [result.loss for result in again] == [result.loss for result in results[2:]]
    assert not unequal(all_state(whole), all_state(resumed))
    moved = unequal(first, all_state(whole))
    assert {name.split(".")[0] for name in moved} >= {"model", "ema"}


def in_double(folder, changes, steps):
    """Losses and gradient norms of some steps on this rank, then all weights and averaged weights."""
    torch.set_default_dtype(torch.float64)
    try:
        ranks = launched()
        with ranks.joined():
            run = Run(classifier(folder, changes), ranks)
            results = advance(run, steps)
            states = {
                f"{averaged}.{name}": tensor
                for averaged in (False, True)
                for name, tensor in run.learner.state(averaged=averaged).items()
            }
    finally:
        torch.set_default_dtype(torch.float32)
    return [(result.loss, result.gradient_norm) for result in results], {
        name: tensor.numpy() for name, tensor in states.items()
    }


def assert_same(found, expected):
    """Losses, norms, weights and averaged weights agree to 1e-9 of their size."""
    assert torch.allclose(torch.tensor(found[0]), torch.tensor(expected[0]), rtol=1e-9, atol=0)
    assert found[1].keys() == expected[1].keys() and len(found[1]) > 10
    for name, value in expected[1].items():
        one, other = torch.from_numpy(found[1][name]), torch.from_numpy(value)
        assert one.dtype == torch.float64
        assert float((one - other).norm()) <= 1e-9 * float(other.norm()), name


@pytest.mark.parametrize("form", [{}, NOISED], ids=["clean", "noised"])
@pytest.mark.parametrize("from_generator", [False, True])
def test_accumulation_equals_none(start, tmp_path, form, from_generator):
    own = merged(form, start if from_generator else {})
    whole, parts = (
        in_double(tmp_path / str(count), merged(own, {"training": {"accumulation": count}}), 4)
        for count in (1, 3)
    )
    assert_same(parts, whole)


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("form", [{}, NOISED, PROBES, None], ids=["clean", "noised", "probes", "tuned"])
def test_two_ranks_train_as_one(start, tmp_path, parallel, form):
    own = start if form is None else form
    changes = merged(own, {"training": {"parallel": parallel, "gradient_checkpointing": parallel == "ddp"}})
    (alone,) = on_ranks(in_double, 1, tmp_path / "alone", changes, 6)
    for found in on_ranks(in_double, 2, tmp_path / "two", changes, 6):
        assert_same(found, alone)
