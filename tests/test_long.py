"""What a newcomer does, from end to end: the demo, and the wheel in an environment of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acdit.cli import first_run
from tests.evaluation.stored import score, stored

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent
# Runs the words after it where there is no network but the loopback device.
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
# Serves the page, asks it for a picture, and ends it; both sides are in the environment.
ASK_THE_PAGE = """
import json, subprocess, sys, urllib.request

command = [sys.argv[1], "demo", "--port", "0", "--device", "cpu"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    address = next(word for word in server.stdout.readline().split() if word.startswith("http://"))
    page = urllib.request.urlopen(address).read().decode()
    draw = {"model": sys.argv[2], "label": 1, "block": sys.argv[3], "steps": 2, "guidance": 1.0, "seed": 0}
    asked = urllib.request.Request(
        address + "/api/draw", json.dumps(draw).encode(), {"Content-Type": "application/json"}
    )
    events = [json.loads(line) for line in urllib.request.urlopen(asked)]
    server.terminate()
print(json.dumps({"page": page, "events": events}))
"""


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


class Installed:
    """An environment that has the wheel and what it needs, and nothing of this checkout.

    Args:
        folder: folder of the environment and of what commands write.
    """

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "environment" / "bin"
        can = (
            all(map(shutil.which, ("unshare", "ip")))
            and not subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode
        )
        self._prefix = WITHOUT_NETWORK if can else ()  # elsewhere the network is there, and is not used
        variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._variables = variables | {"HF_HUB_OFFLINE": "1"}

    def install(self, *words: str) -> None:
        """Install packages."""
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *words], check=True)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, without network where that is possible."""
        command = [*self._prefix, str(self.bin / words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=self.folder, env=self._variables, capture_output=True, text=True, check=False
        )

    def acdit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command that is to succeed."""
        done = self.run("acdit", *words)
        assert done.returncode == 0, done.stderr
        return done

    def refused(self, *words: str) -> str:
        """Run a command that the user can mend; return its one line."""
        done = self.run("acdit", *words)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and lines[-1].startswith("acdit: error: "), done.stderr
        assert "Traceback" not in done.stderr
        return lines[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the checkout."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        subprocess.run([sys.executable, "-m", "ensurepip"], check=True, capture_output=True)
    build = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True)
    (path,) = wheels.glob("acdit-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel, and beside it a folder of pictures of two classes."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
    installed = Installed(folder)
    installed.install(str(wheel))
    random = np.random.default_rng(0)
    for name, least in (("dark", 0), ("light", 128)):
        (folder / "pictures" / name).mkdir(parents=True)
        for index in range(6):
            levels = random.integers(least, least + 128, (20, 16, 3), dtype=np.uint8)
            Image.fromarray(levels).save(folder / "pictures" / name / f"{index}.png")
    return installed


def test_the_wheel_holds_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "acdit/recipes/mnist.yaml" in names
    assert "acdit/pretrained/mnist/transformer/diffusion_pytorch_model.safetensors" in names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_wheel_samples_in_an_environment_of_its_own(wheel, installed):
    """Installed where nothing of this checkout is, and run with no argument and no network."""
    installed.acdit("sample", "--samples", "1")
    with Image.open(installed.folder / "samples.png") as picture:
        assert picture.size == (72, 10 * 68 + 4)
    # a picture, a clip and a text with the core alone, without av, transformers or tokenizers
    (version,) = re.findall(r"^acdit-([^-]+)-", wheel.name)
    assert installed.acdit("--version").stdout == f"{version}\n"
    installed.acdit(
        "sample", "--model", "moving-digits", "--labels", "3", "--steps", "2", "--out", "three.gif"
    )
    with Image.open(installed.folder / "three.gif") as picture:
        assert (picture.format, getattr(picture, "n_frames", 1)) == ("GIF", 8)
    text = installed.acdit("sample", "--prompt", "To be, or not to be", "--max-new-tokens", "16").stdout
    assert text.startswith("To be, or not to be") and len(text) > len("To be, or not to be")


def test_the_wheel_trains_recognises_and_evaluates(installed):
    """With the core alone, on pictures of one's own."""
    installed.acdit("sample", "--labels", "3", "--samples", "1", "--out", "three.png")
    recognised = json.loads(installed.acdit("classify", "three.png", "--json").stdout)
    assert recognised["predictions"][0]["label"] == "3"
    small = ("--model.num_layers", "1", "--model.hidden_size", "16", "--model.num_heads", "2")
    short = ("--training.steps", "2", "--training.batch_size", "4", "--layout.blocks", "2x2")
    trained = installed.acdit("train", "pictures", "--data.image_size", "16", *small, *short)
    assert "the trained pipeline is in runs/pictures/pipeline" in trained.stdout
    own = ("--model", "runs/pictures", "--steps", "1")
    installed.acdit("sample", *own, "--labels", "dark,light", "--samples", "1", "--out", "own.png")
    with Image.open(installed.folder / "own.png") as picture:
        assert picture.mode == "RGB" and np.asarray(picture).std() > 1
    scored = installed.acdit("evaluate", *own, "--count", "4", "--out", "own.json")
    (report,) = stored(installed.folder / "own.json")
    assert score(report, "nearest_ratio", "pixels")["value"] > 0
    assert "pip install 'acdit[eval]' adds other features" in scored.stdout
    installed.acdit("evaluate", "--count", "4", "--steps", "1", "--out", "digits.json")
    (report,) = stored(installed.folder / "digits.json")
    assert score(report, "label_accuracy")["samples"] == 4


def test_what_the_wheel_alone_cannot_do_names_the_line_that_installs_it(installed):
    (installed.folder / "words.txt").write_text("To be, or not to be")
    for words, extra in (
        (("train", "digits"), "examples"),
        (("evaluate", "--features", "efficientnet-lite0", "--count", "4"), "eval"),
        (("tokenizer", "words.txt", "--out", "words.json"), "text"),
        (("sample", "--model", "moving-digits", "--steps", "1", "--out", "three.mp4"), "video"),
    ):
        assert f"pip install 'acdit[{extra}]'" in installed.refused(*words)
    assert "did you mean --labels" in installed.refused("sample", "--label", "3")


def test_the_page_of_the_wheel_draws(wheel, installed):
    """Without its extra it names it, and with it a picture of a model in the package comes over HTTP."""
    assert "pip install 'acdit[demo]'" in installed.refused("demo", "--port", "0")
    installed.install(f"{wheel}[demo]")
    done = installed.run("python", "-c", ASK_THE_PAGE, str(installed.bin / "acdit"), "mnist", "8x8")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "<title>" in answer["page"]
    assert [event["event"] for event in answer["events"]][-2:] == ["block", "done"]
    assert answer["events"][-2]["image"].startswith("data:image/png;base64,")
