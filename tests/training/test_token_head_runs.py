"""Runs of networks with a head per token: training, resuming, plans, pipelines on disk, and refusals."""

import json
from typing import Any

import pytest
import torch

from acdit.cli.main import main
from acdit.model.token_head import CausalTokenDiffusion
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.video import ACDiTVideoPipeline
from acdit.training.config import Recipe
from acdit.training.loop import train
from acdit.training.plan import make_plan
from acdit.training.recipe_digest import counted_settings
from acdit.training.recipes import load_recipe
from acdit.training.run import Run
from acdit.utils.errors import UserError
from tests.training.small import advance, all_state, small_recipe, unequal

KIND = {
    "model": {"kind": "token-head", "head_layers": 2, "head_size": 24},
    "layout": {"blocks": ["1x1"], "patch": 4},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("token-head")
    recipe = small_recipe(
        folder,
        **KIND,
        training={"steps": 40, "batch_size": 64},
        validation={"every": 40, "images": 64},
        diffusion={"draws": 2},
        sampling={"steps": 4},
    )
    train(recipe)
    return folder


def test_training_reduces_the_loss_and_exports_a_pipeline(trained):
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    pipe = load_pipeline(trained, kind=ACDiTImagePipeline)
    assert isinstance(pipe.transformer, CausalTokenDiffusion)
    assert pipe.transformer.config["prediction_type"] == "flow_prediction"
    images = pipe(class_labels=[3, None, 1], output_type="pt", generator=torch.Generator().manual_seed(0))
    assert images.images.shape == (3, 1, 8, 8)
    assert images.evaluations == 4 * 4
    with pytest.raises(UserError, match="the block must be 1x1, not 2x2"):
        pipe(class_labels=[3], block=(2, 2))


def test_a_saved_pipeline_is_the_same(trained, tmp_path):
    pipe = load_pipeline(trained, kind=ACDiTImagePipeline)
    pipe.save_pretrained(tmp_path)
    again = ACDiTImagePipeline.from_pretrained(tmp_path)
    state, other = pipe.transformer.state_dict(), again.transformer.state_dict()
    assert unequal(state, other) == []
    config = json.loads((tmp_path / "transformer" / "config.json").read_text())
    config["head_layers"] = 3
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"head\.layers\.2"):
        ACDiTImagePipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("changes", [{}, {"diffusion": {"draws": 2, "views": 3}}], ids=["plain", "draws"])
def test_stop_and_resume_equals_uninterrupted(tmp_path, changes):
    straight = Run(small_recipe(tmp_path / "straight", **KIND, **changes))
    results = list(straight.steps())
    first = Run(small_recipe(tmp_path / "stopped", **KIND, **changes))
    before = advance(first, 3)
    first.save()
    second = Run(small_recipe(tmp_path / "stopped", **KIND, **changes))
    assert second.step == 3
    assert before + list(second.steps()) == results
    assert unequal(all_state(second), all_state(straight)) == []
    with pytest.raises(UserError, match=r"holds a run of model\.kind token-head"):
        Run(small_recipe(tmp_path / "stopped"))


def test_a_run_of_the_other_kind_is_not_resumed(tmp_path):
    run = Run(small_recipe(tmp_path))
    advance(run, 1)
    run.save()
    with pytest.raises(UserError, match=r"holds a run of model\.kind acdit"):
        Run(small_recipe(tmp_path, **KIND))


def test_a_plan_counts_what_a_run_has(tmp_path):
    recipe = small_recipe(tmp_path, **KIND, diffusion={"draws": 3})
    run, plan = Run(recipe), make_plan(recipe)
    assert plan.parameters == run.learner.network.num_parameters()
    assert plan.step_flops == next(run.steps()).flops
    assert plan.layouts[0].network_tokens == 4
    assert not plan.problems
    assert json.loads(plan.to_json())["network"]["head_layers"] == 2


def test_a_run_starts_from_one_of_its_kind_alone(trained, tmp_path):
    changes = {"training": {"init_from": str(trained)}, "layout": KIND["layout"]}
    run = Run(small_recipe(tmp_path / "next", **changes, model={"kind": "token-head"}))
    weights = load_pipeline(trained).transformer.state_dict()
    assert unequal(dict(run.learner.network.state_dict()), dict(weights)) == []
    assert make_plan(run.recipe).parameters == run.learner.network.num_parameters()
    for action in (Run, make_plan):
        with pytest.raises(UserError, match=r"is a model of model\.kind token-head, not acdit"):
            action(small_recipe(tmp_path / "other", **changes))
    with pytest.raises(UserError, match=r"a classifier needs one of model\.kind acdit"):
        Run(
            small_recipe(tmp_path / "classes", training=changes["training"] | {"objective": "classification"})
        )


def test_clips_of_single_tokens(tmp_path):
    recipe = load_recipe(
        "moving-digits",
        **{"model.kind": "token-head", "layout.blocks": "1x1x1", "layout.patch": 32, "data.frames": 4},
        **{"model.num_layers": 1, "model.hidden_size": 16, "model.num_heads": 1},
        **{"training.steps": 1, "training.batch_size": 2, "sampling.steps": 2, "out": str(tmp_path)},
    )
    train(recipe)
    pipe = load_pipeline(tmp_path, kind=ACDiTVideoPipeline)
    assert isinstance(pipe.transformer, CausalTokenDiffusion)
    clips = pipe(output_type="pt").frames
    assert clips.shape[1] == pipe.num_frames == 4
    longer: list[dict[str, Any]] = [{"num_frames": 8}, {"window": 2}, {"window": 2, "sinks": 1}]
    for options in longer:
        with pytest.raises(UserError, match=r"leave out window and sinks|sinks need blocks as long"):
            pipe(**options)


def test_defaults_do_not_change_the_digest():
    assert not [key for key in counted_settings(Recipe()) if key.startswith("model.")]


REFUSED = [
    (["layout.blocks=2x2"], "layout.blocks must be 1x1 for model.kind token-head"),
    (["layout.blocks=1x1,2x2"], "layout.blocks must be 1x1 for model.kind token-head"),
    (["model.head_layers=0"], "model.head_layers must be at least 1, not 0"),
    (["model.head_size=-3"], "model.head_size must be at least 1, not -3"),
    (["model.kind=acdit", "model.head_layers=3"], "model.head_layers is for model.kind token-head"),
    (["model.kind=acdit", "model.head_size=3"], "model.head_size is for model.kind token-head"),
    (["model.kind=tokens"], "model.kind must be one of"),
    (["model.time_conditioning=false"], "model.time_conditioning false does not fit model.kind token-head"),
    (["data.source=shakespeare", "data.tokens=16", "layout.blocks=1"], "model.kind is for images and video"),
    (["training.objective=classification"], "model.kind is for images and video"),
    (["lora.rank=2", "training.init_from=mnist"], "lora.rank is for model.kind acdit"),
    (["training.init_from=mnist"], "is a model of model.kind acdit, not token-head"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals_are_one_line(values, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = dict(value.split("=") for value in values)
    arguments = {"model.kind": "token-head", "layout.blocks": "1x1"} | arguments
    options = [part for key, value in arguments.items() for part in (f"--{key}", value)]
    assert main(["train", "digits", *options]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_commands_run_with_such_a_model(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["info", str(trained), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["head_layers"], facts["head_size"]) == (2, 24)
    assert facts["parameters"] == load_pipeline(trained).transformer.num_parameters()
    out = str(tmp_path / "digits.png")
    assert main(["sample", "--model", str(trained), "--labels", "3,1", "--out", out]) == 0
    assert (tmp_path / "digits.png").exists()
    for command in (
        ["info", str(trained), "--block", "2x2"],
        ["sample", "--model", str(trained), "--block", "2x2", "--labels", "3"],
        ["convert", str(trained), "--out", str(tmp_path / "published.pt"), "--to-published"],
    ):
        capsys.readouterr()
        assert main(command) == 2
        error = capsys.readouterr().err.strip()
        assert "\n" not in error and ("1x1" in error or "CausalTokenDiffusion" in error), error
