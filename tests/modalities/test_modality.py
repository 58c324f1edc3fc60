"""The table of modalities: what it names is there, and is what it says."""

import inspect
from dataclasses import fields

import pytest
import torch

from acdit.data.config import DataConfig
from acdit.data.dataset import PixelDataset
from acdit.data.opening import open_samples
from acdit.diffusion.schedulers import SCHEDULERS
from acdit.modalities.modality import Modality
from acdit.modalities.table import (
    GENERATED,
    MODALITIES,
    modality_of_data,
    modality_of_layout,
    modality_of_pipeline,
)
from acdit.pipelines.block_pipeline import BlockPipeline
from acdit.pipelines.stored_pipeline import StoredPipeline
from acdit.training.config import Recipe
from acdit.training.objectives import OBJECTIVES
from acdit.training.run import Run
from acdit.utils.errors import UserError
from acdit.utils.references import load_object
from acdit.utils.settings import build, fields_of
from tests.training.small import advance

NAMES = list(MODALITIES)
TINY = {
    "model.num_layers": 1,
    "model.hidden_size": 16,
    "model.num_heads": 1,
    "training.batch_size": 2,
    "training.precision": "no",
    "sampling.steps": 1,
}
DATA = {
    "image": {"data.source": "digits", "layout.patch": 4, "layout.blocks": ["2x2"]},
    "video": {
        "data.source": "moving-digits",
        "data.frames": 2,
        "layout.patch": 16,
        "layout.blocks": ["1x2x2"],
    },
    "text": {"data.source": "shakespeare", "data.tokens": 16, "layout.blocks": ["8"]},
}


def references(modality: Modality) -> dict[str, str]:
    """The import strings of a modality, by the attribute that holds them."""
    values = {field.name: getattr(modality, field.name) for field in fields(modality)}
    return {name: value for name, value in values.items() if isinstance(value, str) and ":" in value}


@pytest.mark.parametrize("name", NAMES)
def test_every_import_string_names_something(name):
    modality = MODALITIES[name]
    found = {attribute: load_object(value) for attribute, value in references(modality).items()}
    assert len(found) >= (9 if name in GENERATED else 6) and all(map(callable, found.values()))
    pipeline = found["pipeline"]
    assert inspect.isclass(pipeline)
    assert issubclass(pipeline, BlockPipeline if name in GENERATED else StoredPipeline)
    assert modality_of_pipeline(pipeline.__name__) is modality


@pytest.mark.parametrize("name", NAMES)
def test_every_key_and_name_is_one_that_there_is(name):
    modality = MODALITIES[name]
    sections = {f"{key.partition('.')[0]}.*" for key in fields_of(Recipe) if "." in key}
    assert set(modality.unused_keys) <= {*fields_of(Recipe), *sections}
    assert {*modality.not_encoded, *filter(None, [modality.length_key])} <= set(fields_of(DataConfig))
    assert modality.objective in OBJECTIVES[modality.noise]
    assert set(modality.objectives) <= set(OBJECTIVES[modality.noise])
    assert bool(SCHEDULERS.get(modality.noise)) == (name in GENERATED)


def recipe(name: str, folder: str, **values: object) -> Recipe:
    return build(Recipe, TINY | DATA[name] | {"out": folder} | values)


@pytest.mark.parametrize("name", list(GENERATED))
def test_data_are_of_the_modality_whose_length_they_give(name, tmp_path):
    modality = MODALITIES[name]
    asked = recipe(name, str(tmp_path))
    assert asked.modality is modality is modality_of_data(asked.data)
    data = open_samples(asked.data, seed=0)
    assert isinstance(data, PixelDataset) and len(data.size) == modality.axes
    assert modality_of_layout(modality.axes) is modality
    assert modality.lengths(asked.data) == data.size[: len(data.size) - 2] or modality.axes == 1


@pytest.mark.parametrize("name", list(GENERATED))
def test_a_run_exports_and_previews_what_its_modality_says(name, tmp_path):
    modality = MODALITIES[name]
    run = Run(recipe(name, str(tmp_path / "run"), **{"training.steps": 1}))
    advance(run, 1)
    pipeline = run.pipeline()
    assert type(pipeline) is load_object(modality.pipeline)
    assert pipeline is not None and pipeline.layout == run.layouts[0]
    network = pipeline.transformer.config
    assert network[modality.values_key] == run.data.values * run.layouts[0].patch_elements
    assert network["time_conditioning"] == modality.time_conditioning
    pipeline.set_progress_bar_config(disable=True)
    preview = load_object(modality.preview)
    assert callable(preview)
    preview(
        {"averaged": pipeline},
        list(range(min(2, len(run.data.label_names)))),
        tmp_path / "samples" / "step-1",
    )
    (written,) = (tmp_path / "samples").iterdir()
    assert written.suffix == {"text": ".txt"}.get(name, ".png") and written.stat().st_size > 30
    assert torch.get_default_dtype() == torch.float32


def test_several_lengths_at_once_and_unused_keys_are_refused():
    with pytest.raises(UserError, match=r"data\.tokens is for text, data\.frames for video: leave out one"):
        DataConfig(frames=4, tokens=16)
    with pytest.raises(
        UserError, match=r"diffusion\.min_snr is for images and video, not for texts \(data\.tokens\)"
    ):
        recipe("text", "unused", **{"diffusion.min_snr": 5.0})
    for modality, key, value in (
        ("image", "data.frame_stride", 2),
        ("image", "data.short_clips", "skip"),
        ("video", "data.tokenizer", "gpt2"),
        ("text", "data.frame_stride", 2),
        ("text", "data.image_size", 8),
        ("text", "data.flip", False),
    ):
        with pytest.raises(UserError, match=rf"^{key} is for .*, not for .*: leave it out$"):
            recipe(modality, "unused", **{key: value})
    with pytest.raises(UserError, match=r"no modality has layouts of 7 axes"):
        modality_of_layout(7)
    with pytest.raises(UserError, match=r"data\.source digits holds images: leave out data\.frames"):
        open_samples(DataConfig(source="digits", frames=4), seed=0)
