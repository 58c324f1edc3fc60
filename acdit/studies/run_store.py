"""Store of the training runs of all studies: each run has a folder, named by the digest of its recipe."""

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..bench.timing import machine
from ..training.config import LoraConfig, ModelConfig, Recipe
from ..training.loop import train
from ..training.plan import make_plan
from ..training.progress import DivergedError
from ..training.recipe_digest import counted_settings, settings_digest, training_version
from ..training.recipes import load_recipe
from ..utils.errors import UserError
from ..utils.files import check_writable, only_writer, remove, whole
from ..utils.kinds import OBJECT, TEXT, Kind, check_values, number, one_of, whole_number
from ..utils.ranks import launched
from ..utils.settings import flatten
from ..utils.untrusted import read_object

VARIABLE, DEFAULT_ROOT = "ACDIT_RUNS", "out/runs"
RUN_FILE = "run.json"
FINISHED, UNFINISHED, DIVERGED = "finished", "unfinished", "diverged"
KINDS = {
    "name": TEXT,
    "state": one_of(FINISHED, UNFINISHED, DIVERGED),
    "diverged_step": whole_number(0).if_given(),
    "version": whole_number(),
    "digest": TEXT,
    "settings": OBJECT,
    "seconds": number(0),
    "timed_steps": whole_number(0),
    "flops": Kind(
        "a number of FLOPs or null",  # it may exceed the bounds of other numbers
        lambda value: value is None or (type(value) in (int, float) and 0 <= value < math.inf),
    ),
    "threads": whole_number(),
    "ranks": whole_number(),
    "machine": TEXT,
}
LIST_VERSION = 1  # of digests of several runs; those of the runs hold the versions of training
# What the store decides itself: a stored run is read by its pipeline, and resumes from its newest checkpoint.
STORED = {"training.keep_checkpoints": 1, "training.sample_every": 0}


@dataclass(frozen=True)
class RunSpec:
    """Declaration of a training run.

    Attributes:
        recipe: Name of a recipe of the package, or path of a recipe.
        overrides: Values of the recipe by dotted key, or nested. A value that is itself a `RunSpec` stands
            for the folder of that run, which is trained before: `{"training.init_from": pretrained}`.
        seed: Seed of the run, `training.seed`.
        name: Name of the run in tables and messages; default: that of the recipe.
    """

    recipe: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    name: str | None = None


@dataclass(frozen=True)
class StoredRun:
    """Training run of the store, finished or not.

    Attributes:
        recipe: Recipe of the run, whose `out` is the folder of the run.
        settings: Values of the recipe that determine the trained model, by dotted key.
        digest: Digest of the settings and of the version of training.
        needs: Runs whose folders the recipe names; they are trained before.
    """

    recipe: Recipe
    settings: Mapping[str, Any]
    digest: str
    needs: tuple["StoredRun", ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the run in tables and messages."""
        return self.recipe.name

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return self.recipe.folder

    @property
    def pipeline(self) -> Path:
        """Return the folder of the trained pipeline."""
        return self.folder / "pipeline"

    @property
    def steps(self) -> int:
        """Return the number of steps of the finished run."""
        return self.recipe.training.steps

    @property
    def facts(self) -> dict[str, Any] | None:
        """Return the content of the file that describes the run, or None if the run was never started.

        Raises:
            UserError: If the file is damaged, or the folder holds another run.
        """
        path = self.folder / RUN_FILE
        if not path.exists():
            return None
        remedy = f"remove {self.folder} to train the run again"
        facts = check_values(read_object(path), KINDS, path, remedy)
        own = {
            "version": training_version(self.recipe),
            "digest": self.digest,
            "settings": dict(self.settings),
        }
        for key, value in own.items():
            if facts[key] != value:
                raise UserError(f"{self.folder} holds a run with another recipe, see {path}: {remedy}")
        return facts

    @property
    def finished(self) -> bool:
        """Return whether the run has been trained to its end.

        Raises:
            UserError: If the folder is damaged, or holds another run.
        """
        facts = self.facts
        if facts is None or facts["state"] != FINISHED:
            return False
        if not (self.pipeline / "model_index.json").is_file():
            raise UserError(f"{self.folder} is damaged, its pipeline is missing: remove it to train it again")
        return True

    @property
    def diverged(self) -> str | None:
        """Return which run diverged at which step, this one or one that it needs; None if none did.

        Raises:
            UserError: If a folder is damaged, or holds another run.
        """
        facts = self.facts
        if facts is not None and facts["state"] == DIVERGED:
            return f"{self.name} diverged at step {facts.get('diverged_step', self.saved_step):,}"
        if facts is not None and facts["state"] == FINISHED:
            return None
        return next((reason for needed in self.needs if (reason := needed.diverged)), None)

    @property
    def left_out(self) -> bool:
        """Return whether the run cannot start, since one that it needs has diverged."""
        return self.diverged is not None and not self._has_diverged

    @property
    def _has_diverged(self) -> bool:
        facts = self.facts
        return facts is not None and facts["state"] == DIVERGED

    @property
    def ended(self) -> bool:
        """Return whether nothing is left to train: the run is finished, has diverged or cannot start."""
        return self.finished or self.diverged is not None

    def forget_divergence(self) -> None:
        """Remove the folder of the run if it has diverged, so that it is trained again.

        Raises:
            InUseError: If another process uses the run.
        """
        if self._has_diverged:
            with only_writer(self.folder, "a study", folder=True):
                remove(self.folder)

    @cached_property
    def flops(self) -> float | None:
        """Return the FLOPs of the whole training, or None if the layouts do not fit the data.

        The run that this one starts from need not be trained yet.
        """
        model, source = _start(self)
        training = replace(self.recipe.training, init_from=source)
        lora = LoraConfig() if source is None else self.recipe.lora
        return make_plan(replace(self.recipe, model=model, training=training, lora=lora)).total_flops

    @property
    def saved_step(self) -> int:
        """Return the number of steps of the newest checkpoint."""
        names = (path.name for path in (self.folder / "checkpoints").glob("step-*"))
        return max(
            (int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d{8})", name))), default=0
        )

    def train(self, follow: Callable[[int], None] | None = None) -> bool:
        """Train the run to its end, resuming it, unless it is finished or has diverged.

        Args:
            follow: Function that is called with the number of completed steps; see `training.loop.train`.

        Returns:
            Whether the run has ended, also if it has diverged; False if it was stopped by a signal.

        Raises:
            InUseError: If another process trains the run.
            UserError: If the run cannot be trained, or the folder holds another run.
            OSError: If the disk is full.
        """
        with only_writer(self.folder, "a study", folder=True):
            if self.ended:
                return True
            facts = self.facts or {"seconds": 0.0, "timed_steps": 0}
            seconds, timed, first = facts["seconds"], facts["timed_steps"], self.saved_step
            self._write(UNFINISHED, seconds, timed)
            started = time.monotonic()
            diverged = None
            try:
                state = UNFINISHED if train(self.recipe, follow=follow) is None else FINISHED
            except DivergedError as fault:
                state, diverged = DIVERGED, fault.step
            # a damaged checkpoint was counted at first, but the run went on from an earlier one
            timed += max(0, (self.steps if state == FINISHED else self.saved_step) - first)
            self._write(state, seconds + time.monotonic() - started, timed, diverged)
            return state != UNFINISHED

    def _write(self, state: str, seconds: float, timed_steps: int, diverged: int | None = None) -> None:
        facts = machine(launched().device)
        content = {
            "name": self.name,
            "state": state,
            "version": training_version(self.recipe),
            "digest": self.digest,
            "settings": self.settings,
            "seconds": round(seconds, 3),  # of the attempts that were not killed
            "timed_steps": timed_steps,  # of these attempts
            "flops": self.flops,
            "threads": torch.get_num_threads(),
            "ranks": launched().world_size,
            "machine": facts["processor"],
        }
        if diverged is not None:
            content["diverged_step"] = diverged
        with whole(self.folder / RUN_FILE) as temporary_path:
            temporary_path.write_text(json.dumps(content, indent=1) + "\n")


class RunStore:
    """Folder of training runs.

    Args:
        root: Folder; default: that of the environment variable `ACDIT_RUNS`, or `out/runs`.
    """

    def __init__(self, root: Path | None = None) -> None:
        root = root or Path(os.environ.get(VARIABLE) or DEFAULT_ROOT)
        self.root = root.expanduser().resolve()
        self._resolved: dict[int, tuple[RunSpec, StoredRun]] = {}  # by identity: a mapping has no hash

    def run(self, spec: RunSpec) -> StoredRun:
        """Return the run that a declaration describes, trained or not.

        Raises:
            UserError: If the recipe does not exist or is invalid, or the store cannot be written.
        """
        if id(spec) in self._resolved:
            return self._resolved[id(spec)][1]
        try:
            check_writable(self.root / "any")
        except UserError as fault:
            raise UserError(
                f"the folder of training runs, {self.root}, cannot be written: set {VARIABLE} to another one"
            ) from fault
        values = flatten(spec.overrides)
        needs = {key: self.run(value) for key, value in values.items() if isinstance(value, RunSpec)}
        values |= {key: str(run.folder) for key, run in needs.items()} | STORED
        recipe = load_recipe(spec.recipe, **values, **{"training.seed": spec.seed})
        if recipe.autoencoder.model is not None:
            recipe.autoencoder.latents = str(
                recipe.latents
            )  # the folder of the recipe, whatever the run's name
        settings = counted_settings(recipe, {key: run.digest for key, run in needs.items()})
        digest = settings_digest(settings, training_version(recipe))
        recipe.name, recipe.out = spec.name or recipe.name, str(self.root / digest)
        run = StoredRun(recipe, settings, digest, tuple(needs.values()))
        self._resolved[id(spec)] = spec, run
        return run

    def digest_of(self, specs: Iterable[RunSpec]) -> str:
        """Return a digest of runs, which changes with each of them."""
        return settings_digest({"runs": sorted({self.run(spec).digest for spec in specs})}, LIST_VERSION)

    def runs(self, specs: Iterable[RunSpec]) -> list[StoredRun]:
        """Return the runs of declarations, each once, and before them the unfinished runs that they need."""
        listed: dict[str, StoredRun] = {}
        for spec in specs:
            _add(self.run(spec), listed)
        return list(listed.values())


def _add(run: StoredRun, listed: dict[str, StoredRun]) -> None:
    """Add a run to those listed, after the runs that it needs to be trained."""
    if run.digest in listed:
        return
    if not run.finished:
        for needed in run.needs:
            _add(needed, listed)
    listed[run.digest] = run


def _start(run: StoredRun) -> tuple[ModelConfig, str | None]:
    """Return the network that a run trains, also if it is that of an earlier run of the store.

    Returns:
        Configuration of the network, and the model outside the store from which the first run starts.
    """
    source = run.recipe.training.init_from
    for needed in run.needs:
        if str(needed.folder) == source:
            return _start(needed)
    return run.recipe.model, source
