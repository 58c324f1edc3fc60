"""Report the progress of a run: a progress bar, log.jsonl and trackers."""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import psutil
import torch

from ..model.matmul_rate import square_rate
from ..utils.errors import reason_of, require
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import Ranks
from .config import Recipe
from .log import LOG_FILE, cut_log, set_aside_log
from .progress import StepResult, listed
from .recipes import recipe_to_dict

SMOOTHING = 0.98  # smoothing factor of the loss on the progress bar


class Watch:
    """Progress bar, log and trackers of a run from a given step on; only the first rank writes to them.

    Args:
        recipe: Recipe of the run.
        step: Step from which the run starts; later entries, from a run that was cut short, are dropped.
        ranks: Ranks of the run.
        half: Whether the network computes in bf16; the machine's best rate is measured in the same precision.
        losses: Losses of the steps before `step` that no entry holds yet; they count in the first entry.
        follow: Function that is called with the number of completed steps, in place of the progress bar.
    """

    def __init__(
        self,
        recipe: Recipe,
        step: int,
        ranks: Ranks,
        half: bool,
        losses: Sequence[float] = (),
        follow: Callable[[int], None] | None = None,
    ):
        self.recipe, self.ranks, self.path = recipe, ranks, recipe.folder / LOG_FILE
        self.trackers: list[Any] = []
        self.follow = follow
        self.bar = ProgressBar(
            total=recipe.training.steps,
            initial=step,
            desc=recipe.name,
            unit="step",
            disable=not ranks.main or follow is not None,
        )
        self.smooth: float | None = None
        self.unlogged: list[StepResult] = []  # steps since the last entry, or since the run was resumed
        self.earlier_losses = list(losses)
        self.seconds = 0.0
        self.started = time.monotonic()
        if ranks.main:
            side = 8192 if ranks.device.type == "cuda" else 1024
            dtype = torch.bfloat16 if half else torch.float32
            self.matmul_rate = square_rate(side, dtype, ranks.device)
            if ranks.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(ranks.device)  # the peak must not include these products
            if step and self.path.exists():
                cut_log(self.path, step)
            elif self.path.exists() and (kept := set_aside_log(self.path)):
                self.say(f"{recipe.name}: no checkpoint belongs to {self.path}, which is kept as {kept.name}")
            self.trackers = [_tracker(name, recipe, step) for name in recipe.training.trackers]

    def __enter__(self) -> "Watch":
        self.clock_start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        for tracker in self.trackers:
            tracker.finish()

    def step(self, result: StepResult) -> None:
        """Record the result of a step.

        The throughput clock is stopped from here until `resume_clock` is called.
        """
        self.seconds += time.monotonic() - self.clock_start
        if not self.ranks.main:
            return
        self.unlogged.append(result)
        if result.bad_samples:
            self.say(
                f"step {result.step} was skipped: loss {result.loss:g}, "
                f"gradient norm {result.gradient_norm:g}; samples {listed(result.bad_samples)}"
            )
        else:
            previous = result.loss if self.smooth is None else self.smooth
            self.smooth = SMOOTHING * previous + (1 - SMOOTHING) * result.loss
        self.bar.update()
        if self.follow is not None:
            self.follow(result.step)
        if result.step % self.recipe.training.log_every == 0 or result.step == self.recipe.training.steps:
            self._entry(result)

    def resume_clock(self) -> None:
        """Restart the throughput clock for the next step."""
        self.clock_start = time.monotonic()

    def validation(self, step: int, measured: dict[str, Any]) -> None:
        """Record the result of a validation."""
        if self.ranks.main:
            single = {f"validation_{name}": measured.get(name) for name in ("loss", "accuracy")}
            self._write({"step": step, "validation": measured}, single)

    def say(self, words: str) -> None:
        """Print a line for the user, on the first rank only."""
        if self.ranks.main:
            ProgressBar.write(words, file=sys.stderr)

    def _entry(self, last: StepResult) -> None:
        steps, seconds = len(self.unlogged), self.seconds
        losses = [result.loss for result in self.unlogged if not result.bad_samples]
        losses = self.earlier_losses + losses
        loss = sum(losses) / len(losses) if losses else None
        images = steps * self.recipe.training.batch_size / seconds
        flops = sum(result.flops for result in self.unlogged) / seconds
        values = {
            "loss": loss,
            "learning_rate": last.learning_rate,
            "gradient_norm": last.gradient_norm if math.isfinite(last.gradient_norm) else None,
            "images_per_second": images,
            "flops_per_second": flops,
            "matmul_share": flops / self.ranks.world_size / self.matmul_rate,
            "memory_bytes": _memory(self.ranks.device),
            "skipped": last.skipped,
            "unreadable": last.unreadable,
        }
        self._write({"step": last.step, "seconds": time.monotonic() - self.started, **values}, values)
        text = "no loss" if self.smooth is None else f"loss {self.smooth:.4f}"
        self.bar.set_postfix_str(
            f"{text}, lr {last.learning_rate:.1e}, {images:.0f} {self.recipe.modality.samples}/s",
            refresh=False,
        )
        self.unlogged, self.earlier_losses, self.seconds = [], [], 0.0

    def _write(self, entry: dict[str, Any], values: dict[str, Any]) -> None:
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as fault:  # a full disk loses the entry, but does not stop the run
            self.say(f"warning: {self.path} cannot be written: {reason_of(fault)}")
        known = {name: value for name, value in values.items() if value is not None}
        for tracker in list(self.trackers):
            try:
                tracker.log(known, entry["step"])
            except OSError as fault:  # TensorBoard's writer fails at every later entry too
                self.trackers.remove(tracker)
                self.say(f"warning: {tracker.name} is left out from now on: {reason_of(fault)}")


def _tracker(name: str, recipe: Recipe, step: int) -> Any:
    """Start one of accelerate's trackers, writing to the run's folder."""
    from accelerate import PartialState, tracking

    PartialState(cpu=not torch.cuda.is_available())  # accelerate's loggers require it
    if name == "tensorboard":
        # purge_step hides entries of later steps, from a run that was cut short
        return _start(tracking.TensorBoardTracker("tensorboard", str(recipe.folder), purge_step=step + 1))
    run_id = hashlib.blake2b(str(recipe.folder.resolve()).encode(), digest_size=8).hexdigest()
    recipe.folder.mkdir(parents=True, exist_ok=True)
    options = {"name": recipe.name, "dir": str(recipe.folder), "id": run_id, "resume": "allow"}
    tracker = _start(tracking.WandBTracker("acdit", **options))
    tracker.store_init_configuration(recipe_to_dict(recipe))
    return tracker


def _start(tracker: Any) -> Any:
    tracker.start()
    return tracker


def check_trackers(recipe: Recipe) -> None:
    """Raise UserError if a tracker named in a recipe is not installed."""
    for name in recipe.training.trackers:
        require(name, name if name == "wandb" else "track")


def _memory(device: torch.device) -> int:
    """Return the memory of this process in bytes: the peak so far on a GPU, else its current host memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
