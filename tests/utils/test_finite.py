"""Finite tensors are told from others, and nothing that is not finite is trained on, written, or shown."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from acdit.cli.main import main
from acdit.data.autoencoders import decode, encode, load_autoencoder
from acdit.diffusion.generate import Guidance, steps_per_block
from acdit.diffusion.objective import SampleKey
from acdit.diffusion.text_likelihood import text_nelbo
from acdit.media.videos import video_file
from acdit.model.layout import Layout
from acdit.pipelines.loading import load_pipeline
from acdit.training.autoencoder import train_autoencoder
from acdit.training.checkpoint import newest_checkpoint
from acdit.training.learner import Learner
from acdit.training.loop import train
from acdit.utils.errors import UserError
from acdit.utils.finite import check_finite, is_finite, nonfinite
from tests.tiny import tiny_model
from tests.training.small import small_recipe
from tests.training.test_autoencoder import CPU, recipe_of


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_of_many_is_found(dtype, value):
    tensor = torch.full((3, 257), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(tensor) and is_finite(-tensor)
    tensor[1, 130] = value
    assert not is_finite(tensor)


def test_tensors_without_such_values_are_finite():
    tensors = {
        "empty": torch.empty(0),
        "ids": torch.tensor([2**40]),
        "meta": torch.empty(3, device="meta"),
        "packed": torch.tensor([1.0]).to(torch.float8_e4m3fn),
    }
    assert nonfinite(tensors) == []
    with pytest.raises(
        UserError, match=r"^the weights are not finite .* in 1 of 5 tensors, such as bad: rest$"
    ):
        check_finite(tensors | {"bad": torch.tensor([math.nan])}, "the weights", "rest")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two steps."""
    folder = tmp_path_factory.mktemp("finite") / "run"
    train(small_recipe(folder, training={"steps": 2}, sampling={"steps": 2}))
    return folder


@pytest.fixture
def damaged(run, tmp_path):
    """Its pipeline with one weight that is not a number."""
    pipeline = load_pipeline(run)
    file = tmp_path / "damaged" / "transformer" / "diffusion_pytorch_model.safetensors"
    pipeline.save_pretrained(tmp_path / "damaged")
    weights = load_file(file)
    weights["final_layer.linear.weight"][0, 0] = math.nan
    save_file(weights, file, metadata={"format": "pt"})
    return tmp_path / "damaged"


def test_a_model_whose_weights_are_not_finite_is_not_loaded(damaged, tmp_path, capsys):
    for argv in (
        ["sample", "--out", str(tmp_path / "a.png")],
        ["sample", "--count", "2", "--out", str(tmp_path / "a.npz")],
        ["evaluate", "--out", str(tmp_path / "a.json")],
        ["convert", str(damaged), "--to-published", "--out", str(tmp_path / "a.pt")],
    ):
        options = [] if argv[0] == "convert" else ["--model", str(damaged)]
        assert main([argv[0], *argv[1:], *options]) == 2
        said = capsys.readouterr().err
        assert "not finite" in said and "final_layer.linear.weight" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_pipeline_whose_weights_are_not_finite_is_not_saved_and_draws_nothing(run, tmp_path):
    pipeline: Any = load_pipeline(run)
    with torch.no_grad():
        pipeline.transformer.final_layer.linear.weight[0, 0] = math.inf
    with pytest.raises(UserError, match=r"final_layer.linear.weight"):
        pipeline.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    with pytest.raises(UserError, match=r"not finite .* from block 0 on"):
        pipeline([1], num_inference_steps=1)
    pipeline = load_pipeline(run)
    with pytest.raises(UserError, match=r"not finite .* from block 0 on"):
        pipeline([1], num_inference_steps=1, latents=torch.full((1, 1, 8, 8), math.nan))


def test_numbers_of_calls_must_be_finite():
    for scale in (math.nan, math.inf):
        with pytest.raises(UserError, match="guidance_scale must be a finite number"):
            Guidance(scale)
    for interval in ((math.nan, 1.0), (0.0, math.nan), (0.0, math.inf), (-math.inf, 1.0)):
        with pytest.raises(UserError, match="guidance_interval"):
            Guidance(1.5, interval=interval)
    for steps in (math.nan, math.inf, 2.5, [2, 2.5]):
        with pytest.raises(UserError, match="steps must be"):
            steps_per_block(steps, 2)  # pyright: ignore[reportArgumentType]
    rates: list[Any] = [math.nan, math.inf, 0]
    for rate in rates:
        with pytest.raises(UserError, match="rate must be"), video_file(Path("a.gif"), rate):
            pass


def test_likelihoods_that_are_not_finite_are_no_scores():
    model = tiny_model(
        in_channels=None, vocab_size=5, axis_lengths=(4,), num_classes=None, time_conditioning=False
    )
    arguments: Any = {"key": SampleKey(0, [0], [0]), "draws": 2}
    tokens = torch.zeros(1, 4).long()
    cases = [(torch.tensor([length]), Layout((4,), (block,))) for length, block in ((4, 1), (4, 4), (3, 4))]
    for lengths, layout in cases:
        assert text_nelbo(model, tokens, lengths, layout, **arguments).values.isfinite().all()
    with torch.no_grad():
        model.get_parameter("blocks.0.mlp.fc1.weight")[0, 0] = math.nan
    for lengths, layout in cases:
        with pytest.raises(UserError, match="likelihoods are not finite"):
            text_nelbo(model, tokens, lengths, layout, **arguments)


def test_a_state_that_is_not_finite_is_neither_saved_nor_exported(tmp_path, monkeypatch):
    update = Learner.update

    def broken(learner, rate):
        update(learner, rate)
        if learner.ema.optimization_step == 3:
            with torch.no_grad():
                learner.parameters[0].fill_(math.inf)

    recipe = small_recipe(tmp_path / "run", training={"steps": 3, "checkpoint_every": 2})
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "update", broken)
        with pytest.raises(UserError, match=r"^after step 3 .* not finite .* lower optimizer.l") as caught:
            train(recipe)
    assert "\n" not in str(caught.value) and not (tmp_path / "run" / "pipeline").exists()
    stored = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert stored is not None and stored.step == 2
    train(recipe)
    assert nonfinite(load_pipeline(tmp_path / "run").transformer.state_dict()) == []


def test_an_autoencoder_that_is_not_finite_is_not_written(tmp_path, capsys):
    recipe = recipe_of(tmp_path / "run", learning_rate=1e9, steps=4)
    with pytest.raises(UserError, match=r"not finite.*a lower learning_rate"):
        train_autoencoder(recipe, CPU)
    assert not (tmp_path / "run" / "vae").exists()


def test_an_autoencoder_skips_poisoned_steps_and_halts_after_ten(tmp_path, monkeypatch, capsys):
    module = "acdit.training.autoencoder"
    measure, calls = torch.nn.functional.mse_loss, []

    def poisoned(decoded, pixels):
        calls.append(1)
        return measure(decoded, pixels) * (math.nan if len(calls) > 1 else 1)

    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.F.mse_loss", poisoned)
        with pytest.raises(UserError, match="not finite in 10 steps in a row, the last of them step 11"):
            train_autoencoder(recipe_of(tmp_path / "run", steps=14, checkpoint_every=20), CPU)
    assert capsys.readouterr().err.count("was skipped: loss nan") == 10
    stored = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert stored is not None
    assert stored.state["progress"] == {"step": 11, "skipped": 10, "skipped_in_a_row": 10}
    vae = load_autoencoder(train_autoencoder(recipe_of(tmp_path / "run", steps=14, checkpoint_every=20), CPU))
    pixels = torch.zeros(1, 1, 8, 8)
    assert is_finite(encode(vae, pixels)[0])
    with pytest.raises(UserError, match="autoencoder gives latents that are not finite in float32"):
        encode(vae, pixels + math.nan)
    with pytest.raises(UserError, match="autoencoder gives pixels that are not finite"):
        decode(vae, torch.full((1, 2, 4, 4), math.inf))
