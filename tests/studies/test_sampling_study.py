"""`acdit study sampling`: what it measures, that it goes on, and what it refuses."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from acdit.cli import open_model as opening
from acdit.cli.main import main
from acdit.generation.batches import Sampling
from acdit.pipelines.folders import pipeline_folder
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.studies.design import run_study
from acdit.studies.sampling import SamplingMethod, sampling_design
from acdit.utils.errors import UserError
from tests.tiny import given

METHODS = (
    SamplingMethod("own", 2, 2),
    SamplingMethod("unipc", 3, 3),
    SamplingMethod("own", 4, 1),
    SamplingMethod("own", 6, 6, "middle"),
)


@pytest.fixture(scope="module")
def pipeline():
    made = load_pipeline(None, kind=ACDiTImagePipeline)
    made.set_progress_bar_config(disable=True)
    return made


def run(pipeline, folder, *, model=None, methods=METHODS, **options):
    model, sampling = pipeline_folder("mnist") if model is None else model, Sampling(**options)
    design = sampling_design(pipeline, model, sampling, samples=10, seeds=2, methods=methods)
    result = given(run_study(design, folder))
    assert result.files == tuple(
        folder / name for name in ("measurements.json", "sampling.md", "sampling.png")
    )
    print(result.report)
    return json.loads((folder / "measurements.json").read_text())


def test_every_way_is_measured_once(pipeline, tmp_path, capsys, monkeypatch):
    views = []
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda module, inputs: views.append(inputs[0].shape[1])
    )
    try:
        rows = run(pipeline, tmp_path)["rows"]
    finally:
        hook.remove()
    assert len(rows) == 2 * len(METHODS)
    assert sum(row["views"] for row in rows) == sum(views)  # one batch each
    cost = {(row["solver"], row["first"], row["seed"]): row["views"] for row in rows}
    assert cost["own", 2, 0] == 4 * 2 * 2 and cost["unipc", 3, 1] == 4 * 3 * 2
    assert cost["own", 4, 0] == 2 * (4 + 3 + 2 + 1)  # evenly down
    assert 4 * 6 < cost["own", 6, 0] < 4 * 6 * 2  # in the middle alone two views
    assert (tmp_path / "sampling.png").stat().st_size > 10_000
    table = capsys.readouterr().out
    assert "own 4..1" in table and "own 6, guidance in the middle" in table
    page = (tmp_path / "sampling.md").read_text()
    assert f"| own 4..1 | {cost['own', 4, 0]} |" in page

    # The same again draws nothing, and what was measured stands.
    path = tmp_path / "measurements.json"
    stored = json.loads(path.read_text())
    stored["rows"][0]["frechet_distance"] = 123.0
    path.write_text(json.dumps(stored))
    again = pipeline.transformer.register_forward_pre_hook(lambda *_: pytest.fail("it was drawn again"))
    try:
        assert run(pipeline, tmp_path)["rows"][0]["frechet_distance"] == 123.0
    finally:
        again.remove()

    with pytest.raises(UserError, match="other settings"):
        run(pipeline, tmp_path, guidance=2.0)
    assert stored["setting"]["dtype"] == "float32" and stored["setting"]["device"] == "cpu"
    with monkeypatch.context() as patched, pytest.raises(UserError, match="other settings"):
        patched.setattr(torch, "get_num_threads", lambda: 77)
        run(pipeline, tmp_path)
    del stored["rows"][1]["seconds"]
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="damaged"):
        run(pipeline, tmp_path)


def test_rows_of_other_weights_and_of_another_evaluator_are_not_mixed(pipeline, tmp_path):
    model = shutil.copytree(pipeline_folder("mnist"), tmp_path / "model")
    out = tmp_path / "out"
    assert len(run(pipeline, out, model=model, methods=METHODS[:1])["rows"]) == 2
    path = out / "measurements.json"
    before = path.read_text()

    # Another fit of the evaluator is seen in the distance of real digits.
    path.write_text(before.replace('"frechet_distance_real": ', '"frechet_distance_real": 1'))
    with pytest.raises(UserError, match="another fit of the evaluator"):
        run(pipeline, out, model=model, methods=METHODS[:2])
    path.write_text(before)

    # The same folder after more training.
    network = next(model.rglob("*.safetensors"))
    weights = load_file(network)
    weights[min(weights)] += 1
    save_file(weights, network)
    with pytest.raises(UserError, match=r"other settings \(weights \w+, not \w+\)"):
        run(pipeline, out, model=model, methods=METHODS[:1])
    assert path.read_text() == before


@pytest.mark.parametrize("content", ["", '{"setting": ', "[]", "{}", "null", "\x00"])
def test_a_file_that_is_no_measurements_is_named(pipeline, tmp_path, content):
    (tmp_path / "measurements.json").write_text(content)
    with pytest.raises(UserError, match=r"measurements\.json is damaged or does not belong to a study"):
        run(pipeline, tmp_path)


@pytest.mark.long
def test_seeds_draw_other_digits(pipeline, tmp_path):
    rows = run(pipeline, tmp_path)["rows"]
    by_way: dict[str, set[float]] = {}
    for row in rows:
        by_way.setdefault(f"{row['solver']} {row['first']}", set()).add(row["frechet_distance"])
    assert all(len(found) == 2 for found in by_way.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "study needs a name"),
        (["sampling", "--steps", "5"], "the study varies --steps, --fast and --guidance-interval"),
        (["sampling", "--samples", "3"], "--samples must be at least 10"),
        (["sampling", "--seeds", "1"], "--seeds must be at least 2"),
    ],
)
def test_refusals(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(opening, "load_pipeline", lambda *_: pytest.fail("it was loaded"))
    (tmp_path / "file").touch()
    assert main(["study", "sampling", "--out", str(tmp_path / "file" / "study")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_more_samples_than_there_are_real_digits_are_refused(pipeline, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(opening, "load_pipeline", lambda *_: pipeline)
    assert main(["study", "sampling", "--out", str(tmp_path / "study"), "--samples", "5000"]) == 2
    assert "--samples must be at most 1000" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
