"""Weights of a run's checkpoints in its pipeline, against the pipeline that the run itself builds."""

import shutil

import pytest
import torch

from acdit.pipelines.loading import load_pipeline
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.training.stored_weights import RAW, StoredWeights
from acdit.utils.errors import UserError
from tests.training.small import small_recipe

SETTINGS = {"steps": 4, "checkpoint_every": 2, "keep_checkpoints": 2}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A finished run with checkpoints of steps 2 and 4."""
    recipe = small_recipe(
        tmp_path_factory.mktemp("run"),
        training=SETTINGS,
        optimizer={"ema_decay": 0.5},
        validation={"every": 0},
    )
    train(recipe)
    return recipe


def test_weights_are_those_of_the_run(recipe):
    weights, pipeline = StoredWeights(recipe.folder), load_pipeline(recipe.folder)
    assert weights.steps == [2, 4] and weights.decay(2) == 0.5
    exported = {name: tensor.clone() for name, tensor in pipeline.transformer.state_dict().items()}
    run = Run(recipe)  # resumes from step 4
    for averaged, decay in ((True, 0.5), (False, RAW)):
        weights.load(pipeline, 4, decay)
        expected = run.learner.state(averaged=averaged)
        assert all(
            torch.equal(expected[name], value) for name, value in pipeline.transformer.state_dict().items()
        )
    weights.load(pipeline, 2, 0.5)
    earlier = pipeline.transformer.state_dict()
    assert any(not torch.equal(exported[name], value) for name, value in earlier.items())
    weights.load(pipeline, 4, 0.5)
    assert all(
        torch.equal(exported[name], value) for name, value in pipeline.transformer.state_dict().items()
    )


def test_what_a_run_does_not_hold_is_named(recipe, tmp_path):
    weights, pipeline = StoredWeights(recipe.folder), load_pipeline(recipe.folder)
    with pytest.raises(UserError, match=r"no checkpoint of step 3: it holds those of 2, 4"):
        weights.load(pipeline, 3, RAW)
    with pytest.raises(UserError, match=r"no moving average of decay 0\.9: it holds 0\.5 and none"):
        weights.load(pipeline, 2, 0.9)
    with pytest.raises(UserError, match="holds no checkpoints"):
        StoredWeights(tmp_path)


def test_damaged_files_are_found(recipe, tmp_path):
    shutil.copytree(recipe.folder, tmp_path / "run")
    pipeline = load_pipeline(tmp_path / "run")
    (file,) = (tmp_path / "run" / "checkpoints" / "step-00000002").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    weights = StoredWeights(tmp_path / "run")
    with pytest.raises(UserError, match="step-00000002 is damaged"):
        weights.load(pipeline, 2, RAW)
    weights.load(pipeline, 4, RAW)
