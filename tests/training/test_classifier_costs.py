"""FLOPs and parameters in the plans of classifiers and probes, against torch's counter and real modules."""

import inspect
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from acdit.diffusion.schedulers import default_sampler
from acdit.model import split_attention as split
from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.classifier_flops import (
    ClassifierDimensions,
    classifier_forward_flops,
    classifier_parameters,
    classifier_training_flops,
)
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.training.build import build_layouts
from acdit.training.costs import ClassifierCosts
from acdit.training.inspection import inspect_data
from acdit.training.plan import Plan, make_plan
from acdit.training.recipes import load_recipe
from acdit.training.run import Run
from acdit.utils.errors import UserError

FORMS: dict[str, dict[str, Any]] = {
    "fine-tuning": {"layout.blocks": ["4x4"]},
    "attention pooling": {"classifier.pooling": "attention", "classifier.queries": 6},
    "last pooling": {"classifier.pooling": "last"},
    "bidirectional": {"classifier.attention": "bidirectional"},
    "bidirectional, attention pooling": {
        "classifier.attention": "bidirectional",
        "classifier.pooling": "attention",
        "classifier.queries": 2,
    },
    "bidirectional, last pooling": {"classifier.attention": "bidirectional", "classifier.pooling": "last"},
    "noised": {"classifier.timestep": 100, "layout.blocks": ["8x8"]},
    "noised, attention pooling": {
        "classifier.timestep": 100,
        "layout.blocks": ["8x8"],
        "classifier.pooling": "attention",
    },
    "bidirectional probes": {
        "training.objective": "probes",
        "classifier.probe": "attention",
        "classifier.attention": "bidirectional",
    },
    "probes": {"training.objective": "probes", "classifier.probe": "both", "classifier.queries": 4},
    "noised probes": {
        "training.objective": "probes",
        "classifier.probe": "linear",
        "classifier.timestep": 50,
        "layout.blocks": ["8x8"],
    },
}


def recipe_of(tmp_path, **changes: Any):
    plain = {
        "training.objective": "classification",
        "layout.blocks": ["4x4"],
        "diffusion.prediction": "flow",
        "data.source": "mnist",
        "out": str(tmp_path / "run"),
        "layout.patch": 4,
        "model.num_layers": 3,
        "model.hidden_size": 48,
        "model.num_heads": 3,
    }
    return load_recipe("digits", **(plain | changes))


@pytest.fixture
def exact_groups(monkeypatch):
    """Let attention read no block that it does not see, as the counts have it."""
    exact = split._groups
    monkeypatch.setattr(split, "_groups", lambda visibility, size: exact(visibility, 1))


@pytest.mark.usefixtures("exact_groups")
@pytest.mark.parametrize("form", FORMS)
def test_plans_count_what_torch_counts(form, tmp_path):
    recipe = recipe_of(tmp_path, **FORMS[form])
    plan: Plan = make_plan(recipe)
    assert not plan.problems
    config = ClassifierCosts.planned(recipe, inspect_data(recipe))
    frozen = recipe.classifier.probe != "none"
    accepted = inspect.signature(ACDiTForImageClassification).parameters
    with torch.device("meta"):
        network = ACDiTForImageClassification(**{k: v for k, v in config.items() if k in accepted})
        network.transformer.requires_grad_(not frozen)
        (layout,) = build_layouts(recipe, (32, 32))
        data = torch.empty(1, layout.num_blocks, layout.block_tokens, 16)
    network.transformer.set_attention_backend("split")
    with FlopCounterMode(display=False) as forward:
        logits = network(data, layout=layout).logits
    (cost,) = plan.layouts
    assert cost.forward_flops == pytest.approx(forward.get_total_flops(), rel=0.01)
    # torch's kernel on meta recomputes scores in the backward, which is no product of the model: without it
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as both:
        logits = network(data, layout=layout).logits
        logits.sum().backward()
    assert cost.training_flops == pytest.approx(both.get_total_flops(), rel=0.01)
    assert plan.parameters == sum(each.numel() for each in network.parameters())
    assert plan.trained == sum(each.numel() for each in network.parameters() if each.requires_grad)
    assert plan.ddp.optimizer == 8 * plan.trained and plan.ddp.weights == 4 * plan.parameters


@pytest.mark.usefixtures("exact_groups")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("layers", "pooling"),
    [((2,), "mean"), ((1, 2), ("last", "attention")), ((0, 3), ("attention", "mean")), ((0,), "mean")],
)
def test_heads_at_some_layers_count_what_torch_counts(layers, pooling, frozen):
    layout = Layout((8, 8), (4, 4))
    with torch.device("meta"):
        network = ACDiTForImageClassification(
            10, 16, (8, 8), 3, 48, 3, layers=layers, pooling=pooling, queries=4
        )
        network.transformer.requires_grad_(not frozen)
        data = torch.empty(1, layout.num_blocks, layout.block_tokens, 16)
    network.set_attention_backend("split")
    # the classes of the generator are not those of the classifier
    model = ClassifierDimensions.of({**network.config, "num_classes": None}, frozen=frozen)
    with FlopCounterMode(display=False) as forward:
        network(data, layout=layout)
    assert classifier_forward_flops(model, layout) == pytest.approx(forward.get_total_flops(), rel=0.01)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as both:
        network(data, layout=layout).logits.sum().backward()
    assert classifier_training_flops(model, layout) == pytest.approx(both.get_total_flops(), rel=0.01)
    assert classifier_parameters(model) == sum(each.numel() for each in network.parameters())


def test_a_plan_counts_the_layers_that_a_classifier_has(tmp_path):
    """A classifier with a head at an inner layer lacks the layers above, and so does what starts from it."""
    network = ACDiTForImageClassification(10, 16, (8, 8), 3, 48, 3, layers=(2,))
    ACDiTImageClassificationPipeline(network, grid=[8, 8], block=[4, 4], patch=[4, 4]).save_pretrained(
        tmp_path / "inner"
    )
    recipe = recipe_of(tmp_path, **{"training.init_from": str(tmp_path / "inner")})
    run, plan = Run(recipe), make_plan(recipe)
    assert len(run.learner.network.blocks) == 2 == plan.network.num_layers
    assert plan.parameters == sum(each.numel() for each in run.learner.network.parameters())


def test_probes_keep_fewer_activations_than_fine_tuning(tmp_path):
    tuned, probes = (make_plan(recipe_of(tmp_path, **FORMS[name])) for name in ("fine-tuning", "probes"))
    assert probes.layouts[0].activation_bytes < tuned.layouts[0].activation_bytes
    assert probes.ddp.total < tuned.ddp.total


def test_plans_start_from_a_generator(tmp_path):
    plan = make_plan(recipe_of(tmp_path, **{"training.init_from": "mnist", "layout.blocks": ["4x4"]}))
    assert not plan.problems and plan.network.num_classes == 10
    assert plan.network.hidden_size == 256 or plan.network.num_layers > 3  # those of the shipped network
    with pytest.raises(UserError, match="is a model of video"):
        make_plan(recipe_of(tmp_path, **{"training.init_from": "moving-digits"}))
    with pytest.raises(UserError, match="has tokens of 16 values, but those of this recipe have 4"):
        make_plan(recipe_of(tmp_path, **{"training.init_from": "mnist", "layout.patch": 2}))


@pytest.mark.parametrize(
    ("form", "network", "message"),
    [
        ("fine-tuning", {"context": "noised"}, "with noised context, but a classifier needs a generator"),
        ("noised", {"time_conditioning": False}, "timestep 100 needs a network with time conditioning"),
        # a classifier of clean input
        ("noised", None, "timestep 100 needs a network with time conditioning"),
    ],
)
def test_a_plan_refuses_networks_that_training_refuses(tmp_path, form, network, message):
    layout: dict[str, Any] = {"grid": [8, 8], "block": [4, 4], "patch": [4, 4]}
    if network is None:
        classifier = ACDiTForImageClassification(10, 16, (8, 8), 3, 48, 3)
        pipeline = ACDiTImageClassificationPipeline(classifier, **layout)
    else:
        model = ACDiTTransformer(16, (8, 8), 3, 48, 3, num_classes=10, **network)
        pipeline = ACDiTImagePipeline(model, default_sampler("flow"), **layout, num_inference_steps=1)
    pipeline.save_pretrained(tmp_path / "start")
    recipe = recipe_of(tmp_path, **(FORMS[form] | {"training.init_from": str(tmp_path / "start")}))
    for refused in (make_plan, Run):
        with pytest.raises(UserError, match=message):
            refused(recipe)


def test_a_plan_names_layouts_and_queries_that_do_not_fit(tmp_path):
    (problem,) = make_plan(recipe_of(tmp_path, **{"classifier.timestep": 9})).problems
    expected = "classifier.timestep 9 noises the image as one block: set layout.blocks to 8x8, not 4x4"
    assert problem.found == expected
    with pytest.raises(UserError, match="queries must divide the hidden size 48; 7 does not"):
        make_plan(recipe_of(tmp_path, **{"classifier.pooling": "attention", "classifier.queries": 7}))
