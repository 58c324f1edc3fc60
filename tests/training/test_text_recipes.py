"""Recipes of runs on texts: validation, networks, plans, tokenisers, and what is refused."""

import hashlib
import json

import pytest
import torch

from acdit.data.tokenizers import END, train_tokenizer
from acdit.diffusion.masked import MaskedObjective
from acdit.diffusion.masked_schedulers import AncestralScheduler
from acdit.model.flops import Dimensions, parameters
from acdit.model.transformer import ACDiTTransformer
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
from tests.training.text_runs import BYTES, numbered, recipe


@pytest.fixture
def text(tmp_path):
    return numbered(tmp_path)


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
