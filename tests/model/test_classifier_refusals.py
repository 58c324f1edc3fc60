"""Classifiers refuse settings, generators and calls that do not fit."""

import math

import pytest
import torch
from peft import LoraConfig

from acdit.model.classifier import ACDiTForImageClassification
from acdit.utils.errors import UserError
from tests.model.classifiers import LAYOUT, classifier, generator
from tests.tiny import tiny_inputs, tiny_model


def test_backends_are_those_of_the_backbone():
    network = classifier()
    with pytest.raises(ValueError, match="attention backend must be one of dense, split, flex, not 'flash'"):
        network.set_attention_backend("flash")
    network.set_attention_backend("flex")
    with pytest.raises(ValueError, match="no backward pass"):
        network.train()(tiny_inputs(LAYOUT, dtype=torch.float64).clean, layout=LAYOUT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": (4,)}, r"layers must lie in 0\.\.3 .*, not 4"),
        ({"layers": (-1, 2)}, r"layers must lie in 0\.\.3 .*, not -1"),
        ({"layers": ()}, "at least one"),
        ({"pooling": "max"}, "pooling must be one of mean, last, attention, not 'max'"),
        ({"pooling": ("mean", "last")}, "one value, or one for each of 1 heads"),
        ({"pooling": "attention", "queries": 5}, "must divide the hidden size 32, not 5"),
        ({"pooling": "attention", "queries": 0}, "must divide the hidden size 32, not 0"),
        ({"attention": "causal"}, "attention must be one of block-causal, bidirectional, not 'causal'"),
        ({"timestep": 1000}, r"timestep must lie from 0 to below 1000, not 1000"),
        ({"timestep": -1.0}, r"timestep must lie from 0 to below 1000, not -1"),
        ({"timestep": math.nan}, r"timestep must lie from 0 to below 1000, not nan"),
        ({"timestep": 10, "attention": "bidirectional"}, "noised input is one block"),
    ],
    ids=str,
)
def test_settings_that_do_not_exist(settings, words):
    with pytest.raises(ValueError, match=words):
        ACDiTForImageClassification.from_generator(generator(), 4, **settings)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_classifier_has_classes(classes):
    with pytest.raises(ValueError, match=f"num_labels must be at least 1, not {classes}"):
        ACDiTForImageClassification.from_generator(generator(), classes)


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        ({"in_channels": None, "vocab_size": 9, "axis_lengths": (8,)}, {}, "of images, not one of text"),
        ({"axis_lengths": (2, 4, 4)}, {}, "of images, not one of video"),
        ({"time_conditioning": False}, {"timestep": 5}, "needs a generator with time conditioning"),
    ],
)
def test_generators_of_other_kinds(config, settings, words):
    with pytest.raises(UserError, match=words):
        ACDiTForImageClassification.from_generator(tiny_model(**config), 4, **settings)


def test_calls_that_do_not_fit():
    clean = tiny_inputs(LAYOUT, dtype=torch.float64).clean
    with pytest.raises(ValueError, match="noised input is one block, but grid 4x6, block 2x3 has 4"):
        classifier(timestep=5.0)(clean, layout=LAYOUT)
    with pytest.raises(ValueError, match=r"layers must lie in 0\.\.2 .*, not \(3,\)"):
        classifier(layers=(2,)).features(clean, layout=LAYOUT, layers=(3,))
    for layer in (4, -1):
        with pytest.raises(ValueError, match=rf"layers must lie in 0\.\.3 .*, not \({layer},\)"):
            classifier().features(clean, layout=LAYOUT, layers=(layer,))
        with pytest.raises(ValueError, match=rf"layers must lie in 0\.\.3 .*, not \(.*{layer}"):
            classifier()(clean, layout=LAYOUT, return_layers=(layer,))
    with pytest.raises(ValueError, match="bidirectional is for clean blocks alone"):
        network = classifier(attention="bidirectional")
        cache = network.transformer.new_cache(LAYOUT, 2)
        network.features(clean[:, :1], layout=LAYOUT, layers=(1,), cache=cache)
    for shape in ((2, 4, 2), (3, 3, 2), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"branch_scale must be \(N, layers, 2\) = \(2, 3, 2\), not"):
            classifier()(clean, layout=LAYOUT, branch_scale=torch.ones(shape))
    with pytest.raises(ValueError, match=r"must have 4 blocks, not 3"):
        classifier()(clean[:, :3], layout=LAYOUT)


def test_a_generator_with_adapters_is_refused():
    network = generator()
    network.add_adapter(LoraConfig(r=2, target_modules=["qkv"]))
    with pytest.raises(UserError, match=r"no weights blocks\.0\.attn\.qkv\..*: fuse its adapters"):
        ACDiTForImageClassification.from_generator(network, 4)
