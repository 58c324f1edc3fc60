"""Stop after some steps and run again: the same bits as a run that was never stopped."""

import shutil
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from acdit.training.log import read_log
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.utils import files
from acdit.utils.errors import UserError
from tests.training.small import advance, all_state, small_recipe, unequal


def forget_the_process(seed):
    """What a new process would find otherwise: other state of torch's own generator, none of accelerate's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    torch.manual_seed(seed)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "across epochs": {"training": {"batch_size": 500, "steps": 7}},  # 1,438 images: not three batches
    "three layouts": {"layout": {"blocks": ["2x2", "4x4", "1x2"]}, "training": {"steps": 9}},
    "accumulation": {"training": {"accumulation": 2}},
    "draws and views": {"diffusion": {"draws": 2, "views": 2}},
    "epsilon": {"diffusion": {"prediction": "epsilon", "timesteps": "logit_normal", "label_dropout": 0.5}},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "noised context": {"model": {"context": "noised"}, "layout": {"blocks": ["2x2", "1x4"]}},
    "absolute positions": {"model": {"positions": "absolute"}},
    "schedule": {"optimizer": {"schedule": "cosine", "warmup_steps": 4, "weight_decay": 0.1}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_stop_and_resume_equals_uninterrupted(tmp_path, changes):
    forget_the_process(1)
    straight = Run(small_recipe(tmp_path / "straight", **changes))
    results = list(straight.steps())
    assert len({result.loss for result in results}) == len(results)  # every step is told apart

    forget_the_process(2)
    first = Run(small_recipe(tmp_path / "stopped", **changes))
    before = advance(first, 4)
    first.save()
    saved = all_state(first)
    del first

    forget_the_process(3)
    second = Run(small_recipe(tmp_path / "stopped", **changes))
    assert second.step == 4
    assert unequal(all_state(second), saved) == []
    torch.rand(99)
    after = list(second.steps())
    assert before + after == results  # steps, losses, learning rates and gradient norms
    assert unequal(all_state(second), all_state(straight)) == []


def test_a_run_resumes_more_than_once(tmp_path):
    straight = Run(small_recipe(tmp_path / "straight"))
    results = list(straight.steps())
    for step in range(6):
        forget_the_process(step)
        run = Run(small_recipe(tmp_path / "stopped"))
        assert run.step == step
        assert advance(run, 1) == results[step : step + 1]
        run.save()
    assert unequal(all_state(Run(small_recipe(tmp_path / "stopped"))), all_state(straight)) == []


@pytest.mark.parametrize("warmup", [True, False])
def test_resume_restores_the_moving_average(tmp_path, warmup):
    """Fails where a resumed run starts its average anew: weights, or the count that its warm-up goes by."""
    changes: dict[str, Any] = {"optimizer": {"ema_warmup": warmup, "ema_decay": 0.9}}
    first = Run(small_recipe(tmp_path / "stopped", **changes))
    advance(first, 4)
    first.save()
    average = [tensor.clone() for tensor in first.learner.ema.shadow_params]
    weights = [tensor.detach().clone() for tensor in first.learner.network.parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(average, weights, strict=True))

    second = Run(small_recipe(tmp_path / "stopped", **changes))
    assert all(torch.equal(a, b) for a, b in zip(second.learner.ema.shadow_params, average, strict=True))
    list(second.steps())
    straight = Run(small_recipe(tmp_path / "straight", **changes))
    list(straight.steps())
    assert all(
        torch.equal(a, b)
        for a, b in zip(second.learner.ema.shadow_params, straight.learner.ema.shadow_params, strict=True)
    )


class Stopped(Exception):
    """The power goes out."""


def exported(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_same_command_again_exports_the_same_pipeline(tmp_path, monkeypatch):
    """Stopped between two checkpoints, so that the resumed run does some steps again."""
    changes: dict[str, Any] = {"training": {"steps": 7, "checkpoint_every": 3}}
    straight = train(small_recipe(tmp_path / "straight", **changes))
    whole_steps = Run.steps

    def power_cut(run, asked):
        for done in whole_steps(run, asked):
            if done.step == 5:
                raise Stopped
            yield done

    recipe = small_recipe(tmp_path / "stopped", **changes)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "steps", power_cut)
        with pytest.raises(Stopped):
            train(recipe)
    assert not (tmp_path / "stopped" / "pipeline").exists()
    forget_the_process(9)
    assert Run(recipe).step == 3
    resumed = train(recipe)
    assert exported(resumed) == exported(straight)
    assert exported(train(recipe)) == exported(straight)  # once more: nothing left to do


@pytest.fixture
def started(tmp_path):
    run = Run(small_recipe(tmp_path / "run"))
    advance(run, 2)
    run.save()
    return tmp_path / "run"


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.learning_rate": 2e-2},
        {"optimizer.betas": (0.8, 0.95)},
        {"optimizer.ema_decay": 0.5},
        {"optimizer.clip": 0.5},
        {"training.seed": 1},
        {"training.batch_size": 24},
        {"training.accumulation": 2},
        {"model.hidden_size": 32},
        {"model.num_layers": 2},
        {"layout.blocks": ["4x4"]},
        {"layout.patch": 1},
        {"diffusion.label_dropout": 0.2},
        {"diffusion.prediction": "v"},
        {"data.source": "mnist", "diffusion.draws": 3},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_a_changed_recipe_is_refused_by_name(started, changes):
    before = exported(started)
    with pytest.raises(UserError) as caught:
        Run(small_recipe(started, **changes))
    message = str(caught.value)
    assert str(started) in message and "\n" not in message
    assert all(key in message for key in changes)
    assert "training.steps" not in message
    assert exported(started) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"training.steps": 9},
        {"training.checkpoint_every": 2},
        {"training.keep_checkpoints": 5},
        {"training.sample_every": 3},
        {"training.trackers": ["tensorboard"]},
        {"sampling.steps": 3},
        {"sampling.guidance_scale": 4.0},
        {"optimizer.betas": [0.9, 0.95]},  # as it is
    ],
    ids=lambda changes: " ".join(changes),
)
def test_harmless_changes_are_accepted(started, changes):
    run = Run(small_recipe(started, **changes))
    assert run.step == 2
    assert advance(run, 1)[0].step == 3


def test_a_run_may_be_moved(started, tmp_path):
    shutil.move(started, tmp_path / "moved")
    assert Run(small_recipe(tmp_path / "moved")).step == 2


def test_a_finished_run_goes_on_to_more_steps(tmp_path):
    """With a constant learning rate, as if it had been asked for them at first."""
    constant: dict[str, Any] = {"schedule": "constant"}
    train(small_recipe(tmp_path / "run", training={"steps": 3}, optimizer=constant))
    train(small_recipe(tmp_path / "run", training={"steps": 6}, optimizer=constant))
    train(small_recipe(tmp_path / "straight", training={"steps": 6}, optimizer=constant))
    weights = "transformer/diffusion_pytorch_model.safetensors"
    longer, straight = (exported(tmp_path / name / "pipeline") for name in ("run", "straight"))
    assert longer[weights] == straight[weights]


def test_what_was_due_after_the_checkpoint_is_done_when_a_run_resumes(tmp_path, monkeypatch):
    """Killed between the checkpoint of step 4 and its samples: everything equals an uninterrupted run."""
    changes: dict[str, Any] = {
        "training": {"steps": 6, "checkpoint_every": 4, "sample_every": 4, "log_every": 5},
        "sampling": {"steps": 1},
    }
    train(small_recipe(tmp_path / "straight", **changes))

    class Killed(BaseException):
        """SIGKILL."""

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("acdit.training.loop._sample", killed)
        with pytest.raises(Killed):
            train(small_recipe(tmp_path / "cut", **changes))
    left = tmp_path / "cut" / "samples" / ".step-00000004.png.1-0.partial"
    own = [
        left.with_name(f".step-00000004.png.{2**31 - 1}-{files._host()}.partial"),
        tmp_path / "cut" / f".pipeline.{2**31 - 1}-{files._host()}.partial",
        tmp_path / "cut" / ".log.jsonl.123456789.partial",
    ]
    left.parent.mkdir()
    for file in (left, *own):
        file.write_text("half")
    train(small_recipe(tmp_path / "cut", **changes))
    assert left.exists() and not any(file.exists() for file in own)  # the first is of another machine
    left.unlink()
    names = [
        sorted(path.relative_to(tmp_path / run) for path in (tmp_path / run).rglob("*"))
        for run in ("cut", "straight")
    ]
    assert names[0] == names[1] and len([name for name in names[0] if name.suffix == ".png"]) == 1
    grids = [tmp_path / run / "samples" / "step-00000004.png" for run in ("cut", "straight")]
    assert grids[0].read_bytes() == grids[1].read_bytes()
    timed = {"seconds", "images_per_second", "flops_per_second", "matmul_share", "memory_bytes"}
    logs = [
        [{key: value for key, value in entry.items() if key not in timed} for entry in read_log(folder).steps]
        for folder in (tmp_path / "cut", tmp_path / "straight")
    ]
    assert logs[0] == logs[1] and [entry["step"] for entry in logs[0]] == [5, 6]
    grids[0].unlink()
    train(small_recipe(tmp_path / "cut", **changes))
    assert not grids[0].exists()  # of a step before the newest checkpoint: the user removed it
