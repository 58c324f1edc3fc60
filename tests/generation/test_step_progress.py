"""Progress of samples that are drawn in one batch: it advances with every solver step, after a delay."""

import io
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from torch.nn.modules.module import register_module_forward_hook

from acdit.evaluation.generated_samples import generated_clips, generated_images
from acdit.generation.batches import Sampling, draw_images, draw_texts
from acdit.generation.sample_sets import SampleSet, SetPlan
from acdit.generation.text_files import stream_texts, text_batches
from acdit.generation.video_files import write_clips
from acdit.model.transformer import ACDiTTransformer
from acdit.utils import progress_bar
from tests.pipelines.small import build, build_text, network
from tests.pipelines.test_video import build as build_video

LABELS, SAMPLING = [0, 2, 1], Sampling(batch=3)


def image_set(folder, count=3):
    build(network(4)).save_pretrained(folder / "model")
    plan = SetPlan(count, SAMPLING)
    return SampleSet(build(network(4)), folder / "model", folder / "set.npz", plan)


def text_stream():
    return partial(stream_texts, build_text(), "abcd", sampling=SAMPLING)


ONE_BATCH = {
    "images": lambda folder: draw_images(build(network(4)), LABELS, SAMPLING),
    "a set of images": lambda folder: image_set(folder).draw(),
    "images to evaluate": lambda folder: generated_images(build(network(4)), LABELS, SAMPLING).draw(3),
    "clips": lambda folder: write_clips(build_video(), LABELS, folder / "a.gif", SAMPLING),
    "clips to evaluate": lambda folder: generated_clips(build_video(), LABELS, SAMPLING).draw(3),
    "token ids": lambda folder: draw_texts(build_text(), 3, SAMPLING, block=4),
    "texts": lambda folder: list(text_batches(text_stream(), 3, 3)),
}


@pytest.fixture
def clock(monkeypatch):
    """A clock that every call of a network sets forward, by `step` seconds, and that counts the calls."""
    state = SimpleNamespace(now=100.0, step=1.0, calls=0)

    def forward(module, arguments, output):
        if isinstance(module, ACDiTTransformer):
            state.now, state.calls = state.now + state.step, state.calls + 1

    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: state.now))
    monkeypatch.setattr("tqdm.std.time", lambda: state.now)
    hook = register_module_forward_hook(forward)
    yield state
    hook.remove()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("work", ONE_BATCH)
def test_one_batch_advances_by_steps(work, clock, tmp_path, monkeypatch):
    """With 6 seconds a call, a line is due after every second one, and tells which part is done."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    clock.step = 6.0
    ONE_BATCH[work](tmp_path)
    lines = output.getvalue().splitlines()
    shown = [line.split(":")[1].split("|")[0] for line in lines]
    assert shown == [f" {100 * done / clock.calls:3.0f}%" for done in range(2, clock.calls + 1, 2)]
    assert clock.calls >= 6
    assert all("/1 batches" in line for line in lines)


@pytest.mark.parametrize("work", ONE_BATCH)
def test_a_terminal_shows_a_bar_after_three_seconds(work, clock, tmp_path, monkeypatch):
    shown = {}
    for step in (0.1, 2.0):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        clock.step = step
        (tmp_path / str(step)).mkdir()
        ONE_BATCH[work](tmp_path / str(step))
        shown[step] = terminal.getvalue()
    calls = clock.calls // 2
    assert shown[0.1].strip("\r ") == ""
    first = shown[2.0].strip("\r ").split("|")[0]
    assert first in (
        f"sampling: {200 / calls:3.0f}%",
        f"writing: {200 / calls:3.0f}%",
    )  # of the second call, 4 seconds after the first


def test_a_set_goes_on_from_its_finished_batches(clock, tmp_path, monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    image_set(tmp_path, count=12).draw(ranks=2)  # parts 0 and 2 of four
    output.truncate(output.seek(0))
    clock.step, before = 10.0, clock.calls
    image_set(tmp_path, count=12).draw()
    lines = output.getvalue().splitlines()
    calls = clock.calls - before
    assert len(lines) == calls == 24 and lines[0].startswith("sampling:  52%|")
    assert "2.1/4 batches" in lines[0] and "3.0/4 batches" in lines[11] and "4.0/4 batches" in lines[-1]


def test_other_ranks_show_nothing(clock, tmp_path, monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    clock.step = 20.0
    image_set(tmp_path, count=6).draw(rank=1, ranks=2)
    assert clock.calls == 12 and output.getvalue() == ""
