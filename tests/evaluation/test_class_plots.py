"""Plots of classes: all text inside and legible, nothing covered, and the numbers of the report."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from acdit.evaluation.class_plots import _figure, _panels, plot_classes, tick_names
from acdit.evaluation.class_tables import class_tables, shown_names
from acdit.evaluation.classification import ClassificationSettings, evaluate_classifier
from acdit.evaluation.labelled_data import labelled_items
from acdit.evaluation.report import Report
from tests.evaluation.classifiers import NAMES, PROBES, labelled_pictures, tiny_classifier

NOISED: dict[str, Any] = {"timestep": 200, "prediction_type": "epsilon"}
DEEP: dict[str, Any] = {"num_layers": 12, "layers": [*range(13)] * 2, "pooling": ["mean"] * 13}
DEEP["pooling"] += ["attention"] * 13
STRANGE = ("a, b", "猫", "line\nbreak", "\x1b[31mred", "$x^2$", "x" * 200, "Ünïcødé")


def report_of(names: tuple[str, ...] = NAMES, count: int = 60, timesteps=(), **config: Any) -> Report:
    """The report of a random classifier on random pictures."""
    pipe = tiny_classifier(names, **config)
    data = labelled_items(pipe, labelled_pictures(count, names))
    return evaluate_classifier(pipe, data, ClassificationSettings(timesteps=timesteps))


def confusion_report(confusion: torch.Tensor, names: tuple[str, ...]) -> Report:
    """A report with a confusion matrix alone."""
    return Report((), settings={"classes": shown_names(names)}, tables=class_tables(confusion, names))


def drawn(report: Report) -> Any:
    """The figure of a report, after it was drawn."""
    figure = _figure(report, _panels(report))
    figure.set_dpi(120)
    FigureCanvasAgg(figure).draw()
    return figure


REPORTS: dict[str, Any] = {
    "one class": lambda: report_of(("only",), 5),
    "two classes": lambda: report_of(("cat, tabby", "dog")),
    "strange names": lambda: report_of(STRANGE),
    "probes": lambda: report_of(**PROBES),
    "noised probes of many layers": lambda: report_of(timesteps=(0.0, 200.0, 600.0), **NOISED, **DEEP),
    "thirty classes": lambda: report_of(tuple(f"a long class name {row}" for row in range(30))),
    "a thousand classes": lambda: report_of(tuple(f"n{row:08d}" for row in range(1000))),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_text_is_inside_and_covers_no_data(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as letters that the font does not have
        figure = drawn(REPORTS[kind]())
    renderer = figure.canvas.get_renderer()
    inches = figure.get_tightbbox(renderer)
    width, height = figure.get_size_inches()
    assert 0 <= inches.x0 < inches.x1 <= width and 0 <= inches.y0 < inches.y1 <= height
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    assert legends
    for legend in legends:
        box = legend.get_window_extent(renderer)
        assert not any(box.overlaps(axes.get_window_extent(renderer)) for axes in figure.axes)
        named = [text.get_text() for text in legend.get_texts()]
        assert len(set(named)) == len(named)
    for axes in figure.axes:  # room is left for the data
        assert axes.get_window_extent(renderer).height > 0.4 * figure.bbox.height


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance of WCAG 2.2."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_numbers_in_cells_are_legible():
    """At every fraction from 0 to 1, the contrast is that which WCAG demands of text."""
    count = 20
    confusion = torch.zeros(count, count, dtype=torch.long)
    for row in range(count):
        confusion[row, row], confusion[row, (row + 1) % count] = row + 1, count - row
    axes = drawn(confusion_report(confusion, tuple(map(str, range(count))))).axes[0]
    (image,) = axes.images
    assert len(axes.texts) == 2 * count
    for text in axes.texts:
        column, row = map(int, text.get_position())
        assert text.get_text() == str(int(confusion[row, column]))
        cell = luminance(image.to_rgba(float(image.get_array()[row, column])))
        ink = 0.0 if text.get_color() == "black" else 1.0
        low, high = sorted((cell, ink))
        assert (high + 0.05) / (low + 0.05) > 4.5


@pytest.mark.parametrize(("classes", "group"), [(3, 1), (41, 1), (250, 1), (251, 2), (1000, 4)])
def test_cells_are_fractions_of_the_rows_of_their_classes(classes, group):
    source = np.random.default_rng(0)
    counts = source.integers(0, 4, (classes, classes)) * (source.random((classes, classes)) < 0.1)
    counts[0] = 0  # a class without pictures
    report = confusion_report(torch.from_numpy(counts), tuple(f"class of {row}" for row in range(classes)))
    axes = drawn(report).axes[0]
    cells = -(-classes // group)
    expected = np.zeros((cells, cells))
    for row in range(classes):
        for column in range(classes):
            expected[row // group, column // group] += counts[row, column]
    expected /= np.maximum(1, expected.sum(1, keepdims=True))
    (image,) = axes.images
    assert np.allclose(image.get_array(), expected, rtol=1e-12)
    assert tuple(image.get_extent()) == (-0.5, cells * group - 0.5, cells * group - 0.5, -0.5)
    assert (axes.get_title() == "Confused classes") == (group == 1)
    assert axes.get_ylabel() == ("class" if classes <= 40 else "class, by number")


def test_names_are_shown_as_they_are_and_in_one_line():
    shown = ["a, b", "class 1", r"line\nbreak", r"\x1b[31mred", "$x^2$", f"{'x' * 11}…xxxx", "Ünïcødé"]
    assert tick_names(STRANGE) == shown
    axes = drawn(report_of(STRANGE)).axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == shown
        assert not any(label.get_parse_math() for label in labels)
    lines = report_of(STRANGE).table().splitlines()
    assert all(line.isprintable() and len(line) < 80 for line in lines)
    assert any(line.startswith(r"line\nbreak ") for line in lines)
    assert any(line.startswith(f"{'x' * 29}…{'x' * 10} ") for line in lines)
    long = [f"{'x' * 20}{middle}{'y' * 20}{end}" for middle, end in (("1", "a"), ("2", "a"), ("1", "b"))]
    assert tick_names(long) == ["class 0", "class 1", f"{'x' * 11}…yyyb"]  # no two look the same


def test_classes_of_equal_names_stay_apart():
    """As ImageNet has two classes that are named crane."""
    names = ("crane", "owl", "crane")
    assert shown_names([*names, None]) == ["crane (0)", "owl", "crane (2)", "3"]
    confusion = torch.tensor([[4, 1, 0], [0, 5, 0], [2, 0, 3]])
    report = confusion_report(confusion, names)
    assert {row[:2]: row[2] for row in report.tables[1].rows} == {
        ("crane (0)", "crane (0)"): 4,
        ("crane (0)", "owl"): 1,
        ("owl", "owl"): 5,
        ("crane (2)", "crane (0)"): 2,
        ("crane (2)", "crane (2)"): 3,
    }
    (image,) = drawn(report).axes[0].images
    assert np.allclose(image.get_array(), [[0.8, 0.2, 0], [0, 1, 0], [0.4, 0, 0.6]])
    assert [row[0] for row in report_of(names, 9).tables[0].rows] == ["crane (0)", "owl", "crane (2)"]


def test_lines_are_the_series_of_the_report(tmp_path):
    report = report_of(timesteps=(0.0, 200.0), **NOISED, **DEEP)
    panels = {axes.get_title(): axes for axes in drawn(report).axes}
    by_layer, by_timestep = panels["Accuracy by layer"], panels["Accuracy by timestep"]
    for axes, axis in ((by_layer, "layer"), (by_timestep, "timestep")):
        series = [each for each in report.series if each.axis == axis]
        assert len(axes.lines) == len(series) == (2 if axis == "layer" else 26)
        for line, each in zip(axes.lines, series, strict=True):
            assert tuple(line.get_xdata()) == each.positions and tuple(line.get_ydata()) == each.values
        styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(styles) == len(series)  # no two lines look the same
    assert [line.get_label() for line in by_layer.lines] == ["mean pooling", "attention pooling"]
    assert by_timestep.lines[14].get_label() == "attention pooling, layer 1"
    files = plot_classes(report, tmp_path / "plots")
    assert [file.name for file in files] == [
        "confusion.png",
        "reliability.png",
        "layers.png",
        "timesteps.png",
    ]
