"""Tiny runs from end to end, and what each part of a recipe does to the weights."""

import os
from typing import Any

import pytest
import torch
from PIL import Image

from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.training.loop import train
from acdit.training.run import Run
from tests.tiny import given
from tests.training.small import advance, relative_error, small_recipe, unequal

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def weights(run):
    return {name: tensor.detach().clone() for name, tensor in run.learner.network.named_parameters()}


def moving_average(snapshots, decay, warmup):
    """The average after each snapshot in turn, in float64; the first one starts it."""
    average = {name: tensor.double() for name, tensor in snapshots[0].items()}
    for n, weights in enumerate(snapshots[1:], 1):
        rate = min(decay, (1 + n) / (10 + n)) if warmup else decay
        average = {name: rate * average[name] + (1 - rate) * weights[name].double() for name in average}
    return average


@pytest.mark.parametrize(("clip", "factor"), [(0.0, 1.0), (1e9, 1.0), (0.5, None)])
def test_gradients_are_clipped_to_their_maximum_or_not_at_all(tmp_path, clip, factor):
    learner = Run(small_recipe(tmp_path, optimizer={"clip": clip})).learner
    for parameter in learner.parameters:
        parameter.grad = torch.randn_like(parameter)
    before = torch.cat([given(parameter.grad).flatten() for parameter in learner.parameters]).double()
    assert learner.clip() == pytest.approx(float(before.norm()), rel=1e-5)
    after = torch.cat([given(parameter.grad).flatten() for parameter in learner.parameters]).double()
    expected = before * (clip / before.norm() if factor is None else factor)
    assert torch.allclose(after, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("decay", "warmup"), [(0.5, False), (0.995, True), (0.3, True)])
def test_the_exported_weights_are_the_moving_average(tmp_path, decay, warmup):
    changes: dict[str, Any] = {"optimizer": {"ema_decay": decay, "ema_warmup": warmup}}
    run = Run(small_recipe(tmp_path / "watched", **changes))
    snapshots = [weights(run) for _ in run.steps()]
    expected = moving_average(snapshots, decay, warmup)

    path = train(small_recipe(tmp_path / "run", **changes))
    assert path == tmp_path / "run" / "pipeline"
    pipeline = ACDiTImagePipeline.from_pretrained(path)
    exported = pipeline.transformer.state_dict()
    assert exported.keys() == expected.keys()
    for name, tensor in expected.items():
        if tensor.norm():
            assert relative_error(exported[name], tensor) < 1e-6, name
        else:
            assert not exported[name].any()
    apart = [relative_error(exported[name], last) for name, last in snapshots[-1].items() if last.norm()]
    assert max(apart) > 1e-3  # the average is told from the last weights


def test_an_exported_pipeline_draws_and_knows_its_defaults(tmp_path):
    path = train(
        small_recipe(
            tmp_path,
            layout={"blocks": ["2x4", "4x4"]},
            diffusion={"prediction": "v"},
            sampling={"steps": 3, "guidance_scale": 2.5},
        )
    )
    pipeline = ACDiTImagePipeline.from_pretrained(path)
    assert (pipeline.layout.grid, pipeline.layout.block, pipeline.layout.patch) == ((4, 4), (2, 4), (2, 2))
    assert pipeline.label_names == {digit: str(digit) for digit in range(10)}
    assert pipeline.config["guidance_scale"] == 2.5
    assert pipeline.scheduler.config["prediction_type"] == "v_prediction"
    assert not pipeline.transformer.training
    pipeline.set_progress_bar_config(disable=True)
    made: Any = pipeline("7", generator=torch.Generator().manual_seed(0))
    assert made.images[0].size == (8, 8) and made.evaluations == 2 * 3


def test_files_of_a_run(tmp_path):
    train(small_recipe(tmp_path / "run", training={"steps": 5, "checkpoint_every": 2, "keep_checkpoints": 2}))
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoints", "log.jsonl", "pipeline"]
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["step-00000004", "step-00000005"]
    endings = {file.suffix for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert endings == {".safetensors", ".json", ".jsonl", ".py", ".md"}


def test_sample_grids_are_written_and_do_not_disturb(tmp_path, capsys):
    own = {"sampling": {"steps": 2}, "optimizer": {"ema_decay": 0.3}}  # 5 spans of the average are 7 steps
    train(small_recipe(tmp_path / "a", training={"steps": 8, "sample_every": 4}, **own))
    train(small_recipe(tmp_path / "b", training={"steps": 8}, **own))
    names = sorted(os.listdir(tmp_path / "a" / "samples"))
    assert names == ["step-00000004.png", "step-00000008.png"]
    width, height = 10 * (64 + 4) + 4, 4 * (64 + 4) + 4  # a column for each of ten classes
    with Image.open(tmp_path / "a" / "samples" / names[1]) as picture:
        assert picture.size == (width, height) and picture.convert("L").getextrema() != (255, 255)
    with Image.open(tmp_path / "a" / "samples" / names[0]) as early:  # below titles, averaged and raw weights
        assert early.size == (2 * width + 16, 22 + height)
        averaged = early.crop((0, 22, width, 22 + height))
        raw = early.crop((width + 16, 22, 2 * width + 16, 22 + height))
        assert averaged.tobytes() != raw.tobytes()
    said = capsys.readouterr().err
    assert said.count("early samples are shown twice") == 1 and "covers up to 1 steps" in said
    assert not (tmp_path / "b" / "samples").exists()
    watched, alone = (tmp_path / name / "pipeline" / WEIGHTS for name in "ab")
    assert watched.read_bytes() == alone.read_bytes()


def test_tensorboard_holds_every_step(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = small_recipe(
        tmp_path / "run", training={"trackers": ["tensorboard"], "steps": 4, "log_every": 1}
    )
    expected = list(Run(small_recipe(tmp_path / "watched", training={"steps": 4})).steps())
    train(recipe)
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    assert events.is_relative_to(tmp_path / "run" / "tensorboard")
    log = accumulator.EventAccumulator(str(events)).Reload()
    for name in ("loss", "learning_rate", "gradient_norm"):
        logged = [(event.step, event.value) for event in log.Scalars(name)]
        assert logged == [(done.step, pytest.approx(getattr(done, name), rel=1e-6)) for done in expected]


def test_no_logs_unless_asked(tmp_path):
    train(small_recipe(tmp_path, training={"steps": 1}))
    assert list(tmp_path.rglob("*tfevents*")) == []


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulation_changes_rounding_alone(tmp_path, parts):
    """The step's samples, and their noise, are the same ones however they are divided."""
    runs, results = [], []
    for name, accumulation in (("one", 1), ("parts", parts)):
        run = Run(small_recipe(tmp_path / name, training={"accumulation": accumulation, "steps": 4}))
        results.append(list(run.steps()))
        runs.append(weights(run))
    for whole, divided in zip(*results, strict=True):
        assert divided.loss == pytest.approx(whole.loss, rel=1e-5)
        assert divided.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)
    whole, divided = (torch.cat([tensor.flatten() for tensor in run.values()]) for run in runs)
    assert relative_error(divided, whole) < 1e-5


def first_moment(run):
    """The mean gradient that AdamW has seen, times 1 - beta."""
    held = run.learner.optimizer.state_dict()["state"].values()
    return torch.cat([state["exp_avg"].flatten() for state in held])


def test_gradients_are_clipped_before_the_update(tmp_path):
    moments = {}
    for clip in (1e9, 0.25):
        run = Run(small_recipe(tmp_path / str(clip), optimizer={"clip": clip, "betas": (0.5, 0.95)}))
        (result,) = advance(run, 1)
        assert result.gradient_norm > 0.5  # reported as it was before clipping
        moments[clip] = 2 * first_moment(run)  # 1 - beta = 0.5
        assert float(moments[clip].norm()) == pytest.approx(min(clip, result.gradient_norm), rel=1e-4)
    free, clipped = moments.values()
    assert relative_error(clipped / clipped.norm(), free / free.norm()) < 1e-5


def test_the_learning_rate_reaches_the_update(tmp_path):
    """AdamW's first step has the size of the learning rate, whatever the gradient."""
    run = Run(small_recipe(tmp_path, optimizer={"learning_rate": 0.04, "warmup_steps": 4, "clip": 1e9}))
    before = weights(run)["final_layer.linear.bias"]
    (result,) = advance(run, 1)
    change = weights(run)["final_layer.linear.bias"] - before
    assert result.learning_rate == 0.01
    assert torch.allclose(change.abs(), torch.full_like(change, 0.01), rtol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_label_dropout_reaches_the_objective(tmp_path, dropout):
    run = Run(small_recipe(tmp_path, diffusion={"label_dropout": dropout}))
    table = "y_embedder.embedding_table.weight"  # of ten classes and null
    before = weights(run)[table]
    advance(run, 5)
    changed = (weights(run)[table] != before).any(dim=1)
    assert changed[10] == (dropout == 1.0)
    assert changed[:10].any() == (dropout == 0.0)


def test_loss_falls(tmp_path):
    recipe = small_recipe(
        tmp_path, model={"hidden_size": 32}, training={"steps": 60, "batch_size": 32, "checkpoint_every": 60}
    )
    losses = [result.loss for result in Run(recipe).steps()]
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:5]) / 5


def test_runs_repeat_and_seeds_differ(tmp_path):
    def state(name, seed):
        run = Run(small_recipe(tmp_path / name, training={"seed": seed}))
        start = weights(run)
        return start, [result.loss for result in advance(run, 2)]

    first, losses = state("a", 0)
    torch.rand(5)
    again, losses_again = state("b", 0)
    other, losses_other = state("c", 1)
    assert unequal(first, again) == [] and losses == losses_again
    assert "x_embedder.weight" in unequal(first, other) and losses != losses_other


def test_a_run_leaves_torchs_random_state_alone(tmp_path):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    Run(small_recipe(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


def test_gradient_checkpointing_changes_nothing(tmp_path):
    results = [
        list(Run(small_recipe(tmp_path / str(on), training={"gradient_checkpointing": on})).steps())
        for on in (False, True)
    ]
    for plain, recomputed in zip(*results, strict=True):
        assert recomputed.loss == pytest.approx(plain.loss, rel=1e-6)
        assert recomputed.gradient_norm == pytest.approx(plain.gradient_norm, rel=1e-5)


def test_one_process_may_train_in_one_precision_after_the_other(tmp_path):
    """bf16 autocast answers near float32, and not the same."""
    losses = {}
    for precision in ("no", "bf16", "no"):
        run = Run(small_recipe(tmp_path / precision, training={"precision": precision}))
        assert run.learner.network.dtype == torch.float32
        losses.setdefault(precision, []).append([result.loss for result in advance(run, 4)])
    assert losses["no"][0] == losses["no"][1] != losses["bf16"][0]
    assert losses["bf16"][0] == pytest.approx(losses["no"][0], rel=0.02)


def test_the_mode_of_compilation_reaches_the_network(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(
        ACDiTTransformer, "compile_repeated_blocks", lambda self, **options: modes.append(options["mode"])
    )
    Run(small_recipe(tmp_path, training={"compile": True, "compile_mode": "reduce-overhead"}))
    assert modes == ["reduce-overhead"]
