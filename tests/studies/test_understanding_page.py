"""The page on understanding states the options, numbers and choices that the code and the recipes have."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import acdit
from acdit.cli.evaluate_classes import ClassEvaluateOptions
from acdit.cli.evaluate_options import PixelEvaluateOptions
from acdit.evaluation.class_plots import MOST_CELLS
from acdit.evaluation.class_tables import TOP
from acdit.evaluation.classification import SCORES
from acdit.evaluation.report import MOST_ROWS
from acdit.metrics.classification import BINS
from acdit.studies.study import STUDIES
from acdit.training.recipes import load_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "understanding.md").read_text()
RECIPES = Path(acdit.__file__).parent / "recipes"
LAUNCHER = {"nproc_per_node"}  # options of torchrun
IMAGENET = 1_281_167  # training images


def row(name: str) -> list[str]:
    """The cells of the row of a table of the page that begins with a name."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_every_option_of_the_page_exists():
    known = {field.name for kind in (ClassEvaluateOptions, PixelEvaluateOptions) for field in fields(kind)}
    named = set(re.findall(r"--([a-z_]+)", PAGE)) - LAUNCHER
    assert named >= {"head", "timesteps", "plot", "draws", "metrics"} and named <= known


def test_recipes_and_studies_of_the_page_exist():
    recipes = set(re.findall(r"acdit (?:train|plan) ([a-z0-9-]+)", PAGE))
    assert recipes >= {"classify-mnist", "classify-imagenet-xl"}
    assert all((RECIPES / f"{name}.yaml").exists() for name in recipes)
    assert set(re.findall(r"acdit study ([a-z-]+)", PAGE)) <= set(STUDIES)
    tuned = load_recipe("classify-mnist")
    assert tuned.training.init_from == "mnist"  # "fine-tunes the generator in the package"


def test_what_is_chosen_for_imagenet_is_what_the_recipe_sets():
    recipe, (_, paper, choice) = load_recipe("classify-imagenet-xl"), row("fine-tuning on ImageNet")
    text = (RECIPES / "classify-imagenet-xl.yaml").read_text()
    content = yaml.safe_load(text)
    header = "\n".join(line[2:] for line in text.splitlines() if line.startswith("#"))
    for key in [*content["classifier"], "weight_decay", "learning_rate", "pooling", "attention", "schedule"]:
        assert key.replace("_", " ") in choice and key.replace("_", " ") in header, key
    assert "decay by layer" in choice and recipe.optimizer.layer_decay < 1
    (epochs,) = re.findall(r"(\d+) epochs", paper)
    assert recipe.training.steps == pytest.approx(int(epochs) * IMAGENET / recipe.training.batch_size, abs=1)
    assert f"{epochs} epochs" in header
    for accuracy in re.findall(r"\d\d\.\d", paper):
        assert f"{accuracy}%" in header
    assert recipe.classifier.timestep is None and "clean latents" in paper


def test_scores_and_numbers_are_those_of_the_code():
    for name in SCORES:
        assert row(f"`{name}`")
    (bins,) = {int(number) for number in re.findall(r"(\d+) bins", PAGE)}
    assert bins == BINS
    assert f"with more than {TOP} classes" in row(f"`top_{TOP}_accuracy`")[1]
    assert f"printed for up to {MOST_ROWS} classes" in PAGE
    assert f"more than {MOST_CELLS} classes" in PAGE
