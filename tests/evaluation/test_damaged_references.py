"""Damaged files among the real samples of an evaluation: left out, named and counted, never replaced."""

import io
import shutil

import numpy as np
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.data.image_decoding import decode_image
from acdit.training.run import Run
from acdit.training.validation import Validation
from tests.data.clip_files import write
from tests.evaluation.stored import stored
from tests.evaluation.test_clip_comparison import WORDS, place
from tests.training.small import small_recipe

__all__ = ["place"]  # a fixture


def test_damaged_clips_are_left_out_named_and_counted(place, tmp_path, monkeypatch, capsys):
    """The scores are those without the file, whose beginning is good but whose middle is missing."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--frames", "12", "--seed", "5", "--out", "scores.json"]
    assert main(words) == 0
    (whole,) = stored(tmp_path / "scores.json")
    assert whole["reference"]["count"] == 8 and "left_out" not in whole["reference"]

    folder = next(child for child in sorted((tmp_path / "real").iterdir()))
    encoded = write(tmp_path / "whole.avi", codec="mpeg4").read_bytes()
    chunks = [start for start in range(len(encoded)) if encoded[start : start + 4] == b"00dc"]
    (folder / "1-damaged.avi").write_bytes(encoded[: chunks[12]])
    (folder / "2-text.mp4").write_text("no video")
    assert main(words) == 0
    (report,) = stored(tmp_path / "scores.json")
    reference = report["reference"]
    names = [name.rsplit("/", 1)[1] for name in reference["left_out_files"]]
    assert sorted(names) == ["1-damaged.avi", "2-text.mp4"]
    assert reference["left_out"] == 2 and "2 items of real skipped; " in capsys.readouterr().out
    assert (report["scores"], report["series"]) == (whole["scores"], whole["series"])

    for path in sorted((tmp_path / "real").rglob("*.mp4"))[:4]:
        path.with_suffix(".avi").write_bytes(encoded[: chunks[12]])
        path.unlink()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "readable items, but at least 6 are needed" in err and err.count("\n") == 1


def test_damaged_pictures_are_no_part_of_the_validation(tmp_path):
    paths = []
    for index in range(6):
        name = tmp_path / "pictures" / "ab"[index % 2] / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * index, np.uint8)).save(name)
        paths.append(name)
    data = {"source": str(tmp_path / "pictures"), "image_size": 8, "channels": 1}
    validation = {"every": 1, "images": 6, "source": str(tmp_path / "pictures")}
    recipe = small_recipe(tmp_path / "run", data=data, validation=validation)
    run = Run(recipe)
    damaged = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    buffer = io.BytesIO()
    damaged.save(buffer, "PNG")
    paths[2].write_bytes(buffer.getvalue()[:500])
    measured = Validation(recipe, run.data.label_names, run.vae)
    assert list(measured.skipped) == [str(paths[2])]
    expected = torch.stack([decode_image(str(path), 8, 1) for path in paths if path != paths[2]])
    order = measured.data.flatten(1).mean(1).argsort()
    assert torch.equal(measured.data[order], expected) and measured.labels[order].tolist() == [0, 1, 1, 0, 1]
