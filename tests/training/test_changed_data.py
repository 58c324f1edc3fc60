"""A run resumed on other data, and a network trained further for other classes."""

import itertools
import json
import shutil

import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.training.autoencoder import train_autoencoder
from acdit.training.autoencoder_config import AutoencoderRecipe
from acdit.training.checkpoint import newest_checkpoint, save_checkpoint
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.processes import on_ranks
from tests.training.small import advance, all_state, small_recipe, unequal

TABLE = "y_embedder.embedding_table.weight"
PARTS = ("model", "ema", "exp_avg", "exp_avg_sq")


def draw(folder, *classes, count=4):
    """Pictures of these classes; those of a class are always the same."""
    for name, index in itertools.product(classes, range(count)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        source = torch.Generator().manual_seed(100 * len(name) + ord(name[0]) + index)
        pixels = torch.randint(0, 256, (8, 8), generator=source, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / name / f"{index}.png")
    return folder


def recipe_of(folder, source, **changes):
    data = {"source": str(source), "image_size": 8, "channels": 1}
    return small_recipe(folder, data=data, **changes)


@pytest.fixture
def started(tmp_path):
    """A run of two steps on cats and dogs, and its state."""
    pictures = draw(tmp_path / "pictures", "cat", "dog")
    run = Run(recipe_of(tmp_path / "run", pictures))
    advance(run, 2)
    run.save()
    return tmp_path / "run", pictures, all_state(run)


def test_a_new_class_is_refused_and_then_mapped_by_name(started):
    folder, pictures, before = started
    draw(pictures, "ant")
    recipe = recipe_of(folder, pictures, training={"steps": 4})
    with pytest.raises(
        UserError, match=r"class ant is new, class cat was row 0 and is row 1.*--allow-changes"
    ):
        Run(recipe)
    run = Run(recipe, allow_changes=True)
    after = all_state(run)
    for part in PARTS:
        old, new = before[f"{part}.{TABLE}"], after[f"{part}.{TABLE}"]
        assert old.shape == (3, 16) and new.shape == (4, 16)
        assert torch.equal(new[1:], old)  # cat, dog and null
    assert not after[f"exp_avg.{TABLE}"][0].any() and not after[f"exp_avg_sq.{TABLE}"][0].any()
    assert torch.equal(after[f"model.{TABLE}"][0], after[f"ema.{TABLE}"][0])
    assert 0.005 < float(after[f"model.{TABLE}"][0].std()) < 0.05
    assert {name.partition(".")[2] for name in unequal(before, after)} == {TABLE}
    assert any("newly initialised: ant" in change for change in run.changes)
    assert any("class ant is new" in change for change in run.changes)
    advance(run, 1)
    run.save()
    assert Run(recipe).changes == []  # the new classes are recorded
    exported = ACDiTImagePipeline.from_pretrained(train(recipe))
    assert exported.label_names == {0: "ant", 1: "cat", 2: "dog"}
    assert exported.transformer.config["num_classes"] == 3


def test_removed_and_renamed_classes(started):
    folder, pictures, before = started
    (pictures / "cat").rename(pictures / "eel")  # the last class now, and an unknown one
    with pytest.raises(
        UserError, match="class eel is new, class cat is removed, class dog was row 1 and is row 0"
    ):
        Run(recipe_of(folder, pictures))
    run = Run(recipe_of(folder, pictures), allow_changes=True)
    old, new = before[f"ema.{TABLE}"], all_state(run)[f"ema.{TABLE}"]
    assert torch.equal(new[[0, 2]], old[[1, 2]]) and not torch.equal(new[1], old[0])
    shutil.rmtree(pictures / "eel")
    run = Run(recipe_of(folder, pictures), allow_changes=True)
    assert torch.equal(all_state(run)[f"ema.{TABLE}"], old[[1, 2]])
    assert any("removed: cat" in change for change in run.changes)


@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_other_files_of_the_same_classes(started, change):
    folder, pictures, before = started
    if change == "more":
        draw(pictures, "cat", count=5)
    elif change == "fewer":
        (pictures / "cat" / "0.png").unlink()
    else:
        shutil.copy(pictures / "cat" / "0.png", pictures / "cat" / "1.bmp")
        (pictures / "cat" / "1.png").unlink()
    with pytest.raises(
        UserError, match=r"holds a run on other data; differences: class cat ha.*--allow-changes"
    ):
        Run(recipe_of(folder, pictures))
    run = Run(recipe_of(folder, pictures), allow_changes=True)
    assert unequal(before, all_state(run)) == [] and len(run.changes) == 1


def test_the_same_data_elsewhere_go_on(started, tmp_path):
    folder, pictures, before = started
    moved = pictures.rename(tmp_path / "moved")
    run = Run(recipe_of(folder, moved))
    assert run.changes == [] and unequal(before, all_state(run)) == []


def test_the_command_line_says_what_differs(started, capsys):
    folder, pictures, _ = started
    draw(pictures, "ant", "bee", "eel")
    keys = ["--data.source", str(pictures), "--data.image_size", "8", "--data.channels", "1"]
    keys += ["--model.num_layers", "1", "--model.hidden_size", "16", "--model.num_heads", "1"]
    keys += ["--name", "small", "--training.batch_size", "12", "--training.precision", "no"]
    keys += ["--optimizer.learning_rate", "0.01", "--training.steps", "3", "--out", str(folder)]
    assert main(["train", "digits", *keys]) == 2
    err = capsys.readouterr().err
    assert "class ant is new, class bee is new, class eel is new" in err and err.count("\n") == 1
    assert main(["train", "digits", *keys, "--allow-changes"]) == 0
    assert "newly initialised: ant, bee, eel" in capsys.readouterr().err


def unrecorded(folder):
    """Make a checkpoint one of a version that did not record its data."""
    stored = newest_checkpoint(folder / "checkpoints")
    assert stored is not None
    file = stored.path / "state.json"
    state = {name: value for name, value in stored.state.items() if name != "data"}
    tensors = {}
    from acdit.training.checkpoint import read_part

    for part in PARTS:
        tensors |= {f"{part}.{name}": tensor for name, tensor in read_part(stored, part).items()}
    shutil.rmtree(stored.path)
    plain = {name: value for name, value in state.items() if name not in ("files", "format_version")}
    save_checkpoint(folder / "checkpoints", plain, tensors, keep=1)
    assert "data" not in json.loads(file.read_text())


def test_checkpoints_without_a_record(started):
    folder, pictures, before = started
    unrecorded(folder)
    run = Run(recipe_of(folder, pictures))
    assert unequal(before, all_state(run)) == []
    assert run.changes == ["the checkpoint does not record its classes and files, so they are not compared"]
    draw(pictures, "ant")
    with pytest.raises(UserError, match=r"a run with 2 classes, but the data has 3.*does not record"):
        Run(recipe_of(folder, pictures), allow_changes=True)


def train_sharded(folder, pictures, allow):
    """The class table of a run over two ranks, and its moving average and moments."""
    ranks = launched()
    with ranks.joined():
        training = {"parallel": "fsdp", "steps": 8}
        run = Run(recipe_of(folder, pictures, training=training), ranks, allow_changes=allow)
        if not allow:
            advance(run, 2)
            run.save()
        tensors = run.learner.tensors()
        full = {part: tensors[f"{part}.{TABLE}"] for part in PARTS}
        return {
            part: getattr(tensor, "full_tensor", lambda t=tensor: t)().tolist()
            for part, tensor in full.items()
        }


def test_rows_of_sharded_tables_are_mapped(tmp_path):
    pictures = draw(tmp_path / "pictures", "cat", "dog")
    before = on_ranks(train_sharded, 2, tmp_path / "run", pictures, False)[0]
    draw(pictures, "ant")
    for after in on_ranks(train_sharded, 2, tmp_path / "run", pictures, True):
        for part in PARTS:
            assert after[part][1:] == before[part], part
        assert not any(after["exp_avg"][0])


def test_init_from_maps_rows_by_name(started, tmp_path):
    folder, pictures, _ = started
    trained = train(recipe_of(folder, pictures))
    table = ACDiTImagePipeline.from_pretrained(trained).transformer.state_dict()[TABLE]
    start = {"init_from": str(folder)}
    swapped = draw(tmp_path / "swapped", "ant", "cat")  # as many classes
    run = Run(recipe_of(tmp_path / "a", swapped, training=start))
    new = all_state(run)[f"model.{TABLE}"]
    assert torch.equal(new[[1, 2]], table[[0, 2]]) and not torch.equal(new[0], table[0])
    (line,) = run.changes
    assert "newly initialised: ant; removed: dog" in line and str(folder) in line
    more = draw(tmp_path / "more", "ant", "cat", "dog")
    new = all_state(Run(recipe_of(tmp_path / "b", more, training=start)))[f"model.{TABLE}"]
    assert torch.equal(new[[1, 2, 3]], table)
    run = Run(recipe_of(tmp_path / "c", pictures, training=start))
    assert run.changes == [] and torch.equal(all_state(run)[f"model.{TABLE}"], table)

    pytest.importorskip("peft")
    lora = {"rank": 2, "label_table": False}
    with pytest.raises(UserError, match=r"lora\.label_table is false.*does not have these classes: ant"):
        Run(recipe_of(tmp_path / "d", swapped, training=start, lora=lora))
    shutil.rmtree(more / "ant")
    (more / "cat").rename(more / "cow")
    draw(more, "cat")
    shutil.rmtree(more / "cow")
    assert Run(recipe_of(tmp_path / "e", more, training=start, lora=lora)).changes == []
    adapted = Run(recipe_of(tmp_path / "f", more, training=start, lora=lora))
    advance(adapted, 1)
    adapted.save()
    draw(more, "bee")
    with pytest.raises(UserError, match=r"lora\.label_table is false.*new classes.*: bee"):
        Run(recipe_of(tmp_path / "f", more, training=start, lora=lora), allow_changes=True)


def test_init_from_a_model_without_class_names(started, tmp_path):
    folder, pictures, _ = started
    pipeline = ACDiTImagePipeline.from_pretrained(train(recipe_of(folder, pictures)))
    pipeline.register_to_config(id2label={})
    pipeline.save_pretrained(tmp_path / "nameless")
    run = Run(recipe_of(tmp_path / "a", pictures, training={"init_from": str(tmp_path / "nameless")}))
    table, new = pipeline.transformer.state_dict()[TABLE], all_state(run)[f"model.{TABLE}"]
    assert torch.equal(new[2], table[2]) and not torch.equal(new[0], table[0])
    assert "class name is not recorded: 2" in run.changes[0]


def test_an_autoencoder_resumes_on_the_same_data_alone(tmp_path):
    pictures = draw(tmp_path / "pictures", "cat")

    def recipe(steps, source=pictures):
        made = AutoencoderRecipe(out=str(tmp_path / "run"), steps=steps, batch_size=2)
        made.data.source, made.data.image_size, made.data.channels = str(source), 8, 1
        made.model.channels, made.model.latent_channels = [4, 4], 1
        return made

    train_autoencoder(recipe(1), torch.device("cpu"))
    moved = pictures.rename(tmp_path / "moved")
    train_autoencoder(recipe(1, moved), torch.device("cpu"))
    draw(moved, "cat", count=6)
    with pytest.raises(UserError, match="class cat had 4 files and has 6"):
        train_autoencoder(recipe(1, moved), torch.device("cpu"))
