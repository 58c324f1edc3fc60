"""Every script of examples/ runs, in a small setting, and does what it says; so does the notebook."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from PIL import Image

import acdit
from acdit.data.digits import digit_images
from acdit.media.images import picture_grid

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
NOTEBOOK = json.loads((FOLDER / "tour.ipynb").read_text())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("L")))


@pytest.fixture(scope="module")
def seven() -> Image.Image:
    """A held-out seven, 32x32."""
    images, labels = digit_images("mnist", held_out=True)
    drawn = ((images[labels == 7][0, 0] + 1) * 127.5).round().byte()
    return Image.fromarray(drawn.numpy())


def test_each_script_is_short_and_says_how_to_run_it():
    source = Path(__file__).read_text()
    for name in SCRIPTS:
        text = (FOLDER / f"{name}.py").read_text()
        assert len(text.splitlines()) <= 60, name
        assert f"    python examples/{name}.py" in (ast.get_docstring(ast.parse(text)) or ""), name
        assert f'script("{name}")' in source, f"{name} is not tested"
    linked = re.findall(r"\]\(([\w.]+)\)", (FOLDER / "README.md").read_text())
    assert sorted(linked) == sorted([*(f"{name}.py" for name in SCRIPTS), "tour.ipynb"])


def test_training_on_a_folder_of_pictures(here, capsys):
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (here / "mine" / name).mkdir(parents=True)
        for index in range(4):
            values = (level + random.integers(-20, 20, (20, 24, 3))).astype("uint8")
            Image.fromarray(values).save(here / "mine" / name / f"{index}.png")
    small = ["--layers", "1", "--hidden", "32", "--size", "16", "--steps", "2", "--batch", "2"]
    script("train_on_pictures").main(["mine", *small])
    assert "a row for each of dark, light" in capsys.readouterr().out
    with Image.open(here / "runs" / "pictures" / "drawn.png") as picture:
        assert picture.size == (4 * 68 + 4, 2 * 68 + 4)
    script("train_on_pictures").main(["mine", *small])  # once more: nothing is left to do
    log = (here / "runs" / "pictures" / "log.jsonl").read_text()
    assert [entry["step"] for entry in map(json.loads, log.splitlines()) if "loss" in entry] == [2]


def test_finishing_a_picture(here, seven, capsys):
    seven.save("seven.png")
    script("finish_picture").main(["seven.png", "--times", "2", "--steps", "2", "--keep", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the given picture reads as 7") and len(lines) == 3
    with Image.open("finished.png") as grid:
        assert grid.size == (3 * 68 + 4, 72)
        given, first, second = (grid.crop((68 * column, 0, 68 * column + 68, 72)) for column in range(3))
    upper = (0, 0, 68, 4 + 32)
    assert given.crop(upper).tobytes() == first.crop(upper).tobytes() == second.crop(upper).tobytes()
    assert len({part.tobytes() for part in (given, first, second)}) == 3
    script("finish_picture").main(["--times", "1", "--steps", "1"])


def test_continuing_a_clip(here, capsys):
    frames = [Image.new("L", (32, 32), 10 * index) for index in range(6)]
    frames[0].save("given.gif", save_all=True, append_images=frames[1:], duration=125)
    script("continue_clip").main(["given.gif", "--keep", "4", "--frames", "12", "--steps", "1"])
    with Image.open("continued.gif") as clip:
        assert getattr(clip, "n_frames", 1) == 12
        for index in (0, 3):
            clip.seek(index)
            assert (pixels(clip).float() - 10 * index).abs().max() <= 2  # but for the palette of a GIF
    sizes = re.findall(r"cache of ([\d.]+) MiB", capsys.readouterr().out)
    assert len(sizes) == 4 and len(set(sizes)) == 1  # memory does not grow
    script("continue_clip").main(["--frames", "6", "--steps", "1", "--out", "own.gif"])


def test_streaming_text(here, capsys):
    script("stream_text").main(["--prompt", "To be", "--tokens", "20", "--block", "4"])
    text = capsys.readouterr().out
    assert text.startswith("To be") and re.search(r"-> 'My lord, I .*you\.'", text)
    sleep, nonsense = (float(value) for value in re.findall(r"= (-[\d.]+) nats", text))
    assert sleep > nonsense + 10


def test_an_own_layout(here, capsys):
    script("own_layout").main(["--steps", "2"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == [
        ("whole", 1, 2),
        *((name, 4, 8) for name in ("quarters", "rows", "columns")),
        ("sixteenths", 16, 32),
    ]
    with Image.open("layouts.png") as picture:
        assert picture.size == (5 * 68 + 4, 72)


def test_an_own_scheduler(here):
    """With the power 1 it is Euler's method of diffusers."""
    module = script("own_scheduler")
    module.main(["--steps", "3"])
    with Image.open("schedulers.png") as picture:
        assert picture.size == (3 * 68 + 4, 72)
    pipe = acdit.load_pipeline("mnist", kind=acdit.ACDiTImagePipeline)

    def drawn(scheduler: Any, **steps: Any) -> torch.Tensor:
        pipe.scheduler = scheduler
        return pipe([3], generator=torch.Generator().manual_seed(0), output_type="pt", **steps).images

    own = drawn(module.PowerEulerScheduler(power=1), num_inference_steps=3)
    assert (own - drawn(FlowMatchEulerDiscreteScheduler(), sigmas=[1, 2 / 3, 1 / 3])).abs().max() < 1e-4


def test_adapters(here, capsys):
    pytest.importorskip("peft")
    images, labels = digit_images("mnist", held_out=True)
    for digit in range(10):
        (here / "mine" / str(digit)).mkdir(parents=True)
        for index, image in enumerate(images[labels == digit][:3, 0]):
            values = ((1 - image) * 127.5).round().byte().numpy()  # dark strokes on white
            Image.fromarray(values).save(here / "mine" / str(digit) / f"{index}.png")
    script("lora").main(["mine", "--rank", "2", "--steps", "2", "--batch", "4", "--solver-steps", "2"])
    folder = here / "runs" / "adapted"
    assert (folder / "lora" / "pytorch_lora_weights.safetensors").stat().st_size < 10**6
    plain = acdit.load_pipeline("mnist")
    seed = torch.Generator().manual_seed(0)
    expected = picture_grid(plain([0, 1, 2, 3], num_inference_steps=2, generator=seed).images, columns=4)
    with Image.open(folder / "scales.png") as grid:
        top, bottom = grid.crop((0, 0, 276, 72)), grid.crop((0, 136, 276, 208))
    assert top.tobytes() == expected.tobytes()  # the scale 0 is the network as it was
    assert top.tobytes() != bottom.tobytes()


def test_recognition(here, seven, capsys):
    seven.save("seven.png")
    script("classify").main(["seven.png", "--draws", "2"])
    assert re.match(r"seven\.png: 7 by the classifier, .*\n  7 by the generator", capsys.readouterr().out)
    script("classify").main(["--draws", "1"])
    assert capsys.readouterr().out.startswith("a drawn 3: 3 by the classifier")


def test_scores(here, capsys):
    script("evaluate").main(["--count", "12", "--steps", "1", "--guidance", "1"])
    table = capsys.readouterr().out
    assert "guidance 1\n" in table and "ink-profile" in table and "pixels" in table


@pytest.mark.long
def test_the_notebook_runs_from_top_to_bottom(here):
    """Its code cells, one after the other, as a kernel runs them; their output is not stored."""
    assert NOTEBOOK["nbformat"] == 4
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 6 and all(cell["outputs"] == [] for cell in code)
    assert all(cell["execution_count"] is None for cell in code)
    names: dict[str, object] = {}
    for index, cell in enumerate(code):
        exec(compile("".join(cell["source"]), f"cell {index}", "exec"), names)
