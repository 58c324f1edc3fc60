"""Progress where the output is no terminal: few lines, and no control characters."""

import io
from types import SimpleNamespace

import pytest

from acdit.utils import progress_bar
from acdit.utils.progress_bar import ProgressBar


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; tqdm keeps its own, which asks for a display after each step here.

    It is that of the module alone: a server that another test has left running would wait by it for hours.
    """
    now = [100.0]
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def shown(clock, steps, seconds, **arguments):
    """What a bar prints over so many steps, each of which takes some seconds."""
    file = io.StringIO()
    bar = ProgressBar(total=steps, desc="work", file=file, **arguments)
    for _ in range(steps):
        clock[0] += seconds
        bar.update()
        bar.refresh()
    bar.close()
    return file.getvalue()


def test_a_line_in_ten_seconds_at_most(clock):
    lines = shown(clock, 100, 1.0).splitlines()
    assert len(lines) == 10 and all(line.startswith("work: ") for line in lines)
    assert [line[6:9] for line in lines[:2]] == [" 10", " 20"] and "100/100" in lines[-1]


def test_short_work_prints_its_end_or_nothing(clock):
    assert shown(clock, 5, 1.0).count("\n") == 1
    assert shown(clock, 5, 1.0, leave=False) == ""
    assert shown(clock, 5, 1.0, disable=True) == ""


def test_a_last_line_comes_only_when_its_time_has_come(clock):
    assert [line.split()[-1] != "" for line in shown(clock, 11, 1.0).splitlines()] == [True]  # of step 10
    assert "25/25" in shown(clock, 25, 10.0).splitlines()[-1]


def test_lines_hold_no_control_characters(clock):
    text = shown(clock, 30, 5.0, leave=False)
    assert "\r" not in text and "\x1b" not in text and text.endswith("\n")


def test_a_terminal_gets_a_bar(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    with ProgressBar(total=3, file=file, mininterval=0) as bar:
        for _ in range(3):
            bar.update()
    assert file.getvalue().count("\r") >= 4
