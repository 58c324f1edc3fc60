"""Runs and studies that take milliseconds: networks of one layer on the 8x8 digits."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from acdit.evaluation.report import format_table
from acdit.studies.design import Design, Measurement, Rows, run_study
from acdit.studies.run_store import RunSpec, RunStore, StoredRun
from acdit.utils.files import file_digest
from tests.training.small import SMALL

TINY = {key: value for key, value in SMALL.items() if key != "name"}


def spec(
    seed: int = 0, start: RunSpec | None = None, changes: Mapping[str, Any] = MappingProxyType({})
) -> RunSpec:
    """A run of six steps, or what `changes` say, perhaps from another run."""
    begun = {} if start is None else {"training.init_from": start}
    return RunSpec(
        "digits", TINY | dict(changes) | begun, seed, f"seed {seed}" + (" fine-tuned" if start else "")
    )


def weights(run: StoredRun) -> str:
    """Digest of the trained weights of a run."""
    return file_digest(run.pipeline / "transformer" / "diffusion_pytorch_model.safetensors")


def seeded(seeds: int, first: int = 0, **changes: Any) -> Design:
    """A study of one run for each seed: the digest of its weights; the report names the seeds."""

    def measure(seed: int, run: StoredRun) -> Iterator[Mapping[str, Any]]:
        yield {"seed": seed, "weights": weights(run)}

    def report(rows: Rows, folder: Path) -> tuple[str, tuple[Path, ...]]:
        del folder
        return format_table(list(rows.values())), ()

    measurements = [
        Measurement(((seed,),), lambda run, seed=seed: measure(seed, run), (spec(seed, None, changes),))
        for seed in range(first, first + seeds)
    ]
    return Design("seeded", {}, ("seed",), ("weights",), measurements, report)


def design(**changes: Any) -> Design:
    """A study of two runs and a fine-tuned one: the digest of the weights of each."""
    first = spec(0, None, changes)
    runs = {"0": first, "1": spec(1, None, changes), "tuned": spec(2, first, changes)}

    def measure(name: str, run: StoredRun) -> Iterator[Mapping[str, Any]]:
        yield {"run": name, "weights": weights(run)}

    def report(rows: Rows, folder: Path) -> tuple[str, tuple[Path, ...]]:
        del folder
        return format_table([{"run": name, "weights": rows[(name,)]["weights"]} for name in runs]), ()

    measurements = [
        Measurement(((name,),), lambda run, name=name: measure(name, run), (each,))
        for name, each in runs.items()
    ]
    return Design("tiny", {}, ("run",), ("weights",), measurements, report)


def run_tiny_study(folder: Path, root: Path, changes: Mapping[str, Any], jobs: int = 1) -> str | None:
    """Run the tiny study to its end; for a process of its own."""
    result = run_study(design(**changes), folder, store=RunStore(root), jobs=jobs)
    return None if result is None else result.report


def states(root: Path) -> dict[str, str]:
    """The state of every run of a store, by digest."""
    return {path.parent.name: json.loads(path.read_text())["state"] for path in root.glob("*/run.json")}
