"""Recipes with noised context or other positions: from the recipe to samples of the exported pipeline."""

from typing import Any

import pytest
import torch

from acdit.model.flops import Dimensions, forward_flops
from acdit.pipelines.loading import load_pipeline
from acdit.training.loop import train
from acdit.training.objectives import OBJECTIVES
from acdit.training.plan import make_plan
from acdit.training.run import Run
from acdit.utils.errors import UserError
from tests.training.small import advance, small_recipe

NOISED: dict[str, Any] = {"model": {"context": "noised"}}


def test_a_recipe_trains_exports_and_samples(tmp_path):
    recipe = small_recipe(
        tmp_path, **NOISED, sampling={"steps": 2}, validation={"every": 3}, training={"steps": 3}
    )
    run = Run(recipe)
    calls: list[Any] = []
    run.learner.network.register_forward_pre_hook(
        lambda _, inputs, options: calls.append((inputs, options)), with_kwargs=True
    )
    advance(run, 1)
    (((noised, timesteps), options),) = calls
    assert options["clean"] is None and noised.shape[1] == run.layouts[0].num_blocks > 1
    assert (timesteps[:, 0] != timesteps[:, 1]).all()
    train(recipe)
    pipeline = load_pipeline(tmp_path)
    network = pipeline.transformer
    assert network.config["context"] == "noised" and network.context_sees_labels
    rows = []
    network.register_forward_pre_hook(
        lambda _, inputs, options: rows.append(inputs[0].shape[:2]), with_kwargs=True
    )
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    images = pipeline([3, 4], guidance_scale=2.0, generator=seeds, output_type="pt").images
    assert set(rows) == {(4, 1)} and len(images) == 2 and torch.as_tensor(images).isfinite().all()


@pytest.mark.parametrize("positions", ["rope_1d", "absolute", "none"])
def test_a_recipe_chooses_the_positions(tmp_path, positions):
    run = Run(small_recipe(tmp_path, model={"positions": positions}))
    assert run.learner.network.config["positions"] == positions
    advance(run, 1)


def test_plans_count_one_stream(tmp_path):
    recipe = small_recipe(tmp_path, **NOISED)
    run = Run(recipe)
    plan = make_plan(recipe, ranks=1)
    ((layout, cost),) = zip(run.layouts, plan.layouts, strict=True)
    size = Dimensions.of(run.network_config)
    assert size.context == "noised"
    assert (
        cost.forward_flops
        == forward_flops(size, layout)
        < forward_flops(Dimensions.of(run.network_config | {"context": "clean"}), layout)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"diffusion": {"draws": 2}}, "diffusion.draws has no meaning with model.context noised"),
        ({"diffusion": {"views": 2}}, "diffusion.views has no meaning"),
        ({"diffusion": {"context_noise": 0.1}}, "diffusion.context_noise has no meaning"),
        ({"model": {"time_conditioning": False}}, "model.time_conditioning has no meaning"),
        ({"training": {"objective": "classification"}}, "model.context is for images and video"),
    ],
)
def test_recipes_without_meaning_are_refused(tmp_path, changes, message):
    model = NOISED["model"] | changes.get("model", {})
    with pytest.raises(UserError, match=message):
        small_recipe(tmp_path, **(changes | {"model": model}))


def test_an_initial_network_must_have_the_context_of_the_recipe(tmp_path):
    train(small_recipe(tmp_path / "clean", training={"steps": 1}))
    source = {"training": {"init_from": str(tmp_path / "clean")}}
    recipe = small_recipe(tmp_path / "next", **NOISED, **source)
    for use in (Run, make_plan):
        with pytest.raises(UserError, match=r"set model\.context to clean, not noised"):
            use(recipe)


def test_an_objective_that_needs_clean_blocks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES["continuous"], "other", lambda config, data: object())
    with pytest.raises(UserError, match=r"training\.objective other needs clean blocks"):
        Run(small_recipe(tmp_path, **NOISED, training={"objective": "other"}))
