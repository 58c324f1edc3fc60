"""The picture of training curves: what its lines hold, and the command that writes it."""

import json
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from acdit.cli.main import main
from acdit.training.curves import COLOURS, MOST_POINTS, draw_curves, smoothed
from acdit.training.log import RunLog
from acdit.utils.errors import UserError


def run_log(steps=50, validated=False, scale=1.0) -> RunLog:
    log = RunLog()
    for step in range(1, steps + 1):
        loss = None if step == 7 else scale * (1 + math.cos(step) / 3)
        log.steps.append(
            {"step": step, "loss": loss, "learning_rate": 1e-3, "images_per_second": 50 + step % 3}
        )
    if validated:
        for step in (20, 40):
            parts = {"by_block": [step * 0.01, 0.3], "by_timestep": [1.0, None, 0.1, step * 0.001]}
            log.validations.append({"step": step, "loss": scale * 20 / step, **parts})
    return log


def panels(figure):
    return {panel.get_title(loc="left"): panel for panel in figure.axes}


def points(line):
    return [tuple(pair) for pair in np.stack(line.get_data(), axis=1).tolist()]


@pytest.mark.parametrize("smooth", [0.0, 0.5, 0.98])
def test_smoothing_by_its_definition(smooth):
    values = np.random.default_rng(0).normal(size=40).tolist()
    for count in (0, 1, 2, 40):
        expected = []
        for at in range(count):
            weights = [
                math.prod(
                    min(smooth, link / (link + 9)) for link in range(min(at, other) + 1, max(at, other) + 1)
                )
                for other in range(count)
            ]
            expected.append(np.average(values[:count], weights=weights))
        assert smoothed(values[:count], smooth) == pytest.approx(expected, rel=1e-12)


def test_smoothing_does_not_lag():
    falling = [float(value) for value in range(1000, 0, -1)]
    middle = slice(400, 600)
    assert smoothed(falling, 0.95)[middle] == pytest.approx(falling[middle], rel=1e-6)


def test_accuracies_of_classifiers_have_their_panels():
    log = run_log()
    for step, accuracy in ((20, 0.5), (40, 0.75)):
        parts = {"accuracy": accuracy, "accuracy_by_head": [0.1, accuracy], "loss_by_head": [2.0, 1.0]}
        log.validations.append({"step": step, "loss": 20 / step, **parts})
    found = panels(draw_curves({"a": log, "b": run_log(validated=True)}, 0.9))
    assert points(found["accuracy of the best head"].lines[0]) == [(20, 0.5), (40, 0.75)]
    assert points(found["accuracy by head, last validation"].lines[0]) == [(0, 0.1), (1, 0.75)]
    assert len(points(found["loss by block, last validation"].lines[1])) == 2
    assert "loss by block, last validation" not in panels(draw_curves({"a": log}, 0.9))


def test_lines_are_those_of_the_log():
    log = run_log()
    found = panels(draw_curves({"a": log}, 0.9))
    assert list(found) == ["loss", "learning rate", "images per second"]
    raw, smooth = found["loss"].lines
    there = [(entry["step"], entry["loss"]) for entry in log.steps if entry["loss"] is not None]
    assert points(raw) == there and len(there) == 49
    assert [step for step, _ in points(smooth)] == [step for step, _ in there]
    assert [loss for _, loss in points(smooth)] == smoothed([loss for _, loss in there], 0.9)
    assert raw.get_linewidth() < smooth.get_linewidth() and (raw.get_alpha() or 1) < 0.5
    assert points(found["learning rate"].lines[0]) == [(step, 1e-3) for step in range(1, 51)]
    assert points(found["images per second"].lines[0])[:3] == [(1, 51), (2, 52), (3, 50)]


def test_validations():
    found = panels(draw_curves({"a": run_log(), "b": run_log(validated=True)}, 0.9))
    assert points(found["loss"].lines[-1]) == [(20, 1.0), (40, 0.5)]
    (blocks,) = found["loss by block, last validation"].lines
    (parts,) = found["loss by timestep, last validation"].lines
    assert points(blocks) == [(0, 0.4), (1, 0.3)]
    assert points(parts) == [(125, 1.0), (625, 0.1), (875, 0.04)]
    assert {line.get_color() for line in (blocks, parts, found["loss"].lines[-1])} == {COLOURS[1]}


def test_every_run_looks_different():
    logs = {f"run {index}": run_log(5) for index in range(20)}
    figure = draw_curves(logs, 0.5)
    looks = [(line.get_color(), line.get_linestyle()) for line in panels(figure)["learning rate"].lines]
    assert len(set(looks)) == 20
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(logs)
    shown = [(handle.get_color(), handle.get_linestyle()) for handle in legend.get_lines()]
    assert shown == looks


@pytest.mark.parametrize(("spread", "scale"), [(2, "linear"), (50, "log")])
def test_a_loss_that_falls_far_is_on_a_logarithmic_scale(spread, scale):
    log = RunLog([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1 / spread}])
    assert panels(draw_curves({"a": log}, 0.0))["loss"].get_yscale() == scale


def test_a_long_log_is_thinned():
    log = RunLog([{"step": step, "loss": 1.0} for step in range(3 * MOST_POINTS)])
    assert len(points(panels(draw_curves({"a": log}, 0.9))["loss"].lines[0])) == MOST_POINTS


def test_what_is_not_in_the_log():
    found = panels(draw_curves({"a": RunLog([{"step": 1, "loss": None}])}, 0.9))
    assert [panel.texts[0].get_text() for panel in found.values()] == ["not in the log"] * 3
    with pytest.raises(UserError, match="b has no step in its log yet"):
        draw_curves({"a": run_log(), "b": RunLog()}, 0.9)


def write(folder, log):
    folder.mkdir(parents=True)
    lines = [*log.steps]
    lines += [{"step": entry["step"], "validation": {"loss": entry["loss"]}} for entry in log.validations]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return str(folder)


def test_the_command_writes_a_picture_with_the_colour_of_every_run(tmp_path, capsys):
    runs = [
        write(tmp_path / name, run_log(30, scale=scale)) for name, scale in {"a": 1, "b": 2, "c": 3}.items()
    ]
    runs[1] += "/log.jsonl"
    out = tmp_path / "new" / "curves.png"
    assert main(["curves", *runs, "--smooth", "0.5", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: a to step 30, b to step 30, c to step 30\n"
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width > 1000
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in COLOURS[:3]:
        assert (np.abs(pixels - np.array(to_rgb(colour)) * 255).max(axis=1) < 2).sum() > 500
    assert (pixels == 255).all(axis=1).mean() > 0.8  # a white page


@pytest.mark.parametrize("name", ["a$^$b", "$x", r"\frac{1}{2}$$"])
def test_names_are_no_formulas(name, tmp_path, capsys):
    run = write(tmp_path / name, run_log(3))
    assert main(["curves", run, "--out", str(tmp_path / "curves.png")]) == 0
    assert f"{name} to step 3" in capsys.readouterr().out


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [write(tmp_path / name / "mnist", run_log(3)) for name in "ab"]
    assert main(["curves", "a/mnist", runs[1]]) == 0
    assert capsys.readouterr().out == f"curves.png: a/mnist to step 3, {runs[1]} to step 3\n"


@pytest.mark.parametrize(("here", "typed"), [("mnist", "."), ("mnist", "log.jsonl"), ("mnist/inner", "..")])
def test_a_run_is_named_after_its_folder_however_it_is_typed(here, typed, tmp_path, capsys, monkeypatch):
    write(tmp_path / "mnist", run_log(3))
    (tmp_path / here).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / here)
    assert main(["curves", typed, "--out", str(tmp_path / "curves.png")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'curves.png'}: mnist to step 3\n"


def test_bad_input_is_one_line(tmp_path, capsys):
    good = write(tmp_path / "good", run_log(3))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "log.jsonl").write_text("?\n{}\n")
    out = tmp_path / "curves.png"
    for run, said in ((tmp_path / "none", "does not exist"), (tmp_path / "bad", "line 1, cannot be read")):
        assert main(["curves", good, str(run), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not out.exists()
