"""ACDiTImagePipeline on disk: the same bits back, nothing missing, nothing executed."""

import json
import logging
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

import acdit
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import NAMES, latents_of, quiet, seeded


def content(folder: Path):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def saved(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_save_and_load_round_trip(pixels, tmp_path):
    pixels.save_pretrained(tmp_path)
    loaded = quiet(ACDiTImagePipeline.from_pretrained(tmp_path))
    arguments = {"class_labels": ["bee", "cow"], "output_type": "np"}
    before, after = (pipeline(**arguments, generator=seeded(1, 2)).images for pipeline in (pixels, loaded))
    assert np.array_equal(before, after) and before.std() > 0.1
    names = [name for name in pixels.config if not name.startswith("_")]
    assert len(names) > 8
    assert all(loaded.config[name] == pixels.config[name] for name in names if name not in loaded.components)
    assert loaded.layout == pixels.layout and loaded.label_names == NAMES
    assert type(loaded.scheduler) is type(pixels.scheduler)
    assert not loaded.transformer.training


def test_the_index_tells_all_that_a_call_needs(saved):
    index = json.loads((saved / "model_index.json").read_text())
    expected = {
        "_class_name": ["pipeline", "ACDiTImagePipeline"],
        "transformer": ["acdit", "ACDiTTransformer"],
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "vae": [None, None],
        "grid": [4, 4],
        "block": [2, 2],
        "patch": [2, 2],
        "id2label": {"0": "ant", "1": "bee", "2": "cow"},
        "pixel_range": [-1.0, 1.0],
        "num_inference_steps": 3,
        "guidance_scale": 1.5,
        "vae_scale_factor": 1,
        "format_version": 1,
        "data_source": None,
    }
    assert {key: value for key, value in index.items() if key != "_diffusers_version"} == expected


def test_no_pickle_is_written(saved):
    assert content(saved) == [
        "model_index.json",
        "pipeline.py",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "transformer/network.py",
    ]
    header = (saved / "transformer/diffusion_pytorch_model.safetensors").read_bytes()[8:9]
    assert header == b"{"


def test_the_public_names_load_it(pipe, saved):
    loaded = quiet(acdit.ACDiTImagePipeline.from_pretrained(saved))
    assert type(loaded) is ACDiTImagePipeline and isinstance(loaded, DiffusionPipeline)
    assert torch.equal(latents_of(loaded, 1, generator=seeded(1)), latents_of(pipe, 1, generator=seeded(1)))
    network = acdit.ACDiTTransformer.from_pretrained(saved, subfolder="transformer")
    expected = pipe.transformer.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def test_loading_warns_of_nothing(saved):
    """diffusers compares what it reads with the types that the constructor declares."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("diffusers").addHandler(handler)
    try:
        ACDiTImagePipeline.from_pretrained(saved)
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert said == []


def test_a_newer_format_is_refused(saved):
    index = json.loads((saved / "model_index.json").read_text())
    (saved / "model_index.json").write_text(json.dumps(index | {"format_version": 2}))
    with pytest.raises(UserError, match=r"format version 2.*upgrade"):
        ACDiTImagePipeline.from_pretrained(saved)


def test_loading_with_another_scheduler(pipe, saved):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert ACDiTImagePipeline.from_pretrained(saved, scheduler=scheduler).scheduler is scheduler


def test_load_pipeline_takes_a_pipeline_or_a_run(pipe, saved, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copytree(saved, run / "pipeline")
    expected = latents_of(pipe, 1, generator=seeded(1))
    for path in (saved, run):
        assert torch.equal(latents_of(quiet(load_pipeline(path)), 1, generator=seeded(1)), expected)


def one_line(caught, *words):
    message = str(caught.value)
    assert message and "\n" not in message
    assert all(str(word) in message for word in words)


@pytest.mark.parametrize(
    "missing", ["transformer/config.json", "scheduler/scheduler_config.json", "transformer/*.safetensors"]
)
@pytest.mark.parametrize("form", ["pipeline", "run"])
def test_a_model_directory_without_a_file_is_refused_by_name(saved, tmp_path, missing, form):
    (file,) = saved.glob(missing)
    file.unlink()
    if form == "run":
        (tmp_path / "run").mkdir()
        saved = saved.rename(tmp_path / "run" / "pipeline").parent
    with pytest.raises(UserError) as caught:
        load_pipeline(saved)
    one_line(caught, saved, *missing.split("*"))


def test_a_run_that_has_not_exported_yet_is_refused(tmp_path):
    (tmp_path / "checkpoints" / "step-00000100").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        load_pipeline(tmp_path)
    one_line(caught, tmp_path, "model_index.json")


@pytest.mark.parametrize("missing", ["vae/config.json", "vae/*.safetensors"])
def test_a_missing_file_of_the_autoencoder_is_named_too(latent_pipe, tmp_path, missing):
    latent_pipe.save_pretrained(tmp_path)
    (file,) = tmp_path.glob(missing)
    file.unlink()
    with pytest.raises(UserError) as caught:
        load_pipeline(tmp_path)
    one_line(caught, tmp_path, *missing.split("*"))


def test_a_place_that_holds_nothing_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UserError) as caught:
            load_pipeline(path)
        one_line(caught, path, "model_index.json")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


LOADERS = pytest.mark.parametrize(
    "load", [load_pipeline, ACDiTImagePipeline.from_pretrained], ids=["load_pipeline", "from_pretrained"]
)


@LOADERS
@pytest.mark.parametrize("safe_too", [False, True])
def test_a_pickle_in_the_folder_is_never_executed(saved, tmp_path, safe_too, load):
    weights = saved / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.with_suffix(".bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    if safe_too:
        load(saved)
    else:
        weights.unlink()
        with pytest.raises((UserError, OSError), match="safetensors"):
            load(saved)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(weights.with_suffix(".bin").read_bytes()).close()
    assert (tmp_path / "sprung").exists()  # the trap works


@LOADERS
def test_an_index_that_names_another_library_is_refused(saved, tmp_path, monkeypatch, load):
    """A downloaded index must not choose what is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    index = json.loads((saved / "model_index.json").read_text())
    (saved / "model_index.json").write_text(json.dumps(index | {"vae": ["stranger", "Thing"]}))
    (saved / "vae").mkdir()
    try:
        with pytest.raises(ValueError, match="stranger"):
            load(saved)
    finally:
        sys.modules.pop("stranger", None)
    assert not (tmp_path / "sprung").exists()
