"""Options that cannot have an effect are refused in one line."""

import pytest

from acdit.cli.evaluate_video import VideoEvaluateOptions
from acdit.cli.main import main
from tests.pipelines.small import build_text

TEXTS = ["evaluate", "--model", "shakespeare"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [*TEXTS, "--data", "shakespeare", "--split", "train", "--sequences", "1"],
            "--split 'train' has no effect on shakespeare, whose held-out works are read: leave it out",
        ),
        (
            [*TEXTS, "--order", "left", "--draws", "9", "--sequences", "1"],
            "--draws is for estimates, and --order left is exact",
        ),
        (
            [*TEXTS, "--data", "texts.txt", "--special-tokens", "true", "--sequences", "1"],
            "--special-tokens is for tokenizers that have some: leave it out",
        ),
        (
            ["sample", "--prompt", "To be", "--temperature", "0", "--top-p", "0.5"],
            "--temperature 0 takes the most likely tokens: leave out --top-p",
        ),
        (
            ["sample", "--labels", "3", "--guidance", "1", "--guidance-interval", "0.1,2"],
            "--guidance-interval has no effect with --guidance 1: leave it out",
        ),
        (
            ["sample", "--labels", "3", "--guidance", "1", "--guidance-rising"],
            "--guidance-rising has no effect with --guidance 1, which means none: leave it out",
        ),
        (
            ["sample", "--frames", "8", "--guidance", "1", "--guidance-rising"],
            "--guidance-rising has no effect with --guidance 1, which means none: leave it out",
        ),
        (
            ["evaluate", "--model", "mnist", "--trust-features"],
            "--trust-features is for a program in --features, such as i3d:FILE: leave it out",
        ),
    ],
)
def test_they_are_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("to be or not to be " * 50)
    assert main(words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_counted_estimates_are_not_for_networks_with_times(tmp_path, capsys):
    pipeline = build_text(time_conditioning=True)
    pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("to be or not to be " * 50)
    words = ["evaluate", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "texts.txt")]
    assert main([*words, "--estimate", "counts"]) == 2
    assert (
        "--estimate counts is for networks without time conditioning: leave it out" in capsys.readouterr().err
    )


def test_a_generator_of_video_as_a_classifier_may_plot_its_confusions():
    VideoEvaluateOptions(model="run", data="clips", metrics=["class_accuracy"], plot="confusion.png")


@pytest.mark.parametrize(
    "words", [["--labels", "3", "--samples", "1"], ["--prompt", "To be", "--out", "a.txt"]]
)
@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_alone_writes_a_picture_or_a_text(words, rank, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))
    more = ["--max-new-tokens", "4"] if "--prompt" in words else ["--steps", "1"]
    assert main(["sample", *words, *more]) == 0
    assert bool(capsys.readouterr().out) == bool(list(tmp_path.iterdir())) == (rank == 0)
