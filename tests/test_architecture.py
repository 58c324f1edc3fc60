"""docs/architecture.md: its file tree is the package's, its paths exist, and its examples run."""

import re
import sys
import tomllib
import traceback
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import acdit
from acdit.cli.main import main
from acdit.data.data_sets import PIXEL_SETS, TEXT_SETS
from acdit.diffusion.schedulers import SCHEDULERS
from acdit.modalities.table import MODALITIES
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.training.loop import train
from acdit.training.objectives import OBJECTIVES
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError
from tests.site.running import run_page

ROOT, PACKAGE = Path(__file__).parents[1], Path(acdit.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TABLES = [PIXEL_SETS, TEXT_SETS, OBJECTIVES["continuous"], SCHEDULERS["continuous"], MODALITIES]
SMALL = {
    "name": "small",
    "model.num_layers": 1,
    "model.hidden_size": 16,
    "model.num_heads": 1,
    "training.steps": 2,
    "training.batch_size": 8,
    "validation.images": 16,
}


def paths_in_the_tree() -> list[str]:
    """Every path of the file tree, folders with a slash at their end."""
    (tree,) = re.findall(r"```text\nacdit/\n(.*?)```", PAGE, re.DOTALL)
    found: list[str] = []
    above: dict[int, str] = {0: ""}
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        found.append(above[depth - 1] + name)
        if name.endswith("/"):
            above[depth] = found[-1]
    return found


def test_the_file_tree_is_that_of_the_package():
    modules = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    inner = sorted(path for path in modules if not path.endswith("/__init__.py"))
    assert sorted(path for path in paths_in_the_tree() if path.endswith(".py")) == inner  # each once


def test_folders_stand_in_the_order_of_the_import_contract():
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    folders = [path.strip("/") for path in paths_in_the_tree() if path.count("/") == 1 and path[-1] == "/"]
    assert folders[: len(contract["layers"]) - 1] == [name for name in contract["layers"] if name[0] != "_"]


def test_paths_in_the_text_exist():
    named = set(re.findall(r"`([\w/]+/(?:[\w]+\.py)?)`", PAGE))
    assert len(named) > 30
    assert [path for path in named if not (PACKAGE / path).exists() and not (ROOT / path).exists()] == []


@pytest.fixture
def extended(monkeypatch):
    """The package with the entries of all examples in its tables, which are taken out again."""
    before = [dict(table) for table in TABLES]
    module = ModuleType("examples_of_the_architecture_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    try:
        done = run_page("docs/architecture.md", names=module.__dict__)
        assert len(done) == 4
        yield module
    finally:
        for table, entries in zip(TABLES, before, strict=True):
            table.clear()
            table.update(entries)  # pyright: ignore[reportCallIssue, reportArgumentType]


def recipe(out: Path):
    new = {"data.source": "stripes", "training.objective": "robust", "sampling.scheduler": "ddim"}
    new["diffusion.prediction"] = "v"
    return load_recipe("digits", out=str(out), **(SMALL | new | {"validation.every": 2}))


def test_one_entry_of_each_kind_works(extended, tmp_path, capsys):
    asked = recipe(tmp_path / "run")
    trained = train(asked)
    pipeline = load_pipeline(trained, kind=ACDiTImagePipeline)
    assert pipeline.label_names == {0: "vertical", 1: "horizontal"}
    assert type(pipeline.scheduler).__name__ == "DDIMScheduler"
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert '"validation"' in log
    assert main(["plan", "digits", "--data.source", "stripes"]) == 0
    assert "stripes needs no download" in capsys.readouterr().out

    objective = OBJECTIVES["continuous"]["robust"](asked.diffusion, extended.open_stripes(asked.data, False))
    assert type(objective).__name__ == "Robust"

    components = pipeline.components
    names = ("grid", "block", "patch", "num_inference_steps")
    extended.SketchPipeline(**components, **{name: pipeline.config[name] for name in names}).save_pretrained(
        tmp_path / "sketch"
    )
    opened = load_pipeline(tmp_path / "sketch")
    assert type(opened) is extended.SketchPipeline
    assert main(["info", str(tmp_path / "sketch")]) == 0
    assert "forward FLOPs per sketch" in capsys.readouterr().out
    words = ["--labels", "0,1", "--samples", "2", "--steps", "2", "--out", str(tmp_path / "sketch.png")]
    assert main(["sample", "--model", str(tmp_path / "sketch"), *words]) == 0
    with Image.open(tmp_path / "sketch.png") as picture:
        assert picture.size == (2 * 68 + 4, 2 * 68 + 4)


def test_without_the_entries_each_is_refused_in_a_line(tmp_path, capsys):
    for key, value in (("training.objective", "robust"), ("sampling.scheduler", "ddim")):
        with pytest.raises(
            UserError, match=f"{key} of images must be one of .*, not '{value}'; did you mean"
        ):
            train(load_recipe("digits", out=str(tmp_path / "run"), **(SMALL | {key: value})))
        assert main(["plan", "digits", f"--{key}", value]) == 2
        assert key in capsys.readouterr().out
    with pytest.raises(UserError, match=r"data\.image_size"):
        train(load_recipe("digits", out=str(tmp_path / "run"), **(SMALL | {"data.source": "stripes"})))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_stripes_are_what_they_say(extended):
    data = extended.open_stripes(recipe(Path("unused")).data, False)
    vertical, horizontal = (data.read(index)[0] for index in (0, 1))
    assert vertical.std() > 0.5 and max(vertical.abs().max(), horizontal.abs().max()) <= 1
    assert torch.equal(vertical, vertical[:, :1].expand(1, 8, 8))  # all rows are the same
    assert torch.equal(horizontal, horizontal[:, :, :1].expand(1, 8, 8))


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_the_walk_to_the_network_is_as_listed(command, tmp_path, monkeypatch):
    """Every module of the package that waits for the first call of the network stands in the list."""
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(rf"^- `acdit {command}`: ((?:.*`,\n)*.*`)$", PAGE, re.MULTILINE)
    listed = re.findall(r"`([^`]+)`", line)
    (count,) = re.findall(rf"(\d+) for `acdit {command}`", PAGE)
    assert len(listed) == int(count) <= 12 and all((PACKAGE / path).is_file() for path in listed)
    walked: list[str] = []

    def record(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, ACDiTTransformer) and not walked:
            files = [Path(frame.filename) for frame in traceback.extract_stack()]
            inner = [file.relative_to(PACKAGE) for file in files if file.is_relative_to(PACKAGE)]
            walked.extend(dict.fromkeys(file.as_posix() for file in inner))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(record)
    try:
        assert main([command, "--model", "mnist", "--samples", "10", "--steps", "1"]) == 0
    finally:
        hook.remove()
    passed_by = {"utils/progress_bar.py", "pipelines/callbacks.py"}  # they only count, and keep the state
    assert [path for path in listed if path in walked] == [path for path in walked if path not in passed_by]
