"""The command line from words to files, in one process, on a tiny untrained model."""

import contextlib
import copy
import io
import json
import re

import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.diffusion.generate import Guidance, draw_noise, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.diffusion.timesteps import noise_levels
from acdit.model.layout import Layout
from acdit.pipelines.image import ACDiTImagePipeline
from tests.evaluation.stored import score, stored
from tests.permissions import as_nobody, protected_places
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A saved pipeline for 8x8 grey digits in 2x2 patches, ten classes, blocks of 2x2."""
    transformer = tiny_model(in_channels=4, axis_lengths=(4, 4), num_classes=10)
    names = dict(enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]))
    pipeline = ACDiTImagePipeline(
        transformer, default_sampler("flow"), None, (4, 4), (2, 2), (2, 2), names, num_inference_steps=3
    )
    folder = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(folder)
    return str(folder)


def test_sample_writes_a_row_per_label_and_says_what_it_took(model, tmp_path, capsys):
    out = tmp_path / "new" / "digits.png"
    words = ["sample", "--model", model, "--labels", "three,1", "--samples", "4", "--steps", "2"]
    assert main([*words, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == (4 * 68 + 4, 2 * 68 + 4)  # 8 pixels enlarged to 64, and gaps of 4
    said = capsys.readouterr().out
    assert "8 images" in said
    assert "8 network evaluations per image" in said  # 4 blocks x 2 steps
    cache = 2 * 2 * 3 * 4 * 32 * 4  # keys and values, layers, blocks but the last, tokens, hidden size, bytes
    assert f"cache {cache / 1024:.0f} KiB" in said
    assert re.search(r"in \d+\.\d s", said)


def test_a_model_without_classes_draws_as_many_as_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    transformer = tiny_model(in_channels=4, axis_lengths=(4, 4), num_classes=None)
    ACDiTImagePipeline(
        transformer, default_sampler("flow"), None, (4, 4), (2, 2), (2, 2), None, num_inference_steps=2
    ).save_pretrained("model")
    words = ["sample", "--model", "model", "--samples", "3", "--batch", "2"]
    assert main([*words, "--out", "digits.png"]) == 0
    with Image.open("digits.png") as picture:
        assert picture.size == (3 * 68 + 4, 68 + 4)
    assert "3 images" in capsys.readouterr().out
    assert main([*words, "--labels", "3", "--out", "no.png"]) == 2
    said = capsys.readouterr().err
    assert "the model is unconditional" in said and said.count("\n") == 1
    assert not (tmp_path / "no.png").exists()


def test_an_image_depends_on_its_own_seed_not_on_the_batch(model, tmp_path):
    words = ["sample", "--model", model, "--labels", "3", "--steps", "2", "--guidance", "2"]
    pictures = []
    for name, more in {
        "whole": ["--samples", "4"],
        "cut": ["--samples", "4", "--batch", "3"],
        "other": ["--samples", "4", "--seed", "1"],
    }.items():
        assert main([*words, *more, "--out", str(tmp_path / f"{name}.png")]) == 0
        with Image.open(tmp_path / f"{name}.png") as picture:
            pictures.append(torch.tensor(list(picture.convert("L").tobytes())).view(picture.height, -1))
    whole, cut, other = pictures
    assert (whole - cut).abs().max() <= 1  # rounding may differ with the batch
    assert torch.equal(whole[:, 68:], other[:, :-68])  # seed 1 begins with the second image of seed 0
    assert not torch.equal(whole, other)


def test_sample_is_the_loop_of_the_library(model, tmp_path):
    out = tmp_path / "one.png"
    words = ["sample", "--model", model, "--labels", "3", "--samples", "1", "--steps", "2", "--guidance", "3"]
    assert main([*words, "--block", "4x2", "--seed", "5", "--guidance-rising", "--out", str(out)]) == 0
    layout = Layout((4, 4), (4, 2), (2, 2))
    pipeline = ACDiTImagePipeline.from_pretrained(model)
    with torch.no_grad():
        blocks = generate(
            pipeline.transformer,
            layout,
            draw_noise([5], layout, 1),
            scheduler=pipeline.scheduler,
            steps=2,
            labels=torch.tensor([3]),
            guidance=Guidance(3.0, rising=True),
        )
        pixels = layout.from_blocks(torch.stack([block.sample for block in blocks], dim=1))[0, 0]
    expected = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()
    with Image.open(out) as picture:
        assert (picture.mode, picture.size) == ("L", (8, 8))  # a single image, neither enlarged nor framed
        found = torch.tensor(list(picture.tobytes())).view(8, 8)
    assert expected.std() > 10
    assert (found - expected).abs().max() <= 1


def test_fast_stands_for_steps_and_an_interval(model, tmp_path, capsys):
    pipeline = ACDiTImagePipeline.from_pretrained(model)
    solver = copy.deepcopy(pipeline.scheduler)
    solver.set_timesteps(8)
    levels = sorted(noise_levels(solver))
    assert pipeline.fast == {"num_inference_steps": 8, "guidance_interval": (levels[1], levels[5])}
    words = ["sample", "--model", model, "--labels", "3", "--samples", "1"]
    interval = f"{levels[1]!r},{levels[5]!r}"
    assert main([*words, "--fast", "--out", str(tmp_path / "fast.png")]) == 0
    slow = ["--steps", "8", "--guidance-interval", interval, "--out", str(tmp_path / "slow.png")]
    assert main([*words, *slow]) == 0
    assert "32 network evaluations" in capsys.readouterr().out
    assert (tmp_path / "fast.png").read_bytes() == (tmp_path / "slow.png").read_bytes()
    assert main([*words, "--steps", "8", "--out", str(tmp_path / "guided.png")]) == 0
    assert (tmp_path / "guided.png").read_bytes() != (tmp_path / "slow.png").read_bytes()


def test_prefix_blocks_are_kept(model, tmp_path):
    real = Image.fromarray(torch.arange(0, 256, 4, dtype=torch.uint8).view(8, 8).numpy())
    real.save(tmp_path / "real.png")
    words = ["sample", "--model", model, "--labels", "1", "--samples", "1", "--steps", "2"]
    words += ["--prefix", str(tmp_path / "real.png"), "--keep-blocks", "2"]
    assert main([*words, "--out", str(tmp_path / "done.png")]) == 0
    with Image.open(tmp_path / "done.png") as picture:
        done = torch.tensor(list(picture.tobytes())).view(8, 8)
    kept = torch.tensor(list(real.tobytes())).view(8, 8)
    assert (done[:4] - kept[:4]).abs().max() <= 1  # two blocks of 2x2 tokens are the upper half
    assert (done[4:] - kept[4:]).abs().max() > 20


def test_evaluate_scores_every_block_size(model, tmp_path, capsys):
    out, scored = tmp_path / "scores.json", tmp_path / "scored"
    pipeline = ACDiTImagePipeline.from_pretrained(model)
    pipeline.register_to_config(id2label={str(digit): str(digit) for digit in range(10)})
    pipeline.save_pretrained(scored)
    words = ["evaluate", "--model", str(scored), "--samples", "20", "--steps", "1", "--block", "4x4,2x2"]
    assert main([*words, "--out", str(out)]) == 0
    reports = stored(out)
    assert [row["settings"]["block"] for row in reports] == ["4x4", "2x2"]
    assert [row["settings"]["evaluations"] for row in reports] == [1, 4]
    assert reports[0]["settings"]["cache_bytes"] == 0
    for row in reports:
        accuracy = score(row, "label_accuracy")
        assert accuracy["samples"] == 20 and accuracy["real"] >= 0.95
        assert accuracy["value"] < 0.6  # the model is random
        assert score(row, "nearest_ratio", "pixels")["value"] > 0
    written = capsys.readouterr()
    assert len(written.out.splitlines()) == 6  # a heading, two rows, what the mark means, and two notes
    assert "20 samples (--count) are compared with 20 real items" in written.out
    assert "frechet_distance" in written.out and "features: digit-classifier" in written.out
    assert "--samples 20 is an old name: write --count 20" in written.err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_info_counts_the_bytes_of_a_precision(model, dtype, capsys):
    assert main(["info", model, "--json", "--dtype", dtype]) == 0
    facts = json.loads(capsys.readouterr().out)
    pipeline = ACDiTImagePipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    assert facts["cache_bytes_per_image"] == pipeline.transformer.new_cache(pipeline.layout, 1).nbytes
    stored = sum(weight.numel() * weight.element_size() for weight in pipeline.transformer.parameters())
    assert facts["weight_bytes"] == stored == facts["parameters"] * (4 if dtype == "float32" else 2)


def test_info_as_table_and_json(model, capsys):
    assert main(["info", model, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    pipeline = ACDiTImagePipeline.from_pretrained(model)
    assert facts["parameters"] == sum(weight.numel() for weight in pipeline.transformer.parameters())
    assert facts["sequence_length"] == 16
    assert facts["cache_bytes_per_image"] == pipeline.transformer.new_cache(pipeline.layout, 1).nbytes
    assert main(["info", model, "--block", "4x4"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"blocks +1$", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--labels", "12"], "--labels must be classes of the model, 0..9, or names such as"),
        (["sample", "--labels", "cat"], "'cat'"),
        (["sample", "--labels", "1,cat", "--count", "2", "--out", "set"], "--labels must be classes"),
        (["sample", "--block", "3x3"], "{1, 2, 4} x {1, 2, 4}"),
        (["sample", "--steps", "2,2"], "a list of 4"),
        (["sample", "--device", "abacus"], "abacus"),
        (["sample", "--device", "meta"], "its tensors hold no values"),
        (["sample", "--steps", "1000001"], "--steps must be at most 1,000,000, not 1000001"),
        (["sample", "--prefix", "no.png", "--keep-blocks", "1"], "no.png"),
        (["evaluate", "--block", "4x4,3x3"], "does not tile"),
        (["sample", "--fast", "--steps", "4"], "--fast sets --steps"),
        (["evaluate", "--fast", "--guidance-interval", "0.1,0.5"], "--fast sets --steps"),
        (["info", "--block", "5x5"], "does not tile"),
    ],
)
def test_bad_input_is_one_line(model, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    place = [model] if words[0] == "info" else ["--model", model]
    assert main([words[0], *place, *words[1:]]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_found_before_the_work(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("acdit.cli.open_model.load_pipeline", lambda *_: pytest.fail("work began"))
    (tmp_path / "file").touch()
    assert main(["sample", "--model", model, "--out", str(tmp_path / "file" / "a.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    locked = tmp_path / "locked.png"
    locked.mkdir()
    assert main(["sample", "--model", model, "--out", str(locked)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["sample", "--model", model, "--labels", "ten"]) == 2  # nor is the network read for a class
    assert "not 'ten'" in capsys.readouterr().err


def test_a_folder_without_permission():
    def run(path):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            return main(["sample", "--out", str(path)]), said.getvalue()

    with protected_places() as place:
        code, err = as_nobody(lambda: run(place / "folder" / "a.png"))
    assert code == 2 and "cannot be written" in err and err.count("\n") == 1


def test_each_rank_of_torchrun_has_its_own_gpu(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "99")
    words = ["sample", "--model", model, "--count", "1", "--device", "cuda"]
    assert main([*words, "--out", str(tmp_path / "a.npz")]) == 2
    assert "--device cuda:99 cannot be used" in capsys.readouterr().err


def test_a_folder_that_is_no_model(tmp_path, capsys):
    assert main(["sample", "--model", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert "model_index.json" in capsys.readouterr().err
