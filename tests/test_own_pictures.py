"""A person's own photographs, from the folder to the sample, by the command line alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from tests.evaluation.stored import score, stored

pytestmark = pytest.mark.long
SMALL = [
    *("--model.num_layers", "2", "--model.hidden_size", "32", "--model.num_heads", "2"),
    *("--training.batch_size", "8", "--training.steps", "400", "--training.checkpoint_every", "5"),
    *("--training.sample_every", "5", "--validation.every", "10", "--validation.images", "4"),
    *("--training.log_every", "1", "--sampling.steps", "2"),
]


@pytest.fixture
def photographs(tmp_path):
    """Twelve cuts of 160x160 pixels from each of three photographs that come in packages."""
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    sources = {
        "China temple": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
        "portrait": np.asarray(Image.open(portrait)),
    }
    random = np.random.default_rng(0)
    for name, pixels in sources.items():
        (tmp_path / "My photos" / name).mkdir(parents=True)
        for index in range(12):
            top, left = (int(random.integers(0, side - 160)) for side in pixels.shape[:2])
            cut = Image.fromarray(pixels[top : top + 160, left : left + 160])
            cut.save(tmp_path / "My photos" / name / f"IMG {index}.jpg")
    return tmp_path / "My photos"


def test_photographs_in_three_classes(photographs, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def acdit(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "acdit", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )

    plan = acdit("plan", "My photos", *SMALL)
    assert plan.returncode == 0, plan.stderr
    assert "3 in the data" in plan.stdout and "0.1 of the files of every class" in plan.stdout

    words = [sys.executable, "-m", "acdit", "train", "My photos", *SMALL]
    checkpoints = tmp_path / "runs" / "My-photos" / "checkpoints"
    first = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    while not list(checkpoints.glob("step-*5")):
        assert first.poll() is None, first.stderr.read()
    first.send_signal(signal.SIGKILL)
    first.wait()

    done = acdit("train", "My photos", *SMALL, "--training.steps", "40")
    assert done.returncode == 0 and "the trained pipeline is in runs/My-photos/pipeline" in done.stdout
    log = [
        json.loads(line) for line in (tmp_path / "runs" / "My-photos" / "log.jsonl").read_text().splitlines()
    ]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 41))
    measured = [entry["validation"]["loss"] for entry in log if "validation" in entry]
    assert len(measured) == 4 and measured[-1] < measured[0]
    with Image.open(tmp_path / "runs" / "My-photos" / "samples" / "step-00000040.png") as grid:
        width = 3 * (64 + 4) + 4  # a column for each class, in colour, by averaged and by raw weights
        assert grid.size == (2 * width + 16, 22 + 4 * (64 + 4) + 4)

    facts = acdit("info", "runs/My-photos")
    assert facts.returncode == 0 and "classes" in facts.stdout
    sampled = acdit(
        *("sample", "--model", "runs/My-photos", "--labels", "China temple,portrait", "--samples", "2"),
        *("--out", "two.png"),
    )
    assert sampled.returncode == 0, sampled.stderr
    with Image.open(tmp_path / "two.png") as picture:
        assert picture.size == (2 * (64 + 4) + 4, 2 * (64 + 4) + 4)
        assert np.asarray(picture).std() > 1

    # evaluate, sweep and neighbours, with the data that the run records, whose held-out part is too small
    scored = acdit(
        "evaluate", "--model", "runs/My-photos", "--count", "12", "--steps", "1", "--out", "own.json"
    )
    assert scored.returncode == 0, scored.stderr
    (report,) = stored(tmp_path / "own.json")
    distance = score(report, "frechet_distance")
    assert distance["features"] == "efficientnet-lite0" and (distance["samples"], distance["reference"]) == (
        12,
        16,
    )
    assert 0 < distance["real"] < distance["value"]  # the model is hardly trained
    assert score(report, "nearest_ratio", "pixels")["value"] > 0
    assert "3 items of My photos are held out" in scored.stdout and "efficientnet-lite0" in scored.stdout
    swept = acdit(
        *("evaluate", "--model", "runs/My-photos", "--features", "pixels", "--count", "12"),
        *("--metrics", "frechet_distance,coverage", "--sweep", "guidance=1,2", "steps=1,2", "checkpoint=40"),
        *("ema=none", "--plot", "sweep.png", "--out", "sweep.json"),
    )
    assert swept.returncode == 0, swept.stderr
    assert sum(line.startswith("*") for line in swept.stdout.splitlines()) == 1
    settings = [one["settings"] for one in stored(tmp_path / "sweep.json")]
    assert [(one["guidance"], one["steps"]) for one in settings] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    near = acdit(
        *("evaluate", "--model", "runs/My-photos", "--count", "12", "--steps", "1", "--features", "pixels"),
        *("--neighbours", "neighbours.png", "--out", "near.json"),
    )
    assert near.returncode == 0, near.stderr
    for name in ("sweep.png", "neighbours.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 250 and np.asarray(picture.convert("RGB")).std() > 1
    drawn = acdit("sample", "--model", "runs/My-photos", "--count", "12", "--steps", "1", "--out", "own.npz")
    assert drawn.returncode == 0, drawn.stderr
    finished = acdit("evaluate", "--samples", "own.npz", "--data", "My photos", "--features", "pixels")
    assert finished.returncode == 0 and "frechet_distance" in finished.stdout, finished.stderr

    unknown = acdit("sample", "--model", "runs/My-photos", "--labels", "dog")
    assert unknown.returncode == 2 and "China temple" in unknown.stderr and unknown.stderr.count("\n") == 1
