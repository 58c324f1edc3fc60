"""Published checkpoints to pipeline directories and back, and every way in which they may not fit."""

import json
import resource
from pathlib import Path

import pytest
import torch

from acdit.cli.main import main
from acdit.diffusion.schedulers import default_sampler
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.published.convert import build_transformer, convert_checkpoint, publish
from acdit.published.format import read_checkpoint
from acdit.training.checkpoint import save_checkpoint
from acdit.utils.errors import UserError
from tests.checkpoints import GOLDEN, IMAGE, eightfold_autoencoder, raw, thousand_classes
from tests.pipelines.small import build, network, quiet, seeded, small_autoencoder


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "model"
    convert_checkpoint(IMAGE, folder)
    return folder


@pytest.mark.parametrize("name", ["img", "vid"])
def test_the_way_back_has_the_same_keys_shapes_values_and_arguments(name, tmp_path):
    source = GOLDEN / f"published-{name}.pt"
    convert_checkpoint(source, tmp_path / "model")
    publish(tmp_path / "model", tmp_path / "back.pt")
    before, after = raw(source), raw(tmp_path / "back.pt")
    assert set(before) == set(after) and [type(before[key]) for key in after] == [
        type(v) for v in after.values()
    ]
    assert vars(before["args"]) == vars(after["args"])
    assert {key: tensor.dtype for key, tensor in before["model"].items()} == {
        key: tensor.dtype for key, tensor in after["model"].items()
    }
    assert all(torch.equal(before["model"][key], after["model"][key]) for key in before["model"])
    assert all(torch.equal(after["model"][key], after["ema"][key]) for key in before["model"])


def test_the_average_comes_on_request_alone(converted, tmp_path):
    convert_checkpoint(IMAGE, tmp_path / "ema", ema=True)
    averaged = load_pipeline(tmp_path / "ema").transformer.state_dict()
    assert all((tensor == 0.5).all() for tensor in averaged.values())
    plain = load_pipeline(converted).transformer.state_dict()
    assert not any((tensor == 0.5).all() for tensor in plain.values())


def test_an_average_that_is_not_there(tmp_path):
    stored = raw(IMAGE)
    del stored["ema"]
    torch.save(stored, tmp_path / "plain.pt")
    with pytest.raises(UserError, match="leave out --ema"):
        convert_checkpoint(tmp_path / "plain.pt", tmp_path / "out", ema=True)
    assert not (tmp_path / "out").exists()


def test_of_a_run_the_last_weights_and_their_average_go_back(converted, tmp_path):
    pipeline = load_pipeline(converted)
    pipeline.save_pretrained(tmp_path / "pipeline")
    last = {key: tensor + 1 for key, tensor in pipeline.transformer.state_dict().items()}
    average = dict(pipeline.transformer.state_dict())
    tensors = {f"model.{name}": tensor for name, tensor in last.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in average.items()}
    save_checkpoint(tmp_path / "checkpoints", {"step": 7}, tensors, keep=1)
    publish(tmp_path, tmp_path / "back.pt")
    back = read_checkpoint(tmp_path / "back.pt")
    assert back.ema is not None
    assert all(torch.equal(back.model[key], last[key]) for key in last)
    assert all(torch.equal(back.ema[key], average[key]) for key in average)
    (file,) = (tmp_path / "checkpoints" / "step-00000007").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="is damaged"):
        publish(tmp_path, tmp_path / "again.pt")
    assert file.exists() and not (tmp_path / "again.pt").exists()  # a run may be at work in the folder


def test_the_published_code_knows_its_own_rotary_embedding_alone(tmp_path):
    build(network(12)).save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="rotary embedding eq4"):
        publish(tmp_path / "model", tmp_path / "back.pt")
    assert not (tmp_path / "back.pt").exists()


@pytest.mark.parametrize(
    ("config", "layout", "words"),
    [
        ({"num_classes": None}, {}, "no classes"),
        ({}, {"block": (1, 4)}, "cannot express"),
        ({"axis_lengths": (2, 4)}, {"grid": (2, 4)}, "cannot express"),
    ],
)
def test_what_the_published_code_cannot_express(config, layout, words, tmp_path):
    names = None if config else {0: "ant"}
    transformer = network(12, rope="published", **config)
    build(transformer, default_sampler("epsilon"), id2label=names, **layout).save_pretrained(
        tmp_path / "model"
    )
    with pytest.raises(UserError, match=words):
        publish(tmp_path / "model", tmp_path / "back.pt")


def test_the_published_code_predicts_the_noise_alone(tmp_path):
    """It would take a velocity for noise, and draw garbage without a word."""
    build(network(12, rope="published"), default_sampler("flow")).save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"predicts flow_prediction, but .* predict the noise"):
        publish(tmp_path / "model", tmp_path / "back.pt")


def test_an_uncommon_rotary_split_goes_there_and_back(tmp_path):
    model = network(12, rope="published", rope_split=(12, 4))
    build(model, default_sampler("epsilon")).save_pretrained(tmp_path / "model")
    publish(tmp_path / "model", tmp_path / "back.pt")
    back = read_checkpoint(tmp_path / "back.pt")
    assert back.arguments.nd_split == "3_1"
    assert build_transformer(back.arguments, back.model).config["rope_split"] == (12, 4)


def test_rotary_bases_of_another_grid_do_not_go_back(tmp_path):
    """The published code makes the bases for the grid that it is given."""
    build(network(12, rope="published"), grid=(8, 8)).save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="rotary embeddings for 4x4"):
        publish(tmp_path / "model", tmp_path / "back.pt")


def test_square_blocks_of_single_frames_go_there_and_back(tmp_path):
    stored = raw(GOLDEN / "published-vid.pt")
    stored["args"].block_size, stored["args"].ar_len, stored["args"].square_block = 1, 192, True
    torch.save(stored, tmp_path / "squares.pt")
    convert_checkpoint(tmp_path / "squares.pt", tmp_path / "model")
    publish(tmp_path / "model", tmp_path / "back.pt")
    assert vars(raw(tmp_path / "back.pt")["args"]) == vars(stored["args"])


def test_a_file_that_is_there_is_left_alone(converted, tmp_path):
    (tmp_path / "back.pt").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        publish(converted, tmp_path / "back.pt")
    assert (tmp_path / "back.pt").read_text() == "mine"


@pytest.mark.parametrize("exists", [False, True])
def test_the_name_of_the_folder_may_have_a_dot(exists, tmp_path, capsys):
    out = tmp_path / "xl-v1.5"
    if exists:
        out.mkdir()
    assert main(["convert", str(IMAGE), "--out", str(out)]) == 0
    assert (out / "model_index.json").exists()
    assert main(["convert", str(out), "--to-published", "--out", str(tmp_path / "back.pt")]) == 0
    (tmp_path / "folder.pt").mkdir()
    assert main(["convert", str(out), "--to-published", "--out", str(tmp_path / "folder.pt")]) == 2
    assert "it is a folder" in capsys.readouterr().err and not list((tmp_path / "folder.pt").iterdir())


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_a_disk_that_refuses_is_one_line_and_leaves_nothing(converted, tmp_path, capsys, back):
    words = [str(converted), "--to-published"] if back else [str(IMAGE)]
    out = tmp_path / ("back.pt" if back else "model")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        assert main(["convert", *words, "--out", str(out)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "File too large" in error
    assert not list(tmp_path.iterdir())


def test_wrong_tensors_are_named_the_first_ten(tmp_path):
    stored = read_checkpoint(IMAGE)
    weights = dict(stored.model)
    del weights["blocks.1.attn.proj.bias"]
    weights["stranger"] = torch.zeros(2)
    weights["blocks.0.mlp.fc2.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        build_transformer(stored.arguments, weights)
    said = str(caught.value)
    assert "blocks.1.attn.proj.bias is missing" in said and "stranger is unexpected" in said
    assert "blocks.0.mlp.fc2.bias is 3, not 128" in said and "more" not in said
    many = weights | {f"stranger.{index}": torch.zeros(1) for index in range(20)}
    with pytest.raises(UserError, match="and 13 more"):
        build_transformer(stored.arguments, many)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("x_embedder.weight", None, "x_embedder.weight is missing"),
        ("x_embedder.weight", torch.zeros(128), "not a 2-D tensor"),
        ("x_embedder.weight", torch.zeros(128, 5), "5 values per token"),
        ("blocks.0.attn.q_norm.weight", torch.zeros(48), "heads of 48"),
        ("blocks.0.attn.q_norm.weight", torch.zeros(0), "heads of 0"),
        ("blocks.987654321.norm1.weight", torch.zeros(128), "987654321.norm1.weight is unexpected"),
    ],
)
def test_sizes_that_make_no_network(name, tensor, words):
    stored = read_checkpoint(IMAGE)
    weights = {key: value for key, value in stored.model.items() if key != name}
    with pytest.raises(UserError, match=words):
        build_transformer(stored.arguments, weights | ({} if tensor is None else {name: tensor}))


def test_a_thousand_classes_have_imagenets_names(tmp_path):
    thousand_classes(tmp_path / "many.pt")
    convert_checkpoint(tmp_path / "many.pt", tmp_path / "model")
    pipeline = load_pipeline(tmp_path / "model")
    assert len(set(pipeline.label_names.values())) == 1000
    assert pipeline.label_ids(["golden retriever", "tench"]) == [207, 0]


def test_with_an_autoencoder_it_draws_pictures_of_any_size_that_fits(tmp_path):
    vae = eightfold_autoencoder(tmp_path / "vae")
    convert_checkpoint(IMAGE, tmp_path / "model", vae=vae)
    pipeline = quiet(load_pipeline(tmp_path / "model"))
    assert pipeline.vae.config["scaling_factor"] == 0.18215
    made = pipeline([1], num_inference_steps=2, generator=seeded(0)).images[0]
    assert made.size == (64, 64)
    wide = pipeline([1], num_inference_steps=2, height=32, width=96, generator=seeded(0)).images[0]
    assert wide.size == (96, 32)
    words = ["sample", "--model", str(tmp_path / "model"), "--labels", "1", "--samples", "1", "--steps", "1"]
    assert main([*words, "--vae-tiling", "--vae-slicing", "--out", str(tmp_path / "a.png")]) == 0


def test_without_its_autoencoder_a_model_draws_latents_alone(converted, tmp_path, capsys):
    pipeline = quiet(load_pipeline(converted))
    assert pipeline.vae_scale_factor == 8
    made = pipeline([1], num_inference_steps=2, generator=seeded(0), output_type="latent").images
    assert made.shape == (1, 4, 8, 8)
    assert main(["sample", "--model", str(converted), "--out", str(tmp_path / "a.png")]) == 2
    assert "without its autoencoder" in capsys.readouterr().err
    vae = small_autoencoder()
    with pytest.raises(UserError, match="scale factor of 2, the network needs 4 and 8"):
        ACDiTImagePipeline.from_pretrained(converted, vae=vae)
    words = ["sample", "--model", str(converted), "--vae-tiling", "--out", str(tmp_path / "a.png")]
    assert main(words) == 2 and "models with an autoencoder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["img", "vid"])
def test_an_autoencoder_of_other_channels_does_not_fit(tmp_path, name):
    vae = eightfold_autoencoder(tmp_path / "vae", latent_channels=3)
    with pytest.raises(UserError, match="has 3 latent channels"):
        convert_checkpoint(GOLDEN / f"published-{name}.pt", tmp_path / "model", vae=vae)
    assert not (tmp_path / "model").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an empty folder"):
        convert_checkpoint(IMAGE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_the_command_converts_both_ways(tmp_path, capsys):
    model, back = tmp_path / "model", tmp_path / "back.pt"
    assert main(["convert", str(GOLDEN / "published-vid.pt"), "--out", str(model)]) == 0
    described = json.loads((model / "layout.json").read_text())
    assert described["grid"] == [48, 2, 2] and described["block"] == [12, 2, 2]
    assert main(["convert", str(model), "--to-published", "--out", str(back)]) == 0
    assert back.exists() and "converted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "convert needs a source"),
        (["none.pt", "--out", "x"], "not a file"),
        ([str(IMAGE), "--out", "x", "--to-published"], "--out must be a .pt file"),
        (["m", "--out", "x.pt", "--to-published", "--ema"], "cannot be combined with --ema or --vae"),
        ([str(IMAGE), "--out", "x", "--vae", "./none"], "autoencoder ./none cannot be loaded"),
        (["pyproject.toml", "--out", "x"], "refused"),
        (["tests", "--out", "x.pt", "--to-published"], "tests is not a model"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_writes_nothing(words, said, tmp_path, capsys, monkeypatch):
    root = Path(__file__).parents[2]
    words = [str(root / word) if (root / word).exists() and word else word for word in words]
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
