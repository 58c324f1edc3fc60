"""`acdit evaluate` of a model of video against real clips of its kind."""

import pytest
import torch

from acdit.cli.main import main
from acdit.data.video_decoding import decode_clip
from acdit.metrics.distances import frechet
from acdit.metrics.neighbours import coverage_density
from acdit.pipelines.loading import load_pipeline
from tests.data.clip_files import shape, write
from tests.evaluation.stored import score, series, stored
from tests.pipelines.small import NAMES, quiet
from tests.pipelines.test_video import build

COUNT = 8


class Levels(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.mean(dim=(1, 3, 4))[:, ::2]  # (N, 3) of 6 frames


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model of colour video of three classes, real videos of two of them, and a network of features."""
    folder = tmp_path_factory.mktemp("place")
    build(channels=3).save_pretrained(folder / "model")
    for name, first in ((NAMES[0], 0), (NAMES[2], 5)):
        (folder / "real" / name).mkdir(parents=True)
        for index in range(COUNT // 2):
            write(folder / "real" / name / f"{index}.mp4", range(first + index, first + index + 12))
    torch.jit.script(Levels()).save(str(folder / "levels.pt"))
    return folder


WORDS = ["evaluate", "--model", "model", "--data", "real", "--features", "levels.pt", "--trust-features"]


def test_drawn_and_continued_clips_are_compared_with_real_ones(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    more = ["--stride", "2", "--frames", "12", "--batch", "3", "--seed", "5", "--out", "scores.json"]
    assert main([*WORDS, *more]) == 0
    (report,) = stored(place / "scores.json")

    files = sorted((place / "real").rglob("*.mp4"))
    real = torch.stack([decode_clip(str(file), shape(6, 2, edge=8), 0.5) for file in files])
    pipe = quiet(load_pipeline(place / "model"))
    labels = [0] * (COUNT // 2) + [2] * (COUNT // 2)

    def seeds():
        return [torch.Generator().manual_seed(5 + index) for index in range(COUNT)]

    def features(frames):  # (N, F, C, H, W) in [0, 1]
        return Levels()(2 * frames.transpose(1, 2) - 1)

    found, of_real = features(pipe(labels, generator=seeds(), output_type="pt").frames), Levels()(real)
    distance = score(report, "frechet_distance")
    assert (distance["samples"], distance["reference"], distance["real"]) == (COUNT, COUNT, None)
    assert distance["value"] == pytest.approx(frechet(found, of_real), rel=1e-3)
    values = [score(report, name)["value"] for name in ("coverage", "density")]
    assert values == pytest.approx(coverage_density(of_real, found, 5))
    prefix = (real[:, :, :2].transpose(1, 2) + 1) / 2
    long = pipe(labels, generator=seeds(), prefix=prefix, num_frames=12, output_type="pt").frames
    drift = series(report, "drift")
    assert drift["positions"] == [0, 6] and drift["features"] == "torchscript"
    expected = [frechet(features(part), of_real) for part in long.split(6, 1)]
    assert drift["values"] == pytest.approx(expected, rel=1e-3)
    said = capsys.readouterr().out
    assert "frechet_distance" in said and "there are no values of real data" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--samples", "9", "--count", "9"], "leave out one of them"),
        (["--frames", "8"], "--frames must be a multiple of 6"),
        (["--plot", "a.png"], "--plot shows a --sweep, or continued moving digits"),
        (["--data", "nowhere.csv"], "does not exist"),
        (["--stride", "0"], "--stride must be at least 1"),
        (["--judge", "gpt"], "--judge: only for models of text"),
        (["--stride", "20"], "holds no readable video"),
        (["--window", "2"], "--window and --sinks are for continued clips, of more frames than the 6"),
        (["--sinks", "1", "--frames", "6"], "--window and --sinks are for continued clips"),
        (["--data", "moving-digits", "--stride", "2"], "moving-digits holds clips that are drawn"),
        (["--data", "clips.npz", "--stride", "2"], "clips that are cut already: leave out --stride"),
        (["--data", "clips.npz", "--split", "test"], "compared with as a whole: leave out --split"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_take_one_line(place, words, said, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main([*WORDS, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_what_is_needed_for_a_comparison_is_said(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(["evaluate", "--model", "model"]) == 2
    assert "give real data of its kind with --data" in capsys.readouterr().err
    assert main(["evaluate", "--model", "model", "--stride", "2"]) == 2
    assert "--stride applies to the real videos" in capsys.readouterr().err
    assert main(["evaluate", "--model", "moving-digits", "--real", "clips.npz"]) == 2
    assert "--real stands beside the real clips of --data: add --data" in capsys.readouterr().err
    write(place / "real" / "elephant.mp4")
    (place / "real" / "elephant").mkdir()
    write(place / "real" / "elephant" / "0.mp4")
    assert main(WORDS) == 2
    assert "'elephant'" in capsys.readouterr().err


def test_real_clips_without_classes(place, monkeypatch, capsys, tmp_path):
    """They go with a model of one class, whose name is none or that of an earlier folder, and no others."""
    monkeypatch.chdir(place)
    for index in range(6):
        (tmp_path / "flat").mkdir(exist_ok=True)
        write(tmp_path / "flat" / f"{index}.mp4", range(index, index + 12))
    words = ["evaluate", "--data", str(tmp_path / "flat"), "--features", "levels.pt", "--trust-features"]
    assert main([*words, "--model", "model"]) == 2
    assert "--data has no classes, but the model has 3" in capsys.readouterr().err
    for name in ("", "birds"):
        out = tmp_path / f"model {name}"
        build(channels=3, classes=1, id2label={0: name}).save_pretrained(out)
        assert main([*words, "--model", str(out), "--steps", "1"]) == 0
