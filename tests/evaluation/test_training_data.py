"""Scores need a model of the data that they compare with, whatever its shape."""

import json

import pytest

from acdit.cli.main import main
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.evaluation.digits import digit_sets
from acdit.evaluation.training_data import is_trained_on
from acdit.pipelines.folders import SHIPPED, shipped_models
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.stored_pipeline import StoredPipeline
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.pipelines.video import ACDiTVideoPipeline
from acdit.training.loop import train
from acdit.utils.errors import UserError
from tests.cli.text_model import BYTES
from tests.pipelines.test_text import network as text_network
from tests.tiny import tiny_model
from tests.training.small import small_recipe
from tests.training.test_changed_data import draw

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghij")


def images(side, names, data_source):
    """A random model of grey images of a side in blocks of half the side."""
    network = tiny_model(in_channels=(side // 4) ** 2, axis_lengths=(4, 4), num_classes=len(names))
    layout = (4, 4), (2, 2), (side // 4,) * 2
    labels = dict(enumerate(names))
    return ACDiTImagePipeline(
        network,
        default_sampler("flow"),
        None,
        *layout,
        labels,
        num_inference_steps=1,
        data_source=data_source,
    )


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize(
    ("names", "data_source", "said"),
    [
        (LETTERS, None, "its data set is not recorded, its classes are a, b, c, d, e, f, g, h and 2 more"),
        (LETTERS, "own", "this one was trained on own, its classes are a, b,"),
        (DIGITS, "folder mnist", "this one was trained on folder mnist, its classes are 0, 1,"),
        (tuple("1234567890"), None, "its classes are 1, 2, 3,"),
        (tuple("0123456789x"), None, "its classes are 0, 1, 2,"),
    ],
)
def test_other_models_of_the_shape_of_digits_are_refused(side, names, data_source, said, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "scores.json"
    images(side, names, data_source).save_pretrained(model)
    for words, refused in (
        (["evaluate", "--count", "20", "--out", str(out)], "give real data of its kind with --data"),
        (["study", "sampling", "--samples", "20", "--out", str(tmp_path / "study")], "only models of mnist"),
    ):
        assert main([*words, "--model", str(model)]) == 2
        err = capsys.readouterr().err
        assert said in err and refused in err and err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(("side", "name"), [(8, "digits"), (32, "mnist")])
def test_models_of_digits_are_scored(side, name):
    for recorded in (name, None):  # earlier versions recorded none
        assert len(digit_sets(images(side, DIGITS, recorded), 20).reference) == 20
    other = {"digits": "mnist", "mnist": "digits"}[name]
    with pytest.raises(UserError, match=f"trained on {other}"):
        digit_sets(images(side, DIGITS, other), 20)


def test_a_run_records_its_data_set(tmp_path):
    exported = train(small_recipe(tmp_path / "digits", training={"steps": 1}))
    assert exported is not None
    assert json.loads((exported / "model_index.json").read_text())["data_source"] == "digits"
    assert len(digit_sets(load_pipeline(exported, kind=ACDiTImagePipeline), 20).reference) == 20
    pictures = draw(tmp_path / "mnist", *DIGITS, count=2)
    data = {"source": str(pictures), "image_size": 8, "channels": 1}
    exported = train(small_recipe(tmp_path / "own", training={"steps": 1}, data=data))
    pipeline = load_pipeline(exported, kind=ACDiTImagePipeline)
    assert pipeline.data_source == "folder mnist" and pipeline.class_names == list(DIGITS)
    with pytest.raises(UserError, match="trained on folder mnist"):
        digit_sets(pipeline, 20)


def test_pipelines_saved_before_still_load(tmp_path):
    images(8, DIGITS, "digits").save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index.pop("data_source") == "digits"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    pipeline = load_pipeline(tmp_path)
    assert pipeline.data_source is None and is_trained_on(pipeline, "digits", DIGITS)


@pytest.mark.parametrize(
    ("names", "data_source", "said"),
    [(LETTERS, None, "its classes are a, b"), (DIGITS, "own/clips", "trained on own/clips")],
)
def test_other_models_of_the_shape_of_moving_digits_are_refused(names, data_source, said, tmp_path, capsys):
    network = tiny_model(in_channels=64, axis_lengths=(4, 4, 4), num_classes=10)
    layout = (4, 4, 4), (2, 4, 4), (1, 8, 8)
    ACDiTVideoPipeline(
        network, default_sampler("flow"), None, *layout, dict(enumerate(names)), data_source=data_source
    ).save_pretrained(tmp_path)
    assert main(["evaluate", "--model", str(tmp_path), "--count", "12"]) == 2
    err = capsys.readouterr().err
    assert said in err and "--data" in err and err.count("\n") == 1


def test_texts_of_other_models_are_named(tmp_path, capsys):
    for data_source, code, said in (
        ("file recipes.txt", 2, "this one was trained on file recipes.txt: give held-out texts"),
        (None, 0, "the model does not record its data set; it is scored on the held-out works"),
        ("shakespeare", 0, ""),
    ):
        scheduler = FirstHittingScheduler(mask_token=BYTES.mask)
        pipeline = ACDiTTextPipeline(
            text_network().float(), scheduler, grid=[32], block=[4], data_source=data_source
        )
        pipeline.save_pretrained(tmp_path / "model")
        words = ["evaluate", "--model", str(tmp_path / "model"), "--samples", "2", "--draws", "1"]
        assert main(words) == code
        err = capsys.readouterr().err
        assert said in err and ("record" in err) == (data_source is None)
    own = tmp_path / "own.txt"
    own.write_text("flour and water, stirred, then rested for an hour")
    pipeline.register_to_config(data_source="file recipes.txt")
    pipeline.save_pretrained(tmp_path / "model")
    assert main([*words, "--data", str(own)]) == 0


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_record_their_data_set(name):
    data = name.removesuffix("-classifier")
    assert json.loads((SHIPPED / name / "model_index.json").read_text())["data_source"] == data
    assert load_pipeline(name, kind=StoredPipeline).data_source == data
