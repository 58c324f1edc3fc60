"""Compiled blocks: each layout has code of its own, and answers as uncompiled blocks do."""

import os
import shutil
from functools import partial

import pytest
import torch

from acdit.model.layout import Layout
from acdit.training.learner import compile_blocks
from acdit.training.run import Run
from tests.tiny import tiny_inputs, tiny_model
from tests.training.small import small_recipe


@pytest.fixture(autouse=True)
def _anew():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_no_layout_is_left_uncompiled(monkeypatch):
    """Twelve pieces of code, where torch by itself makes eight: of 3 layouts, 2 ways and 2 layers."""
    from torch._dynamo.utils import counters

    plain, compiled = tiny_model(), tiny_model()
    monkeypatch.setattr(
        compiled, "compile_repeated_blocks", partial(compiled.compile_repeated_blocks, backend="eager")
    )
    compile_blocks(compiled)
    counters.clear()
    for block in ((2, 2), (3, 3), (6, 6)):
        given = tiny_inputs(Layout((6, 6), block))
        more = {"layout": Layout((6, 6), block), "clean": given.clean, "labels": given.labels}
        for learning in (True, False):
            with torch.set_grad_enabled(learning):
                answers = [
                    network(given.noised, given.timestep, **more).sample for network in (plain, compiled)
                ]
            torch.testing.assert_close(answers[1], answers[0])
    assert counters["frames"]["ok"] == counters["frames"]["total"] == 12


@pytest.mark.long
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler")
def test_a_compiled_run_learns_alike(tmp_path):
    losses = []
    for compiled in (False, True):
        run = Run(
            small_recipe(
                tmp_path / str(compiled),
                layout={"blocks": ["2x2", "4x4"]},
                model={"num_layers": 2},
                training={"compile": compiled, "steps": 8},
            )
        )
        losses.append([float(result.loss) for result in run.steps()])
    assert len(losses[0]) == 8
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-4, atol=0)


def test_layers_and_sampling_steps_share_their_code():
    """Five layers are two pieces of code, and further steps of a block, with a cache, are none."""
    from torch._dynamo.utils import counters

    network, layout = tiny_model(num_layers=5), Layout((6, 6), (3, 6))
    given = tiny_inputs(layout)
    network.compile_repeated_blocks(backend="eager")
    counters.clear()
    with torch.no_grad():
        network(given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels)
        assert counters["frames"]["total"] == 2
        cache = network.new_cache(layout, 2)
        network(None, layout=layout, clean=given.clean[:, :1], cache=cache)
        frames = []
        for time in (900.0, 500.0, 100.0):
            timestep = torch.full((2, 1), time)
            network(
                given.noised[:, 1:], timestep, layout=layout, blocks=(1,), labels=given.labels, cache=cache
            )
            frames.append(counters["frames"]["total"])
    assert frames[0] == frames[1] == frames[2]
