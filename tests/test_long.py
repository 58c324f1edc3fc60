"""What a newcomer does, from end to end: the demo, and the wheel in an environment of its own."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from acdit.cli import first_run
from tests.evaluation.stored import score

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent


def test_the_demo_trains_samples_and_scores(tmp_path, capsys):
    out = tmp_path / "demo"
    first_run.main(out, training={"steps": 150})
    report = json.loads((out / "report.json").read_text())
    assert [row["settings"]["guidance"] for row in report["reports"]] == [1.0, 1.5]
    for row in report["reports"]:
        accuracy = score(row, "label_accuracy")
        assert accuracy["samples"] == 359 and accuracy["real"] >= 0.98
    with Image.open(out / "samples.png") as picture:
        assert picture.size == (10 * 68 + 4, 8 * 68 + 4)
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert len(said.splitlines()) < 24  # one screen


def test_the_wheel_works_in_an_environment_of_its_own(tmp_path):
    """Built, installed where nothing of this checkout is, and run with no argument and no network."""
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        subprocess.run([sys.executable, "-m", "ensurepip"], check=True, capture_output=True)
    build = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = wheels.glob("acdit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "acdit/recipes/mnist.yaml" in names
    assert "acdit/pretrained/mnist/transformer/diffusion_pytorch_model.safetensors" in names
    assert not [name for name in names if name.startswith("tests/")]

    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / "bin" / "python"
    pins = str(ROOT / "constraints.txt")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-c", pins, str(wheel)], check=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    clean |= {"HF_HUB_OFFLINE": "1"}

    def acdit(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(home / "bin" / "acdit"), *words]
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)

    done = acdit("sample", "--samples", "1")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (72, 10 * 68 + 4)
    lacking = acdit("train", "digits")
    assert lacking.returncode == 2
    assert "pip install 'acdit[examples]'" in lacking.stderr
    assert "Traceback" not in lacking.stderr
