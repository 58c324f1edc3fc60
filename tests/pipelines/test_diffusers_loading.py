"""Loading through diffusers itself and from the hub, as docs/diffusers.md says, and what code runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.auto_model import AutoModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

import acdit
from acdit.data.tokenizers import train_tokenizer
from acdit.pipelines.folders import folder_modality, pipeline_folder
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import build_text, latents_of, quiet, seeded
from tests.site.running import run_page


@pytest.fixture
def saved(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_diffusers_loads_a_folder_as_the_page_says(pipe, saved, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    expected = latents_of(pipe, 1, generator=seeded(1))
    state = pipe.transformer.state_dict()
    done = run_page("docs/diffusers.md", text=lambda text: text.replace("FOLDER", str(saved)))
    assert len(done) == 2
    for ran in done:
        loaded = ran.names["pipe"]
        assert type(loaded) is acdit.ACDiTImagePipeline
        assert torch.equal(latents_of(quiet(loaded), 1, generator=seeded(1)), expected)
    for arguments in ({"subfolder": "transformer"}, {}):
        folder = saved if arguments else saved / "transformer"
        network = AutoModel.from_pretrained(str(folder), **arguments, trust_remote_code=not arguments)
        assert type(network) is acdit.ACDiTTransformer
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_diffusers_loads_texts_with_the_tokenizer_of_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    own = quiet(build_text(tokenizer))
    own.save_pretrained(tmp_path / "text")
    loaded: Any = DiffusionPipeline.from_pretrained(str(tmp_path / "text"), trust_remote_code=True)
    assert type(loaded) is acdit.ACDiTTextPipeline and loaded.tokenizer_digest == own.tokenizer_digest
    texts = [pipe("the cat", generator=seeded(1)).texts for pipe in (quiet(loaded), own)]
    assert texts[0] == texts[1]
    (tmp_path / "text" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        DiffusionPipeline.from_pretrained(str(tmp_path / "text"), trust_remote_code=True)


def test_code_of_a_folder_runs_only_where_it_is_trusted(saved, tmp_path):
    for file in (saved / "pipeline.py", saved / "transformer" / "network.py"):
        file.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    for load in (load_pipeline, acdit.ACDiTImagePipeline.from_pretrained):
        load(saved)
    acdit.ACDiTImagePipeline.from_pretrained(saved, trust_remote_code=True)
    acdit.ACDiTTransformer.from_pretrained(saved, subfolder="transformer")
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(saved)
    assert not (tmp_path / "sprung").exists()


def test_folders_of_both_forms_are_read(pipe, saved):
    expected = latents_of(pipe, 1, generator=seeded(1))
    index = json.loads((saved / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "ACDiTImagePipeline"]
    for form in (["pipeline", "ACDiTImagePipeline"], "ACDiTImagePipeline"):
        (saved / "model_index.json").write_text(json.dumps(index | {"_class_name": form}))
        assert folder_modality(pipeline_folder(saved)).name == "image"
        assert torch.equal(latents_of(quiet(load_pipeline(saved)), 1, generator=seeded(1)), expected)
    (saved / "pipeline.py").unlink()
    load_pipeline(saved)


def cached(folder: Path, cache: Path, name: str = "org/name", revision: str = "main") -> None:
    """Store a folder as the hub's client stores a model that it has fetched."""
    place = cache / ("models--" + name.replace("/", "--"))
    commit = "0" * 39 + str(len(revision) % 10)
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / revision).write_text(commit)


def test_models_come_from_the_hub_with_all_their_files(pipe, saved, tmp_path):
    cached(saved, tmp_path / "cache")
    given = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    loaded = quiet(acdit.ACDiTImagePipeline.from_pretrained("org/name", **given))
    assert torch.equal(latents_of(loaded, 1, generator=seeded(1)), latents_of(pipe, 1, generator=seeded(1)))
    shakespeare = Path(acdit.__file__).parent / "pretrained" / "shakespeare"
    cached(shakespeare, tmp_path / "cache", "org/text", "v2")
    text = acdit.ACDiTTextPipeline.from_pretrained("org/text", revision="v2", **given)
    own = acdit.ACDiTTextPipeline.from_pretrained(shakespeare)
    assert text.tokenizer_digest == own.tokenizer_digest
    with pytest.raises(
        UserError, match=r"org/text is neither a folder nor a model in the cache.* was not asked"
    ):
        acdit.ACDiTTextPipeline.from_pretrained("org/text", **given)  # not of the revision main


@pytest.mark.parametrize("name", ["org/missing", "no/such/place", "..", "a b"])
def test_what_cannot_be_had_is_refused_in_one_line(name, tmp_path):
    for cls in (acdit.ACDiTTextPipeline, acdit.ACDiTImagePipeline):
        with pytest.raises(UserError) as caught:
            cls.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)
        assert name in str(caught.value) and "\n" not in str(caught.value)
