"""Compiled blocks: each layout has code of its own, and answers as uncompiled blocks do."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

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


def _counting(graphs: list[torch.fx.GraphModule]) -> Callable[..., Any]:
    """Return a backend that runs graphs uncompiled and lists them.

    torch's own count of pieces of code has those functions too that the garbage collector happens to call.
    """

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    return backend


def test_no_layout_is_left_uncompiled(monkeypatch):
    """Ten pieces of code, where torch by itself makes eight: with gradients and without, of 3 layouts.

    The last layer has code of its own, because its clean blocks have no output, unless there are none.
    """
    graphs: list[torch.fx.GraphModule] = []
    plain, compiled = tiny_model(), tiny_model()
    monkeypatch.setattr(
        compiled,
        "compile_repeated_blocks",
        partial(compiled.compile_repeated_blocks, backend=_counting(graphs)),
    )
    compile_blocks(compiled)
    for block in ((2, 2), (3, 3), (6, 6)):
        given = tiny_inputs(Layout((6, 6), block))
        more = {"layout": Layout((6, 6), block), "clean": given.clean, "labels": given.labels}
        for learning in (True, False):
            with torch.set_grad_enabled(learning):
                answers = [
                    network(given.noised, given.timestep, **more).sample for network in (plain, compiled)
                ]
            torch.testing.assert_close(answers[1], answers[0])
    assert len(graphs) == 10


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


def test_layers_and_blocks_share_their_code():
    """Neither more layers nor further steps and blocks of cached sampling need more code."""
    graphs: list[torch.fx.GraphModule] = []
    layout = Layout((6, 6), (1, 6))
    given = tiny_inputs(layout)
    plain, compiled = (tiny_model(num_layers=4) for _ in range(2))
    compiled.compile_repeated_blocks(backend=_counting(graphs))
    caches = [network.new_cache(layout, 2) for network in (plain, compiled)]
    pieces = []
    with torch.no_grad():
        for block in range(4):
            for time in (900.0, 100.0):
                # the first step of a block takes in the block before
                clean = given.clean[:, block - 1 : block] if block and time == 900.0 else None
                more = {"layout": layout, "blocks": (block,), "clean": clean, "labels": given.labels}
                view, timestep = given.noised[:, block : block + 1], torch.full((2, 1), time)
                answers = [
                    network(view, timestep, cache=cache, **more).sample
                    for network, cache in zip((plain, compiled), caches, strict=True)
                ]
                torch.testing.assert_close(answers[1], answers[0])
            pieces.append(len(graphs))
    # Of the first block: one. Of the second: one for all layers but the last, one for the last, whose clean
    # blocks have no output, and one for the second step. Of the third: those anew, for any number of keys.
    assert pieces == [1, 4, 7, 7]
