"""Runs on texts: what they learn from, resumed, divided, validated, exported, planned, and refused."""

import hashlib
import json
import shutil
from typing import Any

import pytest
import torch

from acdit.data.tokenizers import END, ByteTokenizer, train_tokenizer
from acdit.diffusion.masked import MaskedObjective
from acdit.diffusion.masked_schedulers import AncestralScheduler, FirstHittingScheduler
from acdit.diffusion.objective import SampleKey
from acdit.model.flops import Dimensions, parameters
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.loading import load_pipeline
from acdit.training.build import build_model
from acdit.training.config import Recipe
from acdit.training.export import build_pipeline, check_scheduler
from acdit.training.loop import train
from acdit.training.objectives import build_objective
from acdit.training.plan import make_plan
from acdit.training.recipes import load_recipe, recipe_values
from acdit.training.run import Run
from acdit.training.validation import Validation
from acdit.utils.errors import UserError
from acdit.utils.settings import build
from tests.training.small import advance, all_state, unequal

BYTES = ByteTokenizer()
SMALL = {
    "model.num_layers": 1,
    "model.hidden_size": 16,
    "model.num_heads": 1,
    "data.tokens": 32,
    "layout.blocks": ["8"],
    "training.steps": 6,
    "training.batch_size": 8,
    "training.precision": "no",
    "training.log_every": 1,
    "validation.every": 0,
    "optimizer.learning_rate": 1e-2,
}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{number} is the number {number}. " for number in range(200)))
    return path


def recipe(out, source, **changes: Any):
    names = {key.replace("__", "."): value for key, value in changes.items()}
    own = {"name": "texts", "data.source": str(source), "out": str(out)}
    return load_recipe("laptop-text", **(SMALL | own | names))


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


def test_held_out_works_validate_shakespeare():
    made = load_recipe("laptop-text", **{"validation.images": 3})
    validation = Validation(made, (), None)
    assert validation.data.shape == (3, 256) and validation.data.dtype == torch.int64


def test_time_conditioning_is_a_choice(tmp_path, text):
    run = Run(recipe(tmp_path / "run", text, model__time_conditioning=True, diffusion__schedule="cosine"))
    assert run.network_config["time_conditioning"]
    pipe = run.pipeline()
    assert (
        pipe is not None
        and isinstance(pipe.scheduler, AncestralScheduler)
        and pipe.scheduler.config["schedule"] == "cosine"
    )


def test_schedulers_in_order_are_for_networks_without_times(tmp_path, text):
    """Which is found before anything is trained."""
    for name in ("first-hitting", "left", "right", "lowest-entropy"):
        assert check_scheduler(recipe(tmp_path / "run", text, sampling__scheduler=name)) == name
        timed = recipe(tmp_path / "run", text, sampling__scheduler=name, model__time_conditioning=True)
        with pytest.raises(UserError, match="is for networks without time conditioning"):
            check_scheduler(timed)
    pipe = Run(recipe(tmp_path / "run", text, sampling__scheduler="right")).pipeline()
    assert pipe is not None and pipe.scheduler.config["positions"] == "right"


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


def test_the_paper_s_text_run():
    made = load_recipe("openwebtext-b")
    assert made.data.tokens == 1024 and made.data.tokenizer == "gpt2" and made.model.size == "B"
    assert (made.data.split, made.validation.split) == ("train[:-100000]", "train[-100000:]")
    assert made.diffusion.schedule == "log_linear" and made.diffusion.times == (1e-3, 1.0)
    assert made.diffusion.masks == "independent"
    assert made.model.time_conditioning is None


@pytest.mark.parametrize("timed", [False, True])
def test_a_plan_counts_the_network_of_texts(tmp_path, timed):
    values = recipe_values("openwebtext-b") | {"model.num_layers": 2, "model.time_conditioning": timed}
    made = make_plan(build(Recipe, values | {"out": str(tmp_path)}))
    with torch.device("meta"):
        network = ACDiTTransformer(
            None, (1024,), 2, 768, 12, vocab_size=50_258, num_classes=None, time_conditioning=timed
        )
    assert made.parameters == network.num_parameters() == parameters(Dimensions.of(network.config))
    assert made.problems == [] and [cost.blocks for cost in made.layouts] == [128]
    assert any("50,258" in text and "gpt2 is not loaded" in text for text in made.assumed)


def test_a_plan_knows_local_texts(tmp_path, text):
    values = recipe_values("laptop-text") | {"data.source": str(text), "out": str(tmp_path / "run")}
    made = make_plan(build(Recipe, values))
    run = Run(load_recipe("laptop-text", **{"data.source": str(text), "out": str(tmp_path / "run")}))
    assert made.parameters == run.learner.network.num_parameters() and made.problems == []
    found = {check.subject: check.found for check in made.checks}
    assert found["data"] == f"{text} is a file; it is not read" and "validation" not in found


def test_validation_without_texts_is_refused_before_anything_is_read(tmp_path):
    own = {"data.source": str(tmp_path / "none.txt"), "out": str(tmp_path / "run"), "validation.every": 5}
    with pytest.raises(UserError, match=r"part: set validation\.source, or set validation\.every to 0"):
        train(load_recipe("laptop-text", **own))
    made = make_plan(build(Recipe, recipe_values("laptop-text") | own))
    assert "validation" in {check.subject for check in made.problems}
    whole = make_plan(build(Recipe, recipe_values("laptop-text") | {"validation.every": 5}))
    assert {check.subject: check.found for check in whole.checks}[
        "validation"
    ] == "the held-out part of shakespeare"


def test_a_run_keeps_to_its_tokeniser(tmp_path, text):
    """A file that was written anew has the same name and as many ids, and other words."""
    file, words = tmp_path / "bpe.json", ("one two three ", "four five six ")
    train_tokenizer([words[0] * 9], 260).save(file)
    own = {"data__tokenizer": str(file), "training__steps": 2}
    train(recipe(tmp_path / "run", text, **own))
    train(recipe(tmp_path / "run", text, **(own | {"training__steps": 3})))
    train_tokenizer([words[1] * 9], 260).save(file)
    with pytest.raises(UserError, match="not the one that this run was trained with"):
        train(recipe(tmp_path / "run", text, **(own | {"training__steps": 4})))
    start = {"training__init_from": str(tmp_path / "run")}
    with pytest.raises(UserError, match=r"another tokenizer: set .* to .*pipeline/tokenizer\.json"):
        Run(recipe(tmp_path / "second", text, **(own | start)))
    kept = str(tmp_path / "run" / "pipeline" / "tokenizer.json")
    Run(recipe(tmp_path / "third", text, **(own | start | {"data__tokenizer": kept})))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout__blocks": ["4x4"]}, "layout.blocks of texts"),
        ({"layout__blocks": ["7"]}, "7"),
        ({"data__frames": 4}, "data.frames"),
        ({"diffusion__context_noise": 0.1}, "diffusion.context_noise"),
        ({"diffusion__min_snr": 5.0}, "diffusion.min_snr"),
        ({"diffusion__times": (0.5, 0.4)}, "diffusion.times"),
        ({"diffusion__times": (float("nan"), 1.0)}, "diffusion.times"),
        (
            {"diffusion__times": (1.0, 1.0), "diffusion__schedule": "cosine"},
            "diffusion.times must begin below 1",
        ),
        ({"diffusion__times": (0.0, 1.0)}, "diffusion.times"),
        ({"diffusion__times": (0.3, 0.8)}, "diffusion.times has no meaning for counted masks"),
        ({"diffusion__schedule": "cosine"}, "diffusion.schedule has no meaning for counted masks"),
        ({"diffusion__masks": "even"}, "diffusion.masks must be one of"),
        (
            {"diffusion__masks": "counted", "model__time_conditioning": True},
            "diffusion.masks counted draws no times",
        ),
        ({"data__tokens": 1}, "data.tokens"),
        ({"data__tokenizer": "no-such-file.json"}, "tokenizer"),
        ({"data__source": "/no/such/text"}, "data.source"),
        ({"autoencoder__model": "vae"}, "autoencoder.model"),
    ],
)
def test_what_texts_cannot_be(tmp_path, text, changes, said, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        Run(recipe(tmp_path / "run", text, **changes))


def test_objective_and_pipeline_of_a_recipe(tmp_path, text):
    independent = {"diffusion__masks": "independent", "diffusion__times": (0.3, 0.8)}
    made = recipe(tmp_path / "run", text, sampling__steps=3, **independent)
    run = Run(made)
    objective, plain = (build_objective(made, run.data, False, plain=plain) for plain in (False, True))
    assert isinstance(objective, MaskedObjective) and isinstance(plain, MaskedObjective)
    assert (objective.masks, objective.times) == ("independent", (0.3, 0.8))
    assert (plain.masks, plain.times) == ("counted", (1e-3, 1.0))  # so that runs can be compared
    network = build_model(made, run.layouts[0], run.data)
    pipe = build_pipeline(made, network, run.layouts[0], run.data, None)
    assert pipe.config["num_inference_steps"] == 3 and pipe.tokenizer.vocab_size == BYTES.vocab_size


def as_by_an_earlier_version(folder):
    """Remove what only newer versions write from the newest checkpoint of a run."""
    path = sorted((folder / "checkpoints").iterdir())[-1] / "state.json"
    state = json.loads(path.read_text())
    state.pop("digest")
    del state["recipe"]["data"]["special_tokens"], state["recipe"]["diffusion"]["masks"], state["data"]
    digest = hashlib.blake2b(json.dumps(state, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(state | {"digest": digest}))


def test_special_tokens_of_an_earlier_run_are_not_read_otherwise_in_silence(tmp_path):
    (tmp_path / "a.txt").write_text(f"one two three{END}one two " * 40)
    train_tokenizer(["one two three"] * 4, 280).save(tmp_path / "bpe.json")

    def made(name, source="a.txt", **changes):
        return recipe(tmp_path / name, tmp_path / source, diffusion__masks="independent", **changes)

    tokenizer = {"data__tokenizer": str(tmp_path / "bpe.json")}
    straight = Run(made("straight", data__special_tokens=True, **tokenizer))
    results = list(straight.steps())
    first = Run(made("run", data__special_tokens=True, **tokenizer))
    before = advance(first, 4)
    first.save()
    as_by_an_earlier_version(tmp_path / "run")
    with pytest.raises(UserError, match=r"spelled in 1 of them; continue with --data\.special_tokens true"):
        Run(made("run", **tokenizer))
    again = Run(made("run", data__special_tokens=True, **tokenizer))
    assert before + list(again.steps()) == results
    assert unequal(all_state(again), all_state(straight)) == []

    (tmp_path / "b.jsonl").write_text('{"text": "one two three"}\n' * 40)
    (tmp_path / "c.txt").write_text("one two three " * 40, encoding="utf-8-sig")
    for source in ("b.jsonl", "c.txt"):
        run = Run(made(source + ".run", source))
        advance(run, 1)
        run.save()
        Run(made(source + ".run", source))
        as_by_an_earlier_version(tmp_path / (source + ".run"))
        with pytest.raises(UserError, match=rf"{source} was read with its markup or signature"):
            Run(made(source + ".run", source))
