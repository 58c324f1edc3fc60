"""Recipes: the shipped ones, files, overrides from Python, and mistakes in any of them."""

import json

import pytest
import yaml

from acdit.model.layout import parse_dims
from acdit.training.config import FORMAT_VERSION, DiffusionConfig, ModelConfig, OptimizerConfig, Recipe
from acdit.training.recipes import SHIPPED, load_recipe, recipe_names, recipe_to_dict, recipe_to_yaml
from acdit.utils.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", recipe_names())
def test_shipped(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert f"acdit train {name}" in (SHIPPED / f"{name}.yaml").read_text().partition("\nname:")[0]


@pytest.mark.parametrize(("name", "edge"), [("mnist", 32), ("digits", 8)])
def test_blocks_tile_the_grid(name, edge):
    layout = load_recipe(name).layout
    tokens = edge // layout.patch
    assert all(tokens % side == 0 for block in layout.blocks for side in parse_dims(block))


@pytest.mark.parametrize("size", ["B", "L", "XL", "H"])
def test_the_paper_s_image_runs(size):
    recipe = load_recipe(f"imagenet256-{size.lower()}")
    assert recipe.model == ModelConfig(size=size)
    assert recipe.optimizer == OptimizerConfig(
        3e-4, (0.9, 0.95), weight_decay=0.0, clip=1.0, schedule="wsd", decay_share=0.15, ema_decay=0.9999
    )
    assert recipe.diffusion == DiffusionConfig("epsilon", "uniform", label_dropout=0.1)
    training = recipe.training
    assert (training.steps, training.batch_size, training.precision) == (1_200_000, 1024, "bf16")
    assert (recipe.layout.patch, recipe.layout.blocks) == (1, ["16x16"])
    assert (recipe.data.image_size, recipe.data.flip, recipe.data.num_classes) == (256, True, 1000)
    assert (recipe.sampling.steps, recipe.sampling.guidance_scale) == (25, 1.5)
    assert recipe.latents == load_recipe("imagenet256-b").latents  # encoded once


@pytest.mark.parametrize("size", ["XL", "H"])
def test_the_paper_s_video_runs(size):
    recipe, image = load_recipe(f"ucf101-{size.lower()}"), load_recipe(f"imagenet256-{size.lower()}")
    same = (recipe.model, recipe.optimizer, recipe.diffusion)
    assert same == (image.model, image.optimizer, image.diffusion)
    training = recipe.training
    assert (training.steps, training.batch_size, training.precision) == (400_000, 96, "bf16")
    assert (recipe.layout.patch, recipe.layout.blocks) == (2, ["4x16x16"])
    assert (recipe.data.image_size, recipe.data.frames, recipe.data.num_classes) == (256, 16, 101)
    assert (recipe.sampling.steps, recipe.sampling.guidance_scale) == (25, 2.5)


def test_defaults(write):
    assert load_recipe(write("")) == Recipe()
    assert load_recipe(write("model:\nout:\n")) == Recipe()


def test_types(write):
    text = "name: 7\noptimizer: {learning_rate: 2e-3, betas: [0, 0.5]}\ntraining: {precision: no, seed: 3}\n"
    recipe = load_recipe(write(text))
    assert recipe.name == "7"
    assert recipe.optimizer.learning_rate == 0.002 and recipe.optimizer.betas == (0.0, 0.5)
    assert recipe.training.precision == "no" and recipe.training.seed == 3


def test_lists_as_text(write):
    assert load_recipe(write("layout: {blocks: 4x4}")).layout.blocks == ["4x4"]
    assert load_recipe(write("layout: {blocks: '4x4, 2x2'}")).layout.blocks == ["4x4", "2x2"]


def test_overrides():
    nested = load_recipe("mnist", training={"steps": 5}, layout={"blocks": ["8x8"]}, name="quick")
    dotted = load_recipe("mnist", **{"training.steps": "5", "layout.blocks": ("8x8",), "name": "quick"})
    assert nested == dotted
    assert nested.training.steps == 5 and nested.name == "quick" and nested.data == load_recipe("mnist").data


def test_what_is_off_by_default():
    plain = load_recipe("mnist")
    assert (plain.diffusion.context_noise, plain.diffusion.min_snr, plain.lora.rank) == (0.0, None, 0)
    on = {"diffusion": {"context_noise": 0.1, "min_snr": 5}, "lora": {"rank": 4, "targets": "qkv,proj"}}
    recipe = load_recipe("mnist", **on, training={"init_from": "runs/mnist"})
    assert (recipe.diffusion.context_noise, recipe.diffusion.min_snr) == (0.1, 5.0)
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets) == (4, None, ["qkv", "proj"])


def test_round_trip(tmp_path):
    recipe = load_recipe("digits", optimizer={"betas": (0.8, 0.9)}, data={"source": "a b"}, name="a, b")
    (tmp_path / "a.yaml").write_text(recipe_to_yaml(recipe))
    (tmp_path / "a.json").write_text(json.dumps(recipe_to_dict(recipe), indent=2))
    assert load_recipe(tmp_path / "a.yaml") == load_recipe(tmp_path / "a.json") == recipe
    assert yaml.safe_load((tmp_path / "a.yaml").read_text())["format_version"] == FORMAT_VERSION


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {sise: B}", ["run.yaml", "model.sise", "'B'", "model.size"]),
        ("modle: {size: B}", ["modle.size", "model.size"]),
        ("steps: 4", ["steps", "training.steps"]),
        ("model: S", ["model", "'S'", "model.size"]),
        ("name: {a: 1}", ["name.a", "name"]),
        ("model: {size: Q}", ["run.yaml", "model.size", "S, B, L, XL, H", "'Q'"]),
        ("training: {steps: many}", ["training.steps", "whole number", "'many'"]),
        ("training: {steps: }", ["training.steps", "whole number"]),
        ("training: {steps: [1, 2]}", ["training.steps", "whole number", "'1,2'"]),
        ("data: {flip: maybe}", ["data.flip", "true or false", "'maybe'"]),
        ("layout: {blocks: [4x]}", ["layout.blocks", "'4x'"]),
        ("layout: {blocks: 4x4x4}", ["layout.blocks", "'4x4x4'", "4x4"]),
        ("data: {frames: 8}", ["layout.blocks", "data.frames", "'4x4'", "4x16x16"]),
        ("data: {frames: 1}", ["data.frames", "at least 2"]),
        ("data: {num_classes: 0}", ["data.num_classes", "at least 1"]),
        ("diffusion: {context_noise: -0.1}", ["diffusion.context_noise", "at least 0", "-0.1"]),
        ("diffusion: {min_snr: 0}", ["diffusion.min_snr", "above 0"]),
        ("diffusion: {timestep_location: 1}", ["diffusion.timestep_location is 1", "logit_normal"]),
        ("lora: {rank: 4}", ["lora.rank 4", "training.init_from"]),
        ("lora: {rank: -1}", ["lora.rank", "at least 0", "-1"]),
        ("lora: {alpha: 0}", ["lora.alpha", "above 0"]),
        ("lora: {rank: 4, targets: []}", ["lora.targets", "qkv"]),
        ("training: {compile_mode: reduce-overhead}", ["training.compile_mode", "needs training.compile"]),
        ("- a", ["keys and values"]),
        ("a: [", ["YAML"]),
        ("format_version: 99", ["format_version", "99"]),
    ],
)
def test_mistakes_in_a_file(write, text, words):
    with pytest.raises(ValueError) as caught:
        load_recipe(write(text))
    for word in words:
        assert word in str(caught.value)


def test_mistakes_in_overrides():
    with pytest.raises(UserError, match=r"training\.step .*training\.steps"):
        load_recipe("mnist", training={"step": 3})
    with pytest.raises(UserError, match=r"training\.steps must be a whole number"):
        load_recipe("mnist", training={"steps": None})
    with pytest.raises(UserError, match=r"training\.steps must be a whole number, not 'True'"):
        load_recipe("mnist", training={"steps": True})


def test_unknown_recipe_names_the_nearest_first():
    with pytest.raises(UserError, match="'digit': choose one of digits, "):
        load_recipe("digit")
