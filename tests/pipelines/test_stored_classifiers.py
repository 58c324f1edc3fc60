"""Classifiers on disk: saved and loaded again, in half precision, damaged, and what does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.auto_model import AutoModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

import acdit
from acdit.modalities.table import MODALITIES
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.pipelines.folders import folder_modality, pipeline_folder
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import NAMES, build, build_classifier, network, picture
from tests.tiny import relative_error


@pytest.fixture(scope="module")
def pipe() -> Any:
    """A classifier of grey images with two heads."""
    return build_classifier(layers=(2, 1), pooling=("mean", "attention"))


@pytest.fixture
def saved(pipe, tmp_path) -> Path:
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def logits(pipeline: Any, images: Any) -> Tensor:
    return pipeline(images).logits


def test_saved_and_loaded(pipe, saved):
    image = picture(1)
    index = json.loads((saved / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "ACDiTImageClassificationPipeline"]
    assert index["classifier"] == ["acdit", "ACDiTForImageClassification"]
    assert folder_modality(pipeline_folder(saved)) is MODALITIES["classification"]
    assert not list(saved.rglob("*.bin"))
    for loaded in (
        acdit.ACDiTImageClassificationPipeline.from_pretrained(saved),
        load_pipeline(saved, kind=ACDiTImageClassificationPipeline),
        ACDiTImageClassificationPipeline.from_pipe(pipe),
    ):
        assert type(loaded) is ACDiTImageClassificationPipeline and not loaded.classifier.training
        assert loaded.label_names == NAMES and loaded.layout == pipe.layout
        assert torch.equal(logits(loaded, image), logits(pipe, image))
    alone = acdit.ACDiTForImageClassification.from_pretrained(saved, subfolder="classifier")
    assert alone.layers == (2, 1) and alone.to_json_string() == pipe.classifier.to_json_string()


def test_diffusers_loads_it(pipe, saved, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    loaded: Any = DiffusionPipeline.from_pretrained(str(saved), trust_remote_code=True)
    assert type(loaded) is ACDiTImageClassificationPipeline
    assert torch.equal(logits(loaded, picture(1)), logits(pipe, picture(1)))
    model = AutoModel.from_pretrained(str(saved / "classifier"), trust_remote_code=True)
    assert type(model) is acdit.ACDiTForImageClassification


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("latent", [False, True])
def test_half_precision(dtype, latent, tmp_path):
    pipeline, images = build_classifier(3, latent=latent), [picture(3, seed=seed) for seed in range(2)]
    pipeline.save_pretrained(tmp_path)
    half = ACDiTImageClassificationPipeline.from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype and half.device == torch.device("cpu")
    assert relative_error(logits(half, images), logits(pipeline, images)) < 0.05
    scores = half(images, top_k=3).predictions
    assert all(sum(each["score"] for each in row) == pytest.approx(1, abs=1e-4) for row in scores)


def test_a_probe_of_the_embedding_of_a_deep_generator_is_loaded(tmp_path):
    """Its file has fewer tensors than the generator has layers."""
    deep = network(4, num_layers=30)
    probe = acdit.ACDiTForImageClassification.from_generator(deep, 3, layers=(0,))
    probe.save_pretrained(tmp_path)
    assert acdit.ACDiTForImageClassification.from_pretrained(tmp_path).config["num_layers"] == 30


def test_unnamed_classes_are_numbers():
    pipeline = ACDiTImageClassificationPipeline(
        build_classifier().classifier, grid=(4, 4), block=(2, 2), patch=(2, 2)
    )
    assert {each["label"] for each in pipeline(picture(1)).predictions[0]} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"id2label": {0: "ant", 1: "bee"}}, r"the 3 classes of the network, 0\.\.2, but it names 2: 0, 1"),
        ({"id2label": {0: "a", 1: "b", 3: "c"}}, "but it names 3: 0, 1, 3"),
        ({"grid": None}, "needs grid"),
        ({"grid": (2, 4), "block": (2, 2)}, "square images"),
        ({"patch": (3, 3)}, "tokens of 4 values"),
        ({"block": (3, 3)}, "does not tile"),
        ({"format_version": 2}, "format version 2"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit(arguments, words):
    given: dict[str, Any] = {"grid": (4, 4), "block": (2, 2), "patch": (2, 2)}
    given.update(arguments)
    with pytest.raises(ValueError, match=words):
        ACDiTImageClassificationPipeline(build_classifier().classifier, **given)


def test_noised_input_that_does_not_fit():
    noised = build_classifier(timestep=10.0).classifier
    layout: dict[str, Any] = {"grid": (4, 4), "block": (2, 2), "patch": (2, 2)}
    with pytest.raises(
        UserError, match="noised input is one block, but grid 4x4, block 2x2, patch 2x2 has 4"
    ):
        ACDiTImageClassificationPipeline(noised, **layout)
    unknown = acdit.ACDiTForImageClassification.from_generator(network(4), 3, timestep=10.0)
    with pytest.raises(UserError, match="needs the prediction_type of the generator, one of epsilon"):
        ACDiTImageClassificationPipeline(unknown, grid=(4, 4), block=(4, 4), patch=(2, 2))


INDEX, CONFIG = "model_index.json", "classifier/config.json"


@pytest.mark.parametrize(
    ("file", "key", "value", "words"),
    [
        (INDEX, "classifier", ["acdit", "ACDiTTransformer"], "classifier"),
        (INDEX, "classifier", ["diffusers", "UNet2DModel"], "classifier"),
        (INDEX, "classifier", ..., "lacks 'classifier'"),
        (INDEX, "grid", [4, 4, 4], "grid must be"),
        (INDEX, "grid", [2, 4], "square images"),
        (INDEX, "patch", [3, 3], "in_channels"),
        (INDEX, "id2label", {"7": "a"}, "class 7"),
        (INDEX, "id2label", {"0": "a"}, "3 classes of the network"),
        (INDEX, "id2label", [], "id2label"),
        (INDEX, "_class_name", "ACDiTImagePipeline", "transformer"),
        (CONFIG, "num_labels", 4, "its weights do not fit"),
        (CONFIG, "num_labels", 0, "0 classes"),
        (CONFIG, "num_labels", 10**12, "num_labels"),
        (CONFIG, "num_labels", ..., "num_labels"),
        (CONFIG, "layers", [9, 1], r"layers must lie in 0\.\.2"),
        (CONFIG, "layers", [1, 1], "its weights do not fit"),
        (CONFIG, "layers", [], "layers must be"),
        (CONFIG, "layers", "2", "layers must be"),
        (CONFIG, "pooling", ["mean"], "pooling"),
        (CONFIG, "pooling", [[], 3], "pooling"),
        (CONFIG, "pooling", "max", "pooling must be one of"),
        (CONFIG, "queries", 5, "must divide the hidden size"),
        (CONFIG, "attention", "all", "attention must be one of"),
        (CONFIG, "attention", 3, "attention must be"),
        (CONFIG, "timestep", 1e9, "timestep"),
        (CONFIG, "timestep", 3, "its weights do not fit"),
        (CONFIG, "null_label", True, "null_label is for noised input"),
        (CONFIG, "prediction_type", 3, "prediction_type must be"),
        (CONFIG, "hidden_size", 10**30, "hidden_size"),
        (CONFIG, "layers", [10**8, 1], "100,000,000 layers"),
        (CONFIG, "axis_lengths", [4], "axis_lengths"),
        (CONFIG, "in_channels", 7, "in_channels|do not fit"),
        (CONFIG, "format_version", 2, "format version 2"),
        (CONFIG, "_class_name", "ACDiTTransformer", "is a ACDiTTransformer|is a 'ACDiTTransformer'"),
    ],
    ids=str,
)
def test_damaged_folders_are_refused_in_one_line(saved, file, key, value, words):
    content = json.loads((saved / file).read_text())
    content = {name: each for name, each in content.items() if name != key or value is not ...}
    (saved / file).write_text(json.dumps(content | ({} if value is ... else {key: value})))
    with pytest.raises(UserError, match=words) as caught:
        load_pipeline(saved, kind=ACDiTImageClassificationPipeline)
    assert "\n" not in str(caught.value) and str(saved) in str(caught.value)


@pytest.mark.parametrize(
    "missing", ["classifier/config.json", "classifier/*.safetensors", "model_index.json"]
)
def test_missing_files_are_named(saved, missing):
    (file,) = saved.glob(missing)
    file.unlink()
    with pytest.raises(UserError, match=missing.split("*", maxsplit=1)[0]):
        load_pipeline(saved, kind=ACDiTImageClassificationPipeline)


def test_weights_that_are_not_finite_are_refused(saved, tmp_path):
    pipeline = build_classifier()
    with torch.no_grad():
        pipeline.classifier.heads[0].linear.bias[1] = torch.nan
    with pytest.raises(UserError, match="weights of the pipeline"):
        pipeline.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    pipeline.classifier.save_pretrained(tmp_path / "part")
    shutil.rmtree(saved / "classifier")
    shutil.copytree(tmp_path / "part", saved / "classifier")
    index = json.loads((saved / INDEX).read_text())
    (saved / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"heads\.0\.linear\.bias"):
        load_pipeline(saved, kind=ACDiTImageClassificationPipeline)


def test_pipelines_of_another_kind_say_what_they_are(saved, tmp_path):
    with pytest.raises(
        UserError, match=r"a model of image classification .*, not one of images, text or video"
    ):
        load_pipeline(saved)
    with pytest.raises(UserError, match=r"not one of images$"):
        load_pipeline(saved, kind=acdit.ACDiTImagePipeline)
    build(network(4)).save_pretrained(tmp_path / "generator")
    with pytest.raises(UserError, match=r"a model of images .*, not one of image classification"):
        load_pipeline(tmp_path / "generator", kind=ACDiTImageClassificationPipeline)
    with pytest.raises(UserError, match=r"generator is a model of images: .*ACDiTImagePipeline"):
        acdit.ACDiTImageClassificationPipeline.from_pretrained(tmp_path / "generator")
    with pytest.raises(UserError, match=r"model is a model of image classification: "):
        acdit.ACDiTImagePipeline.from_pretrained(saved)
    with pytest.raises(UserError, match=r"generator/transformer is damaged: .*num_labels"):
        acdit.ACDiTForImageClassification.from_pretrained(tmp_path / "generator", subfolder="transformer")


def test_scores_that_are_not_finite_are_refused():
    pipeline = build_classifier()
    with torch.no_grad():
        pipeline.classifier.heads[0].linear.weight.fill_(3e38)
    with pytest.raises(UserError, match="the scores of the model are not finite"):
        pipeline(picture(1))
