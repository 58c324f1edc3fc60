"""Validation: the loss of the averaged weights on held-out images, the same whoever measures."""

import json
from typing import Any

import pytest
import torch
from PIL import Image

from acdit.data.config import DataConfig
from acdit.data.opening import open_samples
from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from acdit.training.config import LayoutConfig, Recipe, ValidationConfig
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.training.validation import Validation
from acdit.utils.errors import UserError
from acdit.utils.names import same_classes
from acdit.utils.randomness import generator
from acdit.utils.ranks import launched
from tests.processes import on_ranks
from tests.tiny import grey_autoencoder
from tests.training.small import advance, all_state, small_recipe, unequal

BLOCKS = {"blocks": ["2x2", "4x4"]}


def measured(run, images, batch=5):
    recipe = small_recipe(run.folder, layout=BLOCKS, validation={"every": 1, "images": images})
    validation = Validation(recipe, run.data.label_names, run.vae)
    return validation.measure(run.learner, run.layouts[0], batch, run.ranks)


def test_against_a_loop_over_images_blocks_and_bins(tmp_path):
    run = Run(small_recipe(tmp_path, layout=BLOCKS))
    advance(run, 3)
    before = all_state(run)
    found = measured(run, 13)
    assert unequal(all_state(run), before) == [] and run.learner.network.training

    held_out = open_samples(run.recipe.data, seed=0, held_out=True)
    order = torch.randperm(len(held_out), generator=generator("validation")).tolist()
    pipeline = run.pipeline()
    assert pipeline is not None
    network = pipeline.transformer  # around the averaged weights
    layout, objective = run.layouts[0], DiffusionObjective(run.recipe.diffusion.prediction)
    blocks, bins = ([[] for _ in range(size)] for size in (4, 10))
    for row, index in enumerate(order[:13]):
        image, label = held_out.read(index)
        with torch.no_grad():
            losses = objective.loss(
                network,
                layout.to_blocks(image[None]),
                layout=layout,
                key=SampleKey(0, [-1], [row]),
                labels=torch.tensor([label]),
            )
        for block, error in enumerate(losses.per_view[0].tolist()):
            blocks[block].append(error)
            bins[int(losses.timesteps[0, block] // 100)].append(error)
    everything = [error for held in blocks for error in held]
    assert found["loss"] == pytest.approx(sum(everything) / len(everything), rel=1e-5)
    for means, lists in ((found["by_block"], blocks), (found["by_timestep"], bins)):
        expected = [sum(held) / len(held) if held else None for held in lists]
        assert [mean is None for mean in means] == [mean is None for mean in expected]
        assert [mean for mean in means if mean is not None] == pytest.approx(
            [mean for mean in expected if mean is not None], rel=1e-5
        )


def test_training_is_not_disturbed(tmp_path):
    plain = train(small_recipe(tmp_path / "plain"))
    watched = train(small_recipe(tmp_path / "watched", validation={"every": 1, "images": 8}))
    assert plain is not None and watched is not None
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (plain / weights).read_bytes() == (watched / weights).read_bytes()


def losses_on_ranks(folder, parallel, is_measured):
    ranks = launched()
    with ranks.joined():
        run = Run(small_recipe(folder, optimizer={"ema_decay": 0.5}, training={"parallel": parallel}), ranks)
        losses = []
        for _ in range(4):
            losses += [result.loss for result in advance(run, 1)]
            if is_measured:
                measured(run, 13, 3)
    return losses


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_training_on_ranks_is_not_disturbed(tmp_path, parallel):
    plain, watched = (
        on_ranks(losses_on_ranks, 2, tmp_path / str(flag), parallel, flag) for flag in (False, True)
    )
    assert plain == watched and len(set(plain[0])) == 4


def measure_on_ranks(folder, parallel):
    torch.set_default_dtype(torch.float64)
    ranks = launched()
    with ranks.joined():
        return _measure(folder, parallel, ranks)


def _measure(folder, parallel, ranks):
    run = Run(small_recipe(folder, layout=BLOCKS, training={"parallel": parallel}), ranks)
    advance(run, 2)
    return measured(run, 13, 3)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_ranks_measure_what_one_does(tmp_path, parallel):
    """13 images in parts of 3: at the end one rank has none of its own."""
    (alone,) = on_ranks(measure_on_ranks, 1, tmp_path / "alone", "ddp")
    for found in on_ranks(measure_on_ranks, 2, tmp_path / "together", parallel):
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-9)
        assert found["by_block"] == pytest.approx(alone["by_block"], rel=1e-9)


def test_the_best_checkpoint_is_kept_and_the_log_knows_all(tmp_path):
    training = {"steps": 8, "keep_checkpoints": 1, "checkpoint_every": 100, "log_every": 2}
    optimizer = {"learning_rate": 0.1, "ema_decay": 0.0, "schedule": "constant"}  # leaps about
    train(
        small_recipe(tmp_path, training=training, optimizer=optimizer, validation={"every": 1, "images": 32})
    )
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["validation"]["loss"] for entry in entries if "validation" in entry}
    assert sorted(losses) == list(range(1, 9))
    best = min(losses, key=lambda step: losses[step])
    kept = {int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {best, 8} and best != 8
    assert [entry["step"] for entry in entries if "loss" in entry] == [2, 4, 6, 8]


@pytest.mark.parametrize("numbers", [(32, 1), (1, 32)])
def test_losses_of_other_validation_data_are_not_compared(tmp_path, numbers):
    """The loss hardly changes, so that in one of the two orders all later losses are higher."""
    for steps, images in zip((2, 4), numbers, strict=True):
        training = {"steps": steps, "keep_checkpoints": 1, "checkpoint_every": 100}
        validation = {"every": 1, "images": images}
        recipe = small_recipe(
            tmp_path, training=training, optimizer={"learning_rate": 1e-6}, validation=validation
        )
        train(recipe, allow_changes=True)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["validation"]["loss"] for entry in entries if "validation" in entry}
    kept = {int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {min((3, 4), key=lambda step: losses[step]), 4}


def test_latents_are_those_of_all_samples_at_once(tmp_path):
    """They are encoded part by part, and each is drawn once, from the noise of all."""
    vae: Any = grey_autoencoder(scaling_factor=0.5)
    recipe = small_recipe(tmp_path, validation={"every": 1, "images": 35})
    read, pixels = (Validation(recipe, tuple("0123456789"), each) for each in (vae, None))
    with torch.no_grad():
        latents = vae.encode(pixels.data).latent_dist
    noise = torch.randn(latents.mean.shape, generator=generator("validation", "latent"))
    assert torch.allclose(read.data, 0.5 * (latents.mean + latents.std * noise), atol=1e-5)
    assert len(read.data) == 35 and torch.equal(read.labels, pixels.labels)


def test_a_folder_has_a_held_out_part_only_by_name(tmp_path, capsys):
    for part in ("train", "valid", "other"):
        for name in ("cat", "dog") if part != "other" else ("cat", "emu"):
            (tmp_path / part / name).mkdir(parents=True)
            for shade in (10, 200):
                Image.new("L", (8, 8), shade).save(tmp_path / part / name / f"{shade}.png")
    data = {"source": str(tmp_path / "train"), "image_size": 8, "channels": 1}
    for source, words in (
        (None, "set data.validation_fraction"),
        ("other", "must have the classes of data.source"),
    ):
        validation = {"every": 1, "source": None if source is None else str(tmp_path / source)}
        with pytest.raises(UserError, match=words):
            train(small_recipe(tmp_path / "run", data=data, validation=validation))
    good = {"every": 3, "source": str(tmp_path / "valid")}
    (tmp_path / "valid" / "notes.txt").write_text("no picture")
    train(small_recipe(tmp_path / "good", data=data, validation=good))
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "validation: " in line)
    assert line.startswith("validation: skipped 1 item: ") and "valid/notes.txt: " in line
    assert '"validation"' in (tmp_path / "good" / "log.jsonl").read_text()


@pytest.mark.parametrize("source", ["digits", "shakespeare"])
def test_a_built_in_data_set_has_its_held_out_part(tmp_path, source):
    """Also where it is named as the source."""
    tokens = 64 if source == "shakespeare" else None
    recipes = [
        Recipe(
            data=DataConfig(source=source, tokens=tokens),
            layout=LayoutConfig(blocks=["8" if tokens else "4x4"]),
            validation=ValidationConfig(every=1, images=20, source=named),
        )
        for named in (source, None)
    ]
    names = () if tokens else tuple("0123456789")
    named, default = (Validation(recipe, names, None) for recipe in recipes)
    assert torch.equal(named.data, default.data) and len(named.data) == 20


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"source": "nowhere"}, "^validation.source .*nowhere"),
        ({"split": "val"}, "^validation.split 'val' has no effect on "),
        ({"listed": "nowhere.txt"}, "^validation.listed "),
    ],
)
def test_errors_name_the_keys_that_are_set(tmp_path, monkeypatch, validation, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "own" / "cat" / "0.png")
    data = {"source": "own", "image_size": 8, "channels": 1}
    recipe = small_recipe(tmp_path / "run", data=data, validation={"every": 1, **validation})
    with pytest.raises(UserError, match=message):
        Validation(recipe, ("cat",), None)


def test_validation_has_the_labels_of_the_training_data(tmp_path):
    """Latents of an earlier version have classes that are numbers in the order of their texts."""
    for name in ("2", "10"):
        (tmp_path / "valid" / name).mkdir(parents=True)
        for row in range(3):
            Image.new("L", (8, 8), 10 * int(name)).save(tmp_path / "valid" / name / f"{row}.png")
    data = {"source": str(tmp_path / "train"), "image_size": 8, "channels": 1}
    recipe = small_recipe(tmp_path, data=data, validation={"every": 1, "source": str(tmp_path / "valid")})
    for names in (("2", "10"), ("10", "2")):
        read = Validation(recipe, names, None)
        shades = (read.data.mean((1, 2, 3)) + 1) * 127.5
        assert [names[label] for label in read.labels.tolist()] == [f"{shade / 10:.0f}" for shade in shades]
        assert len(set(read.labels.tolist())) == 2


def test_folders_without_classes_have_no_names_to_compare(tmp_path):
    """Flat folders of other names go together, also in a resumed run; other classes still do not."""
    for name in ("train", "other", "classes/a", "classes/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), 40 * number).save(tmp_path / name / f"{number}.png")
    data = {"source": str(tmp_path / "train"), "image_size": 8, "channels": 1}
    validation = {"every": 2, "source": str(tmp_path / "other"), "images": 4}
    training = {"steps": 2, "batch_size": 4}
    recipe = small_recipe(tmp_path / "run", data=data, validation=validation, training=training)
    exported = train(recipe)
    assert exported is not None
    index = json.loads((exported / "model_index.json").read_text())
    assert index["id2label"] == {"0": ""}
    resumed = small_recipe(
        tmp_path / "run", data=data, validation=validation, training=training | {"steps": 4}
    )
    assert train(resumed) is not None
    validation["source"] = str(tmp_path / "classes")
    with pytest.raises(UserError, match=r"the classes of data\.source, none, not 2 from a to b"):
        train(small_recipe(tmp_path / "new", data=data, validation=validation, training=training))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("",), ("",), True),
        (("birds",), ("",), True),  # latents of earlier versions call the class by the name of a folder
        (("",), ("birds",), True),
        (("cat",), ("dog",), False),
        (("",), ("cat", "dog"), False),
        (("",), (), False),
        (("cat", "dog"), ("cat", "dog"), True),
        (("cat", "dog"), ("dog", "cat"), True),
        ((), (), True),
    ],
)
def test_which_classes_are_the_same(first, second, same):
    assert (same_classes(first, second) is not None) == same
