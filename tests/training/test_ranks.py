"""Two processes train as one does, up to rounding."""

from pathlib import Path

import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from acdit.training.loop import train
from tests.training.small import relative_error, small_recipe


def train_on_a_rank(folder: str) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # inherited from the process that forked
    GradientState._reset_state()
    torch.set_num_threads(1)
    recipe = small_recipe(Path(folder), training={"steps": 4, "sample_every": 2}, sampling={"steps": 2})
    assert train(recipe) == Path(folder) / "pipeline"
    assert AcceleratorState().num_processes == 2


def test_two_ranks_make_the_files_of_one(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    train(small_recipe(alone, training={"steps": 4, "sample_every": 2}, sampling={"steps": 2}))
    debug_launcher(train_on_a_rank, args=(str(together),), num_processes=2)
    names = [sorted(str(file.relative_to(run)) for file in run.rglob("*")) for run in (alone, together)]
    assert names[0] == names[1]  # the same files, and no half-written ones
    for file in names[0]:
        if file.endswith(".safetensors"):
            expected, found = load_file(alone / file), load_file(together / file)
            assert expected.keys() == found.keys()
            for name, tensor in expected.items():
                if tensor.norm():
                    assert relative_error(found[name], tensor) < 1e-4, (file, name)
