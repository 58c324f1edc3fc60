"""Probes: heads at every layer of a frozen network, trained in one pass as if each were alone."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from acdit.cli.main import main
from acdit.model.classification_head import ClassificationHead, Pooling
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.pipelines.loading import load_pipeline
from acdit.training.learner import Learner
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.training.step_batches import StepBatches
from tests.training.small import advance, all_state, small_recipe, unequal

BATCH, STEPS, CLIP = 12, 5, 0.05


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A generator of 8x8 digits with two layers, trained for a few steps."""
    out = tmp_path_factory.mktemp("generator") / "run"
    return train(small_recipe(out, model={"num_layers": 2}, training={"steps": 3}))


def probe_recipe(out: Any, generator: Any, **changes: Any) -> Any:
    """A recipe of probes on the generator, whose gradients are clipped at every step."""
    values: dict[str, Any] = {
        "training.objective": "probes",
        "training.init_from": str(generator),
        "training.steps": STEPS,
        "classifier.probe": "both",
        "classifier.queries": 4,
        "optimizer.clip": CLIP,
        "optimizer.weight_decay": 0.1,
        "optimizer.warmup_steps": 2,
        "classifier.drop_path": 0.5,  # which a frozen network does not feel
    }
    return small_recipe(out, **(values | changes))


def test_a_probe_equals_one_that_is_trained_on_stored_features(generator, tmp_path):
    recipe = probe_recipe(tmp_path / "run", generator)
    run = Run(recipe)
    network, layout = run.learner.network.double(), run.layouts[0]
    run.learner = Learner(network, recipe.optimizer)
    first = {name: value.clone() for name, value in network.state_dict().items()}
    rates = [result.learning_rate for result in run.steps()]
    assert [head.pooling for head in network.heads] == ["mean"] * 3 + ["attention"] * 3
    assert network.layers == (0, 1, 2, 0, 1, 2)
    order = StepBatches(len(run.data), BATCH, range(STEPS), seed=recipe.training.seed)
    batches = list(DataLoader(run.data, batch_sampler=order))
    # of the embeddings and of both layers
    poolings: tuple[Pooling, ...] = ("mean", "mean", "mean", "attention", "attention", "attention")
    for number, pooling in enumerate(poolings):
        layer = network.layers[number]
        head = ClassificationHead(16, 10, pooling, 4).double()
        prefix = f"heads.{number}."
        head.load_state_dict({k.removeprefix(prefix): v for k, v in first.items() if k.startswith(prefix)})
        optimizer = torch.optim.AdamW(head.parameters(), betas=recipe.optimizer.betas, weight_decay=0.1)
        for batch, rate in zip(batches, rates, strict=True):
            with torch.no_grad():
                (states,) = network.features(
                    layout.to_blocks(batch["data"].double()), layout=layout, layers=[layer]
                )
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            cross_entropy(head(states), batch["label"]).backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), CLIP)
            optimizer.step()
        trained = network.heads[number].state_dict()
        for name, value in head.state_dict().items():
            torch.testing.assert_close(trained[name], value, rtol=1e-9, atol=1e-12)


def test_the_backbone_is_frozen_and_not_in_the_optimiser(generator, tmp_path):
    run = Run(probe_recipe(tmp_path / "run", generator))
    before = all_state(run)
    advance(run, 2)
    changed = unequal(before, all_state(run))
    assert changed and all(".heads." in name or name.startswith(("exp_avg", "ema.heads")) for name in changed)
    assert {name.split(".")[0] for name in run.learner.names} == {"heads"}


def test_probes_resume_bit_for_bit_and_are_exported(generator, tmp_path):
    whole = Run(probe_recipe(tmp_path / "whole", generator))
    advance(whole, STEPS)
    half = Run(probe_recipe(tmp_path / "half", generator))
    advance(half, 2)
    half.save()
    resumed = Run(probe_recipe(tmp_path / "half", generator))
    assert resumed.step == 2
    advance(resumed, STEPS - 2)
    assert unequal(all_state(whole), all_state(resumed)) == []
    pipeline = whole.pipeline()
    assert pipeline is not None
    pipeline.save_pretrained(tmp_path / "probes")
    loaded = load_pipeline(tmp_path / "probes", kind=ACDiTImageClassificationPipeline)
    logits = loaded.logits(torch.zeros(3, 1, 8, 8))
    assert logits.shape == (3, 6, 10)


@pytest.mark.parametrize("timestep", [0.0, 300.0])
def test_probes_of_noised_input(generator, tmp_path, timestep):
    recipe = probe_recipe(
        tmp_path / "run", generator, **{"classifier.timestep": timestep, "layout.blocks": ["4x4"]}
    )
    run = Run(recipe)
    results = advance(run, 2)
    assert all(result.loss > 0 for result in results)
    assert run.learner.network.config["timestep"] == timestep


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classifier.probe", "linear"], "classifier.probe is for image classification"),
        (["--training.objective", "probes"], "choose linear, attention or both"),
        (
            [
                "--training.objective",
                "probes",
                "--classifier.probe",
                "attention",
                "--classifier.queries",
                "5",
            ],
            "classifier.queries must divide the hidden size",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(generator, tmp_path, capsys, words, message):
    given = ["train", "digits", "--out", str(tmp_path / "run"), "--training.init_from", str(generator)]
    assert main([*given, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
