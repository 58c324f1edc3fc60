"""The section `classifier` of recipes: ranges, and keys without meaning."""

import pytest

from acdit.modalities.classification import CLASSIFICATION
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError

CLASSIFIED = {"training.objective": "classification"}


def test_the_objective_chooses_the_modality():
    assert load_recipe("digits", **CLASSIFIED).modality is CLASSIFICATION
    probes = load_recipe("digits", **{"training.objective": "probes", "classifier.probe": "both"})
    assert probes.modality is CLASSIFICATION
    assert load_recipe("digits").modality.name == "image"


@pytest.mark.parametrize("name", ["moving-digits", "laptop-text"])
def test_only_images_are_classified(name):
    with pytest.raises(UserError, match=r"objective classification needs images, not (clips|texts)"):
        load_recipe(name, **CLASSIFIED)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("timestep", 1001, "must be below 1,000"),
        ("timestep", -1, "must be at least 0"),
        ("timestep", float("nan"), "must be a finite number"),
        ("label_smoothing", 1, "must be below 1"),
        ("mixup", -0.1, "must be at least 0"),
        ("cutmix", float("inf"), "must be a finite number"),
        ("drop_path", 1.0, "must be below 1"),
        ("shift", -1, "must be at least 0"),
        ("rotation", 181, "must be at most 180"),
        ("scaling", 1, "must be below 1"),
        ("randaugment", -1, "must be at least 0"),
        ("randaugment_magnitude", 11, "must be at most 10"),
        ("queries", 0, "must be at least 1"),
        ("pooling", "max", "must be one of mean, last, attention"),
        ("attention", "none", "must be one of block-causal, bidirectional"),
        ("probe", "quadratic", "must be one of none, linear, attention, both"),
    ],
)
def test_values_out_of_range_are_refused(key, value, message):
    with pytest.raises(UserError, match=rf"classifier\.{key} {message}"):
        load_recipe("digits", **CLASSIFIED, **{f"classifier.{key}": value})


def test_combinations_without_meaning_are_refused():
    noised = {"classifier.timestep": 100, "classifier.attention": "bidirectional"}
    with pytest.raises(UserError, match=r"classifier\.attention bidirectional is for the clean image"):
        load_recipe("digits", **CLASSIFIED, **noised)
    with pytest.raises(UserError, match=r"classifier\.randaugment is for pixels, but autoencoder\.model is"):
        load_recipe("mnist-latent", **CLASSIFIED, **{"classifier.randaugment": 2})
    with pytest.raises(
        UserError, match=r"probe linear does not fit training\.objective classification: leave"
    ):
        load_recipe("digits", **CLASSIFIED, **{"classifier.probe": "linear"})
    with pytest.raises(UserError, match=r"probe none does not fit training\.objective probes: choose linear"):
        load_recipe("digits", **{"training.objective": "probes"})


@pytest.mark.parametrize(
    ("name", "chosen_by"),
    [
        ("digits", r"images \(training\.objective diffusion\)"),
        ("moving-digits", r"clips \(data\.frames\)"),
        ("laptop-text", r"texts \(data\.tokens\)"),
    ],
)
def test_generators_refuse_keys_of_classifiers(name, chosen_by):
    expected = rf"classifier\.mixup is for image classification, not for {chosen_by}: leave it out"
    with pytest.raises(UserError, match=expected):
        load_recipe(name, **{"classifier.mixup": 0.5})


@pytest.mark.parametrize(
    ("key", "value"),
    [("sampling.steps", 3), ("diffusion.draws", 2), ("lora.alpha", 1), ("model.time_conditioning", True)],
)
def test_classifiers_refuse_keys_of_generators(key, value):
    with pytest.raises(UserError, match=rf"{key} is for images.*training\.objective classification"):
        load_recipe("digits", **CLASSIFIED, **{key: value})
