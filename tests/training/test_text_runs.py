"""Runs on texts: what they learn from, resumed, divided, validated, started from others, and exported."""

import shutil

import pytest
import torch

from acdit.data.tokenizers import train_tokenizer
from acdit.diffusion.masked import MaskedObjective
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.objective import SampleKey
from acdit.pipelines.loading import load_pipeline
from acdit.training.export import check_scheduler
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.training.validation import Validation
from acdit.utils.errors import UserError
from tests.training.small import advance, all_state, unequal
from tests.training.text_runs import numbered, recipe


@pytest.fixture
def text(tmp_path):
    return numbered(tmp_path)


def test_a_run_learns_and_what_it_exports_writes(tmp_path, text):
    made = recipe(tmp_path / "run", text, training__steps=40, training__sample_every=40)
    run = Run(made)
    losses = [result.loss for result in run.steps()]
    assert abs(sum(losses[:3]) / 3 - torch.tensor(257.0).log()) < 0.5  # of guesses among bytes and the end
    assert sum(losses[-5:]) / 5 < 0.8 * losses[0]
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    train(made)
    pipe = load_pipeline(tmp_path / "run")
    pipe.set_progress_bar_config(disable=True)
    assert (
        isinstance(pipe.scheduler, FirstHittingScheduler) and not pipe.transformer.config["time_conditioning"]
    )
    (written,) = pipe("12 is", max_new_tokens=8).texts
    assert written.startswith("12 is")
    samples = (tmp_path / "run" / "samples" / "step-00000040.txt").read_text()
    assert samples.count("-" * 80) == 2 * 3  # by averaged and by raw weights, three between four texts
    assert samples.startswith("averaged weights:\n\n") and "\n\nraw weights:\n\n" in samples


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layout__blocks": ["1", "8", "32"], "training__steps": 9},
        {"training__accumulation": 2},
        {"diffusion__draws": 2, "diffusion__views": 2},
        {"diffusion__masks": "independent"},
        {"diffusion__schedule": "cosine", "diffusion__times": (0.3, 0.8), "model__time_conditioning": True},
    ],
)
def test_stop_and_resume_equals_uninterrupted(tmp_path, text, changes):
    straight = Run(recipe(tmp_path / "straight", text, **changes))
    results = list(straight.steps())
    first = Run(recipe(tmp_path / "stopped", text, **changes))
    before = advance(first, 4)
    first.save()
    second = Run(recipe(tmp_path / "stopped", text, **changes))
    assert before + list(second.steps()) == results
    assert unequal(all_state(second), all_state(straight)) == []


@pytest.mark.parametrize("masks", ["counted", "independent"])
def test_parts_of_a_step_are_the_step(tmp_path, text, masks):
    """Numbers and times are spread over all samples of a step, however it is cut: the same gradient."""
    changes = {"diffusion__masks": masks}
    whole, cut = (Run(recipe(tmp_path / str(n), text, training__accumulation=n, **changes)) for n in (1, 4))
    (one,), (other,) = advance(whole, 1), advance(cut, 1)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_times_of_a_step_are_spread_over_its_samples(tmp_path, text, monkeypatch):
    seen: list[SampleKey] = []
    plain = MaskedObjective.loss

    def noting(self, *args, key, **named):
        seen.append(key)
        return plain(self, *args, key=key, **named)

    monkeypatch.setattr(MaskedObjective, "loss", noting)
    run = Run(recipe(tmp_path / "run", text, training__accumulation=2))
    advance(run, 2)
    assert [key.step for key in seen] == [0, 0, 1, 1]
    assert [list(key.positions or ()) for key in seen[:2]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert {key.batch for key in seen} == {8}


def test_validation_is_the_bound_of_texts_never_seen(tmp_path, text):
    other = tmp_path / "other.txt"
    other.write_text(("never seen " * 32)[:-1])  # with its end, 11 whole sequences
    made = recipe(tmp_path / "run", text, validation__source=str(other), validation__images=5)
    run = Run(made)
    validation = Validation(made, run.data.label_names, run.vae)
    rows = torch.tensor(list(("never seen " * 30).encode()))[:320].view(-1, 32).tolist()
    assert len(validation.data) == 5 and sum(row in rows for row in validation.data.tolist()) >= 4
    measured = validation.measure(run.learner, run.layouts[0], 2, run.ranks)
    assert abs(measured["loss"] - torch.tensor(257.0).log()) < 0.5
    assert len(measured["by_block"]) == 4


@pytest.mark.parametrize("masks", ["counted", "independent"])
def test_padding_is_neither_learned_nor_validated(tmp_path, masks):
    """Of a text of 40 bytes and its end in sequences of 32: against sums over what the network was asked."""
    path = tmp_path / "short.txt"
    path.write_text("forty letters are more than 32 of them..")
    made = recipe(
        tmp_path / "run", path, validation__source=str(path), validation__images=2, diffusion__masks=masks
    )
    run = Run(made)
    mask = run.data.values - 1
    rows = torch.stack([run.data[0, index]["data"] for index in (0, 1)])
    assert (
        (rows != mask).sum(1).tolist() == [32, 9] and rows[1, 8] == mask - 1 and (rows[1, 9:] == mask).all()
    )
    asked = []
    hook = run.learner.network.register_forward_hook(
        lambda network, given, named, answer: asked.append((*given, named["blocks"])), with_kwargs=True
    )
    layout = run.layouts[0]
    blocks = layout.to_blocks(rows)
    losses = run.objective.loss(
        run.learner.network, blocks, layout=layout, key=SampleKey(0, [0, 0], [0, 1]), draws=range(3)
    )

    def sums():
        """A fresh network predicts all 257 tokens alike: the loss of each row's tokens, over all views."""
        noised, times, views = asked[-1]
        counted = (noised == mask) & (blocks[:, list(views)] != mask)
        if times is None:  # each block's loss is the mean over its masked tokens, times its tokens
            real = (blocks[:, list(views)] != mask).sum(-1)
            assert ((counted.sum(-1) > 0) == (real > 0)).all()
            return real.sum(1) * torch.tensor(257.0).double().log()
        weights = (1000 / times.double())[..., None]
        return (weights * counted).sum((1, 2)) * torch.tensor(257.0).double().log()

    tokens = torch.tensor([32.0, 9.0]).double()
    assert torch.allclose(losses.per_sample.double(), sums() / (3 * tokens), rtol=1e-5)
    assert losses.mean.item() == pytest.approx(sums().sum().item() / (3 * 64), rel=1e-5)
    validation = Validation(made, run.data.label_names, run.vae)
    blocks = layout.to_blocks(validation.data)
    assert sorted((validation.data != mask).sum(1).tolist()) == [9, 32]
    measured = validation.measure(run.learner, layout, 2, run.ranks)
    assert measured["loss"] == pytest.approx(sums().sum().item() / 41, rel=1e-5)
    hook.remove()
    (result,) = advance(run, 1)
    assert result.loss > 0


def test_a_run_may_draw_a_single_time(tmp_path, text):
    times = {"diffusion__times": (1.0, 1.0), "diffusion__masks": "independent"}
    run = Run(recipe(tmp_path / "run", text, **times))
    (result,) = advance(run, 1)
    assert result.loss == pytest.approx(torch.tensor(257.0).log().item(), rel=1e-5)  # all tokens are masked


def test_a_scheduler_is_checked_against_the_network_that_a_run_starts_from(tmp_path, text):
    """Whatever the recipe says of time conditioning, which that network replaces."""
    for name, timed in (("timed", True), ("untimed", None)):
        train(recipe(tmp_path / name, text, model__time_conditioning=timed))
        other = {"training__init_from": str(tmp_path / name), "sampling__scheduler": "left"}
        for claimed in (None, True):
            second = recipe(tmp_path / f"{name}-{claimed}", text, model__time_conditioning=claimed, **other)
            assert check_scheduler(second) == "left"  # the network is not known yet
            if timed:
                with pytest.raises(UserError, match="is for networks without time conditioning"):
                    Run(second)
            else:
                pipe = Run(second).pipeline()
                assert pipe is not None and pipe.scheduler.config["positions"] == "left"


def test_a_run_starts_from_another(tmp_path, text):
    train(recipe(tmp_path / "first", text))
    second = Run(recipe(tmp_path / "second", text, training__init_from=str(tmp_path / "first")))
    trained = load_pipeline(tmp_path / "first").transformer.state_dict()
    assert all(
        torch.equal(tensor, trained[name]) for name, tensor in second.learner.network.state_dict().items()
    )
    train_tokenizer(["one two three"] * 9, 260).save(tmp_path / "bpe.json")
    other = {"training__init_from": str(tmp_path / "first"), "data__tokenizer": str(tmp_path / "bpe.json")}
    with pytest.raises(UserError, match=r"tokens of 258 values, .* recipe have 2\d\d: .*data\.tokenizer"):
        Run(recipe(tmp_path / "third", text, **other))
