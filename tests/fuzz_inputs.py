"""Small files and folders of every kind that is read, the commands that read them, and random damage."""

import csv
import json
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from acdit.cli.main import main
from acdit.data.tokenizers import END, train_tokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.generation.batches import Sampling
from acdit.generation.sample_sets import SampleSet, SetPlan
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.pipelines.video import ACDiTVideoPipeline
from acdit.training.loop import train
from acdit.training.recipes import load_recipe, recipe_to_yaml
from tests.checkpoints import GOLDEN, raw
from tests.data.clip_files import write
from tests.evaluation.test_clip_comparison import Levels
from tests.pipelines.small import NAMES, build, build_classifier, network, small_autoencoder
from tests.pipelines.test_video import build as build_clips
from tests.tiny import tiny_model
from tests.training.small import small_recipe
from tests.training.test_autoencoder import recipe_of as autoencoder_recipe


class Reading(NamedTuple):
    """Command that reads a file or folder, of which a copy is damaged."""

    damaged: str
    words: list[str]
    more: tuple[str, ...] = ()
    """Files and folders that the command reads too; they stay whole."""
    grows: tuple[str, ...] = ()
    """Folders that the command adds files to, so that a refusal may leave some."""
    out: str | None = None
    """File or folder that the command writes: whole if it succeeds, absent if it is refused."""


def sampling(model: str, out: str, *more: str) -> Reading:
    """`acdit sample` with a damaged model."""
    return Reading(model, ["sample", "--model", model, "--samples", "1", *more, "--out", out], out=out)


def latents(damaged: str, *words: str, recipe: str = "latent.yaml") -> Reading:
    """A command that needs pictures, latents and an autoencoder, of which one is damaged."""
    more = tuple({"pictures", "rows", "vae", "latents", recipe} - {damaged})
    return Reading(damaged, [words[0], recipe, *words[1:]], more, ("latents", "latent-run", "rows-latents"))


TWO_STEPS = ("--steps", "2")
SET = ["sample", "--model", "image", "--count", "5", "--batch", "2", *TWO_STEPS, "--out"]
JUDGE = ["evaluate", "--model", "text", "--data", "texts/rows.jsonl", "--judge", "judge", "--texts", "1"]
CLIPS = ["evaluate", "--model", "clips", "--data", "videos", "--features", "levels.pt", "--trust-features"]
READINGS: dict[str, list[Reading]] = {
    "model of images": [sampling("image", "out.png", *TWO_STEPS), Reading("image", ["info", "image"])],
    "model with an autoencoder": [sampling("latent", "out.png", *TWO_STEPS)],
    "model of video": [sampling("video", "out.gif", *TWO_STEPS)],
    "model of text": [sampling("text", "out.txt")],
    "classifier": [
        Reading(name, ["classify", "ant.png", "--model", name, "--json"], ("ant.png",))
        for name in ("classifier", "noised")
    ]
    + [Reading("classifier", ["info", "classifier"])],
    "pictures to recognise": [
        Reading("pictures", ["classify", "pictures", "--model", "classifier"], ("classifier",))
    ],
    "latents": [
        latents("latents", "train"),
        latents("latents", "plan"),
        latents("latents", "encode"),
        latents("latents", "encode", "--verify"),
    ],
    "autoencoder": [latents("vae", "encode"), latents("vae", "train"), latents("vae", "plan")],
    "pictures": [latents("pictures", "encode"), latents("pictures", "train")],
    "pictures with metadata": [
        latents("rows", "encode", "--data.source", f"rows/{kind}", "--autoencoder.latents", "rows-latents")
        for kind in ("jsonl", "csv")
    ],
    "picture to continue": [
        Reading(
            "ant.png",
            ["sample", "--model", "image", "--prefix", "ant.png", "--keep-blocks", "1", "--out", "out.png"],
            ("image",),
            out="out.png",
        )
    ],
    "parts of a set": [Reading("set.npz.parts", [*SET, "set.npz"], ("image",), ("set.npz.parts", "set.npz"))],
    "finished set": [
        Reading("whole.npz", [*SET, "whole.npz"], ("image",)),
        Reading("folder", [*SET, "folder"], ("image",)),
    ],
    "run": [
        Reading("run", ["curves", "run", "--out", "out.png"], out="out.png"),
        Reading("run", ["train", "run.yaml"], ("run.yaml",), ("run",)),
    ],
    "run of an autoencoder": [
        Reading("vae-run", ["autoencoder", "vae.yaml"], ("vae.yaml",), ("vae-run",)),
    ],
    "recipe": [
        Reading("run.yaml", ["plan", "run.yaml"]),
        Reading("latent.yaml", ["encode", "latent.yaml", "--print_config"]),
        Reading("vae.yaml", ["autoencoder", "vae.yaml", "--print_config"]),
    ],
    "published checkpoint": [
        Reading(f"{kind}.pt", ["convert", f"{kind}.pt", "--out", "out"], out="out") for kind in ("img", "vid")
    ],
    "converted model": [
        Reading(name, ["convert", name, "--to-published", "--out", "out.pt"], out="out.pt")
        for name in ("img", "vid")
    ],
    "tokenizer": [
        Reading(name, ["plan", "laptop-text", "--data.tokenizer", name])
        for name in ("words.json", "tokenizer")
    ],
    "texts": [
        Reading("texts", ["tokenizer", f"texts/{name}", "--size", "260", "--out", "out.json"], out="out.json")
        for name in ("rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.parquet", "plain.txt")
    ],
    "language model": [Reading("judge", [*JUDGE, "--out", "out.json"], ("text", "texts"), out="out.json")],
    "network of features": [
        Reading("levels.pt", [*CLIPS, "--out", "out.json"], ("clips", "videos"), out="out.json")
    ],
    "videos": [Reading("videos", [*CLIPS, "--out", "out.json"], ("clips", "levels.pt"), out="out.json")],
}


def write_inputs() -> None:
    """Write what `READINGS` name into the working directory; the recipes hold relative paths."""
    _write_models()
    _write_data()
    _write_latents()
    _write_runs()
    _write_sets()
    for kind in ("img", "vid"):
        shutil.copy(GOLDEN / f"published-{kind}.pt", f"{kind}.pt")
        assert main(["convert", f"{kind}.pt", "--out", kind]) == 0


def _write_models() -> None:
    build(network(4)).save_pretrained("image")
    build(network(16), vae=small_autoencoder(), grid=(2, 2), block=(1, 1)).save_pretrained("latent")
    build_classifier(layers=(1, 2), pooling=("attention", "mean"), queries=2).save_pretrained("classifier")
    build_classifier(timestep=200.0).save_pretrained("noised")
    video: dict[str, Any] = {"grid": (2, 4, 4), "block": (1, 4, 4), "patch": (1, 2, 2)}
    ACDiTVideoPipeline(
        tiny_model(in_channels=4, axis_lengths=(2, 4, 4), num_classes=3), default_sampler("flow"), **video
    ).save_pretrained("video")
    build_clips(channels=3).save_pretrained("clips")
    torch.jit.script(Levels()).save("levels.pt")
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 4, 260)
    tokenizer.save(Path("words.json"))
    sizes: dict[str, Any] = {"in_channels": None, "axis_lengths": (8,), "num_classes": None}
    ACDiTTextPipeline(
        tiny_model(vocab_size=tokenizer.vocab_size, time_conditioning=False, **sizes),
        FirstHittingScheduler(mask_token=tokenizer.mask),
        tokenizer,
        grid=(8,),
        block=(4,),
    ).save_pretrained("text")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer._inner, eos_token=END)
    for folder in ("tokenizer", "judge"):
        fast.save_pretrained(folder)
    config = transformers.GPT2Config(vocab_size=tokenizer.size, n_positions=16, n_embd=8, n_layer=1, n_head=1)
    transformers.GPT2LMHeadModel(config).save_pretrained("judge")


def _write_data() -> None:
    levels = np.random.default_rng(0)
    for folder in ("pictures/ant", "pictures/bee", "rows/jsonl", "rows/csv", "texts"):
        Path(folder).mkdir(parents=True)
        for number in range(0 if folder == "texts" else 3):
            drawn = levels.integers(0, 256, (10, 9, 3), dtype=np.uint8)
            Image.fromarray(drawn).save(Path(folder, f"{number}.{('png', 'jpg', 'gif')[number]}"))
    Image.fromarray(levels.integers(0, 256, (8, 8), dtype=np.uint8)).save("ant.png")
    names = ["0.png", "1.jpg", "2.gif"]
    rows = [{"file_name": name, "label": label} for name, label in zip(names, "aab", strict=True)]
    Path("rows/jsonl/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Path("rows/csv/metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "label"], *(row.values() for row in rows)])
    texts = ["the cat", "a mat, on it", "the mat"]
    lines = [json.dumps({"text": text}) for text in texts]
    Path("texts/rows.jsonl").write_text("\n".join(lines) + "\n")
    Path("texts/rows.json").write_text(f"[{', '.join(lines)}]")
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        with Path(f"texts/rows.{suffix}").open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([["text"], *([text] for text in texts)])
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), "texts/rows.parquet")
    Path("texts/plain.txt").write_text(" ".join(texts))
    for name, first in ((NAMES[0], 0), (NAMES[2], 5)):
        Path("videos", name).mkdir(parents=True)
        for index in range(4):
            write(Path("videos", name, f"{index}.mp4"), range(first + index, first + index + 7))


def _write_latents() -> None:
    small_autoencoder().save_pretrained("vae")
    keys: dict[str, Any] = {
        "name": "latent",
        "out": "latent-run",
        "model.num_layers": 1,
        "model.hidden_size": 16,
        "model.num_heads": 1,
        "data.source": "pictures",
        "data.image_size": 8,
        "data.channels": 3,
        "autoencoder.model": "vae",
        "autoencoder.latents": "latents",
        "autoencoder.shard_size": 3,
        "layout.patch": 1,
        "training.steps": 1,
        "training.batch_size": 4,
        "training.precision": "no",
    }
    Path("latent.yaml").write_text(recipe_to_yaml(load_recipe("digits", **keys)))
    assert main(["encode", "latent.yaml"]) == 0


def _write_runs() -> None:
    recipe = small_recipe(Path("run"), training={"steps": 2, "log_every": 1})
    train(recipe)
    Path("run.yaml").write_text(recipe_to_yaml(recipe))
    small = autoencoder_recipe(Path("vae-run"), steps=2)
    Path("vae.yaml").write_text(recipe_to_yaml(small))
    assert main(["autoencoder", "vae.yaml"]) == 0


def _write_sets() -> None:
    for out in ("whole.npz", "folder"):
        assert main([*SET, out]) == 0
    plan = SetPlan(5, Sampling(steps=2, batch=2))
    samples = SampleSet(load_pipeline("image"), Path("image"), Path("set.npz"), plan)  # pyright: ignore[reportArgumentType]
    samples.draw(0, 2)  # the first and the third of three parts


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Flip bytes, cut, repeat, replace or insert something, at random."""
    position = draw.randrange(len(content) + 1)
    near = min(position, draw.randrange(2000))  # most of a description is at the beginning
    kind = draw.randrange(6)
    if kind == 0 or not content:
        return content[: draw.choice((position, near))]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 64))):
            within = min(len(changed), draw.choice((2000, len(changed))))
            changed[draw.randrange(within)] = draw.randrange(256)
        return bytes(changed)
    if kind == 2:
        return content[:near] + content[near : near + draw.randrange(64)] + content[near:]
    if kind == 3:
        return content[:near] + content[near + draw.randrange(1, 16) :]
    hostile = (b"\x00", b"\xff\xfe", b"9" * 5000, b"NaN", b"-1", b"1e999", b"[" * 5000, b'"', b"{}", b"null")
    cut = 0 if kind == 4 else draw.randrange(1, 8)
    return content[:near] + draw.choice(hostile) + content[near + cut :]


def check_whole(path: Path) -> None:
    """Read an output, and every file of a folder, completely, by the libraries of their formats alone."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.suffix in (".png", ".gif"):
            with Image.open(file) as picture:
                picture.load()
        elif file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
        elif file.suffix == ".pt":
            raw(file)
        else:
            assert file.is_dir() or file.read_bytes()
