"""The digest of what a run trains to: which settings count, names of data, the version of training."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from acdit.pipelines.folders import SHIPPED
from acdit.training import recipe_digest
from acdit.training.config import Recipe
from acdit.training.recipe_digest import (
    TRAINING_VERSIONS,
    counted_settings,
    settings_digest,
    training_version,
)
from acdit.training.recipes import load_recipe, recipe_to_dict
from acdit.training.run import Run
from acdit.utils.errors import UserError
from acdit.utils.settings import flatten

# What may differ between two runs that leave the same model.
NEUTRAL = {
    *("name", "out", "format_version", "data.workers", "data.max_unreadable"),
    *("training.parallel", "training.world_size", "training.checkpoint_every", "training.keep_checkpoints"),
    *("training.keep_every", "training.sample_every", "training.log_every", "training.trackers"),
}
STORED = json.loads((Path(__file__).parents[1] / "fixtures" / "training_version.json").read_text())
RECIPES = {  # name in the fixture: recipe, and values
    **{name: (name, {}) for name in ("digits", "moving-digits", "laptop-text", "classify-digits")},
    "laptop-text, independent masks": ("laptop-text", {"diffusion.masks": "independent"}),
}
RAISE = (
    "the same recipe trains to another result: raise its version of TRAINING_VERSIONS in "
    "training/recipe_digest.py, so that the runs that studies have stored are trained again, and store the "
    "new values in tests/fixtures/training_version.json"
)


def other_value(key, value):
    """A value of a key that differs from its default."""
    if key == "training.init_from":
        return "mnist"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "other"]
    return "other"


def digest(recipe):
    return settings_digest(counted_settings(recipe), training_version(recipe))


def test_every_key_counts_but_for_those_that_leave_the_same_model():
    plain = digest(Recipe())
    keys = flatten(recipe_to_dict(Recipe()))
    neutral = {"format_version"}
    for key, value in keys.items():
        recipe, (*sections, name) = Recipe(), key.split(".")
        if key in neutral:
            continue
        owner = getattr(recipe, sections[0]) if sections else recipe
        setattr(owner, name, other_value(key, value))
        if digest(recipe) == plain:
            neutral.add(key)
    latents = {"autoencoder.latents"} & keys.keys()
    assert latents and neutral == NEUTRAL


def test_names_and_defaults_are_left_out():
    settings = counted_settings(Recipe(name="x", out="y"))
    assert settings == {}
    assert counted_settings(load_recipe("digits")) == counted_settings(load_recipe("digits", name="other"))


def test_latents_are_named_by_their_folder(tmp_path):
    recipes = [
        load_recipe("digits", name=name, **{"autoencoder.model": "kl", "autoencoder.latents": folder})
        for name, folder in (("a", None), ("b", None), ("b", "latents/a"))
    ]
    digests = [digest(recipe) for recipe in recipes]
    assert digests[0] == digests[2] != digests[1]


def test_files_count_by_their_content_and_folders_by_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = Path("works.txt")

    def of(source):
        return digest(load_recipe("laptop-text", **{"data.source": str(source)}))

    built_in = of("shakespeare")

    text.write_text("one")
    first = of(text)
    assert of(text.resolve()) == first
    text.write_text("two")
    assert of(text) != first
    folder = tmp_path / "works"
    folder.mkdir()
    assert of("works") == of(folder) == of("./works") != of(tmp_path)
    (tmp_path / "shakespeare").mkdir()  # the name of a built-in source stays that of the source
    assert of("shakespeare") == built_in


def test_a_model_to_start_from_counts_by_its_content(tmp_path):
    def of(source):
        return digest(load_recipe("mnist", **{"training.init_from": str(source)}))

    shutil.copytree(SHIPPED / "mnist", tmp_path / "a")
    shutil.copytree(SHIPPED / "mnist", tmp_path / "b" / "pipeline")
    assert of("mnist") == of(tmp_path / "a") == of(tmp_path / "b")
    config = tmp_path / "a" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    assert of(tmp_path / "a") != of("mnist")
    with pytest.raises(UserError, match="is not a model"):
        of(tmp_path / "none")


def test_a_run_to_start_from_counts_by_its_digest(tmp_path):
    recipe = load_recipe("mnist", **{"training.init_from": str(tmp_path / "not trained yet")})
    settings = [counted_settings(recipe, {"training.init_from": name}) for name in ("aa", "bb")]
    assert settings[0]["training.init_from"] == "run aa" and settings[0] != settings[1]


@pytest.mark.parametrize(("raised", "changed"), [("continuous", 2), ("masked", 1), ("classes", 1)])
def test_the_version_of_a_noise_process_counts_for_its_runs(monkeypatch, raised, changed):
    names = ("digits", "moving-digits", "laptop-text", "classify-digits")
    before = [digest(load_recipe(name)) for name in names]
    versions = TRAINING_VERSIONS | {raised: TRAINING_VERSIONS[raised] + 1}
    monkeypatch.setattr(recipe_digest, "TRAINING_VERSIONS", versions)
    after = [digest(load_recipe(name)) for name in names]
    assert sum(one != other for one, other in zip(before, after, strict=True)) == changed


def test_digests_of_stored_runs_stay():
    """Of runs that studies have trained: another digest would train them all again."""
    assert {name: digest(load_recipe(name)) for name in STORED["digests"]} == STORED["digests"]


def trained(name, folder):
    """Losses of a tiny run, and the norm of its averaged weights."""
    changes = {
        "model.num_layers": 2,
        "model.hidden_size": 32,
        "model.num_heads": 2,
        "training.steps": 5,
        "training.batch_size": 4,
        "training.precision": "no",
        "optimizer.warmup_steps": 1,
        "optimizer.weight_decay": 0.1,
    }
    recipe_name, values = RECIPES[name]
    run = Run(load_recipe(recipe_name, out=str(folder), **changes, **values))
    losses = [result.loss for result in run.steps()]
    squares = [value.double().square().sum() for value in run.learner.state(averaged=True).values()]
    return [*losses, float(torch.stack(squares).sum().sqrt())]


@pytest.mark.parametrize("name", RECIPES)
def test_the_version_is_raised_when_training_changes(name, tmp_path):
    assert STORED["versions"] == TRAINING_VERSIONS, "store the values of the new version"
    assert trained(name, tmp_path) == pytest.approx(STORED["trained"][name], rel=1e-4), RAISE


def test_the_version_is_raised_when_a_default_changes():
    """Digests leave defaults out: a key may be added, but a default must not change unseen."""
    defaults = flatten(recipe_to_dict(Recipe()))
    kept = {key: defaults.get(key, "removed") for key in STORED["defaults"]}
    assert kept == STORED["defaults"], RAISE


if __name__ == "__main__":  # prints the values to store
    import tempfile

    values = {name: trained(name, Path(tempfile.mkdtemp())) for name in RECIPES}
    print(
        json.dumps(
            {
                "versions": TRAINING_VERSIONS,
                "digests": {name: digest(load_recipe(name)) for name in STORED["digests"]},
                "trained": values,
                "defaults": flatten(recipe_to_dict(Recipe())),
            },
            indent=1,
        )
    )
