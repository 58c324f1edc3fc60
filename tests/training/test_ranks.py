"""Two processes train as one does, up to rounding."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from acdit.training.loop import train
from acdit.training.recipes import recipe_to_yaml
from tests.training.small import relative_error, small_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_two_ranks_make_the_files_of_one(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    recipe = small_recipe(alone, training={"steps": 4, "sample_every": 2}, sampling={"steps": 2})
    train(recipe)
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    # Processes of their own: forked ones would inherit torch's threads, locked.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "acdit", "train"]
    done = subprocess.run(
        [*launch, str(tmp_path / "recipe.yaml"), "--out", str(together)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    names = [sorted(str(file.relative_to(run)) for file in run.rglob("*")) for run in (alone, together)]
    assert names[0] == names[1]  # the same files, and no half-written ones
    for file in names[0]:
        if file.endswith(".safetensors"):
            expected, found = load_file(alone / file), load_file(together / file)
            assert expected.keys() == found.keys()
            for name, tensor in expected.items():
                if tensor.norm():
                    assert relative_error(found[name], tensor) < 1e-4, (file, name)
