"""What a run starts from: exported weights and other classes; and what is refused before it starts."""

import itertools
import json
import os

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from acdit.pipelines.image import ACDiTImagePipeline
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.utils.errors import UserError
from tests.training.small import advance, small_recipe, unequal
from tests.training.test_train import WEIGHTS, weights


def write_pictures(folder, classes, edge=8):
    source = torch.Generator().manual_seed(0)
    for name, index in itertools.product(classes, range(4)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (edge, edge), generator=source, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / name / f"{index}.png")
    return {"source": str(folder), "image_size": edge, "channels": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(small_recipe(folder))
    return folder


def test_init_from_starts_at_the_exported_weights(trained, tmp_path):
    exported = load_file(trained / "pipeline" / WEIGHTS)
    for place, source in enumerate((trained, trained / "pipeline")):
        recipe = small_recipe(tmp_path / str(place), training={"init_from": str(source), "seed": 5})
        run = Run(recipe)
        assert run.step == 0
        assert unequal(weights(run), exported) == []
        assert run.learner.network.training
        advance(run, 1)
        assert "final_layer.linear.weight" in unequal(weights(run), exported)
        pipeline = run.pipeline()
        assert pipeline is not None
        pipeline.save_pretrained(tmp_path / "saved")
        before, after = trained / "pipeline", tmp_path / "saved"
        config = "transformer/config.json"  # which does not say where the network was loaded from
        assert (after / config).read_text() == (before / config).read_text()


def test_init_from_makes_a_new_class_table_for_other_classes(trained, tmp_path):
    data = write_pictures(tmp_path / "pictures", ["cat", "dog", "emu"])
    recipe = small_recipe(tmp_path / "run", training={"init_from": str(trained), "steps": 2}, data=data)
    run = Run(recipe)
    exported = load_file(trained / "pipeline" / WEIGHTS)
    started = weights(run)
    assert unequal(started, exported) == ["y_embedder.embedding_table.weight"]
    table = started["y_embedder.embedding_table.weight"]
    assert table.shape == (4, 16)  # three classes and null
    assert 0.01 < float(table.std()) < 0.03  # as a fresh one
    assert run.learner.network.config["num_classes"] == 3
    pipeline = ACDiTImagePipeline.from_pretrained(train(recipe))
    assert pipeline.label_names == {0: "cat", 1: "dog", 2: "emu"}
    assert pipeline.label_ids(["emu"]) == [2]


def test_init_from_the_same_classes_in_another_order_moves_their_rows(tmp_path):
    """An earlier version sorted the names of folders as text, also those that are numbers."""
    names = ["0", "1", "10", "2"]
    data = write_pictures(tmp_path / "pictures", names)
    train(small_recipe(tmp_path / "one", training={"steps": 2}, data=data))
    exported = tmp_path / "one" / "pipeline"
    index = exported / "model_index.json"
    stored = json.loads(index.read_text())
    assert stored["id2label"] == {"0": "0", "1": "1", "2": "2", "3": "10"}
    index.write_text(json.dumps(stored | {"id2label": {str(i): name for i, name in enumerate(names)}}))
    table = "y_embedder.embedding_table.weight"
    before = load_file(exported / WEIGHTS)[table]
    recipe = small_recipe(tmp_path / "two", training={"init_from": str(exported), "steps": 3}, data=data)
    assert torch.equal(weights(Run(recipe))[table], before[[0, 1, 3, 2, 4]])


def test_pictures_that_cannot_be_read_are_counted_and_named_at_the_end(tmp_path, capsys):
    data = write_pictures(tmp_path / "pictures", ["cat", "dog"])
    (tmp_path / "pictures" / "cat" / "notes.txt").write_text("not a picture")
    train(small_recipe(tmp_path / "run", training={"steps": 1}, data=data))
    written = capsys.readouterr().err
    assert "skipped 1 item: " in written and "cat/notes.txt: not an image" in written


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_that_are_damaged_after_the_start_end_the_run_in_one_line(tmp_path, workers):
    data = write_pictures(tmp_path / "pictures", ["cat", "dog"])
    run = Run(small_recipe(tmp_path / "run", data=data | {"workers": workers}))
    for path in (tmp_path / "pictures").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^none of the 8 images can be decoded; first problem: .*: not an"):
        advance(run, 1)


def test_init_from_another_patch_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"init_from .*layout\.patch") as caught:
        Run(small_recipe(tmp_path / "run", training={"init_from": str(trained)}, layout={"patch": 1}))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout.patch": 3}, ["layout.patch", "8", "3"]),
        ({"layout.patch": 16}, ["layout.patch", "8", "16"]),
        ({"layout.blocks": ["3x3"]}, ["3x3", "4x4", "{1, 2, 4}"]),
        ({"layout.blocks": ["2x2", "4x8"]}, ["4x8"]),
        ({"training.batch_size": 7, "training.accumulation": 2}, ["training.batch_size", "7", "2"]),
        ({"training.init_from": "/nowhere/at/all"}, ["/nowhere/at/all"]),
        ({"model.hidden_size": 16, "model.num_heads": 3}, ["num_heads"]),
        ({"data.source": "/nowhere/at/all", "data.image_size": 8}, ["data.source"]),
        ({"data.image_size": 16}, ["data.image_size"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_is_written(tmp_path, changes, words):
    with pytest.raises(ValueError) as caught:
        train(small_recipe(tmp_path / "run", **changes))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.steps", -1),
        ("training.batch_size", 0),
        ("training.accumulation", 0),
        ("training.checkpoint_every", 0),
        ("training.keep_checkpoints", 0),
        ("diffusion.draws", 0),
        ("diffusion.views", 0),
        ("diffusion.label_dropout", 1.5),
        ("model.num_layers", 0),
        ("layout.patch", 0),
        ("layout.blocks", []),
        ("sampling.steps", 0),
        ("sampling.steps", 10**6 + 1),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(tmp_path, key, value):
    with pytest.raises(ValueError, match=key.split(".")[1]) as caught:
        train(small_recipe(tmp_path / "run", **{key: value}))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written") as caught:
        train(small_recipe(tmp_path / "file" / "run"))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "x"
