"""The tab Video: clips of any length, whose class may change while they are made."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from PIL import Image

from ..generation.batches import generators
from ..generation.video_files import RATE
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError
from .cards import Card
from .jobs import Job, Stopped
from .pictures import data_urls
from .requests import Settings
from .shelf import Shelf
from .snippets import MISSING, Machine, block_code, call_of, label_options, label_word, seeded

FAIR_SECONDS = 30.0  # after so many, a video without end gives way to those who wait
FASTEST = 4 * RATE  # frames per second that the player shows while `MOST_AHEAD` frames wait; see player.js
MOST_AHEAD = 64  # frames
LOOK = 0.05  # seconds after which it is seen whether the player needs frames
# Arguments that keep the first block of a video in view: with them the model in the package holds a digit.
HELD: dict[str, Any] = {"sinks": 1, "window": 2, "context_noise": 0.05}


class LabelChoice:
    """The class of the blocks of a video that have not begun, which other requests may change.

    Args:
        label: class; None = none.
        planned: classes of the first blocks in its place, of which the last one then goes on.

    Attributes:
        runs: classes of the blocks that have begun, each with the number of these blocks in a row.
    """

    def __init__(self, label: int | None, planned: Sequence[int | None] = ()):
        self.runs: list[tuple[int | None, int]] = []
        self._label, self._planned = label, list(reversed(planned))
        self._lock = threading.Lock()  # the thread of the jobs reads the class, another one changes it

    def change(self, label: int | None) -> None:
        """Change the class of all blocks that have not begun."""
        with self._lock:
            self._planned, self._label = [], label

    def __iter__(self) -> Iterator[int | None]:
        """Yield the class of one block after another, without end."""
        while True:
            with self._lock:
                if self._planned:
                    self._label = self._planned.pop()
                label = self._label
            before = self.runs[-1] if self.runs else None
            if before is not None and before[0] == label:
                self.runs[-1] = (label, before[1] + 1)
            else:
                self.runs.append((label, 1))
            yield label


@dataclass(frozen=True)
class Clip:
    """Request for a video, besides the settings that it shares with pictures.

    Attributes:
        choice: the class of each block.
        frames: number of new frames; None = until the job is stopped.
        prefix: first frames, as the model sees them, in whole blocks.
        hold: whether every block sees the first one, so that a change of class has hardly any effect.
    """

    choice: LabelChoice
    frames: int | None
    prefix: list[Image.Image]
    hold: bool = False

    @property
    def total(self) -> float:
        """Return the number of frames with the prefix; infinite until the job is stopped."""
        return math.inf if self.frames is None else len(self.prefix) + self.frames

    @property
    def attention(self) -> dict[str, Any]:
        """Return the arguments of the pipeline that say what a block sees of the past."""
        return HELD if self.hold else {}


def whole_blocks(frames: list[Image.Image], size: int) -> list[Image.Image]:
    """Return the first frames of a clip, as many as fill whole blocks of `size` frames.

    Raises:
        UserError: if they do not fill one.
    """
    if len(frames) < size:
        raise UserError(f"the clip has {len(frames)} frames, fewer than a block of {size}")
    return frames[: len(frames) // size * size]


def film(job: Job, shelf: Shelf, card: Card, settings: Settings, clip: Clip) -> None:
    """Make a video, and send its frames as they are finished.

    Args:
        job: job that receives the events.
        shelf: the models.
        card: the model.
        settings: settings of the video, whose class is that of `clip`.
        clip: length, first frames and classes.
    """
    pipeline = shelf.opened(job, card, ACDiTVideoPipeline)
    machine, began, made = shelf.machine, time.perf_counter(), len(clip.prefix)
    if clip.prefix:
        job.send("given", images=data_urls(clip.prefix))

    def step_done(*_: object) -> None:
        pipeline._interrupt = job.stopped

    labels, shown = iter(clip.choice), None
    try:
        for piece in pipeline.stream(
            [next(labels)] if card.has_other_context else labels,
            num_frames=clip.total,
            prefix=clip.prefix or None,
            block=settings.block,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generators(settings.seed, [0]),
            callback_on_step_end=step_done,
            callback_on_step_end_tensor_inputs=[],
            **clip.attention,
        ):
            job.check()
            frames = piece.frames[0]
            job.send(
                "frames",
                first=made,
                images=data_urls(frames),
                evaluations=piece.evaluations,
                cache_bytes=piece.cache_bytes,
                seconds=time.perf_counter() - began,
            )
            made += len(frames)
            shown = shown or time.perf_counter()
            if clip.frames is None:
                _keep_pace(job, made - len(clip.prefix), began, shown)
    except Stopped as stopped:
        if made == len(clip.prefix):
            raise
        raise Stopped(**stopped.values, **texts(card, settings, clip, made, machine)) from None
    seconds = time.perf_counter() - began
    job.post({"event": "done", "seconds": seconds, **texts(card, settings, clip, made, machine)})


def _keep_pace(job: Job, frames: int, began: float, shown: float) -> None:
    """Wait while a video without end is ahead of any player, so that a change of its class is soon in view.

    Frames wait to be played in the queue of the job, but also in the system and in the browser.

    Args:
        job: job that makes the video.
        frames: number of frames that were made.
        began: time at which the job began, of `time.perf_counter`.
        shown: time at which the first frames were sent.

    Raises:
        Stopped: if the job is to end, or has had its turn and others wait.
    """
    while True:
        now = time.perf_counter()
        if now - began >= FAIR_SECONDS and job.others_wait():
            raise Stopped(reason="another request is waiting")
        if frames <= MOST_AHEAD + FASTEST * (now - shown):
            return
        job.check()
        time.sleep(LOOK)


def runs_of(choice: LabelChoice, blocks: int) -> list[tuple[int | None, int]]:
    """Return the classes of the first blocks, each with the number of these blocks in a row."""
    listed = [label for label, count in choice.runs for _ in range(count)][:blocks]
    return [(label, len(list(row))) for label, row in groupby(listed)]


def texts(card: Card, settings: Settings, clip: Clip, made: int, machine: Machine) -> dict[str, Any]:
    """Return the Python code and the command that make the frames that were made, see `Machine.copied`."""
    layout = card.layout.with_block(settings.block)
    slabs = (made - len(clip.prefix)) // (layout.block[0] * layout.patch[0])
    runs = runs_of(clip.choice, slabs * math.prod(layout.block_counts[1:]))
    labels = " + ".join(f"[{label}] * {count}" for label, count in runs)
    call = call_of(
        "pipe",
        {
            "class_labels": repr([runs[0][0]]) if len(runs) == 1 else f"iter({labels})",
            "num_frames": str(made),
            "prefix": "clip" if clip.prefix else None,
            "block": block_code(settings.block),
            "num_inference_steps": str(settings.steps),
            "guidance_scale": repr(settings.guidance),
            **{name: repr(value) for name, value in clip.attention.items()},
            "generator": seeded(settings.seed),
        },
        ".frames[0]",
    )
    imports, opening = "import torch\n\nimport acdit\n", ""
    if clip.prefix:
        imports = (
            "from pathlib import Path\n\nimport torch\n\nimport acdit\n"
            "from acdit.generation.video_files import read_prefix\n"
        )
        opening = f'clip = read_prefix(pipe, Path("clip.gif"), {len(clip.prefix)})  # the uploaded file\n'
    saving = f'"video.gif", save_all=True, append_images=frames[1:], duration={1000 // RATE}, loop=0'
    python = f"{imports}\n{machine.loading(card)}{opening}frames = {call}\nframes[0].save({saving})\n"
    options = {
        **_label_options(card, runs),
        "samples": 1,
        "prefix": "clip.gif" if clip.prefix else None,
        "keep-frames": len(clip.prefix) or None,
        "frames": made,
        "block": settings.block,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "seed": settings.seed,
        **{name.replace("_", "-"): value for name, value in clip.attention.items()},
        "out": "video.gif",
    }
    return machine.copied(card, python, options)


def _label_options(card: Card, runs: list[tuple[int | None, int]]) -> dict[str, Any]:
    """Return the options that ask for the classes of blocks; see `runs_of`."""
    if len(runs) == 1:
        return label_options(card, runs[0][0])
    words = [word for label, count in runs for word in [label_word(card, label)] * count]
    return {"labels-by-block": MISSING if MISSING in words else ",".join(words)}
