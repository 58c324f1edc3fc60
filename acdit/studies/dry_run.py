"""Table of what a study would train and measure: state, FLOPs and hours of each run."""

import math
from collections.abc import Container, Sequence
from pathlib import Path

import torch

from ..bench.timing import machine
from ..evaluation.report import format_table
from ..model.matmul_rate import square_rate
from ..utils.ranks import launched
from .design import Design
from .measurements import FILE
from .run_store import RunStore, StoredRun

# Fraction of the best rate of matrix products that training is assumed to reach; small networks on a CPU
# reach a fifth to a half.
ASSUMED_FRACTION = 0.3
LEAST_SECONDS = 10  # of a run whose rate counts: a shorter one mostly opens its data
SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices that are multiplied to measure the rate


def describe_study(
    design: Design, folder: Path, store: RunStore | None = None, *, refresh: bool = False
) -> str:
    """Describe the training runs and measurements of a study, without training or writing anything.

    Args:
        design: Design of the study.
        folder: Output folder.
        store: Store of the training runs; default: that of the environment variable `ACDIT_RUNS`.
        refresh: Whether everything would be measured again.

    Raises:
        UserError: If the folder, or that of a run, is damaged or belongs to something else.
    """
    store = store or RunStore()
    measured = design.measured(folder, store, refresh=refresh)
    missing = {key for each in design.missing(measured) for key in each.rows if key not in measured.rows}
    total = sum(len(measurement.rows) for measurement in design.measurements)
    rows = f"measurements: {total - len(missing):,} of {total:,} rows are in {folder / FILE}"
    if not design.runs:
        return f"no training runs\n{rows}"
    needed = store.runs(spec for each in design.missing(measured) for spec in each.runs)
    unneeded = {run.digest for run in store.runs(design.runs)} - {run.digest for run in needed}
    return f"{_table(store.runs(design.runs), store, unneeded, refresh)}\n{rows}"


def _table(runs: Sequence[StoredRun], store: RunStore, unneeded: Container[str], refresh: bool) -> str:
    """Return a table of training runs with the total of the steps that are left.

    Args:
        runs: Training runs of the study.
        store: Store of the training runs.
        unneeded: Digests of the runs that will not be trained, since all their rows are measured.
        refresh: Whether runs that diverged are trained again.
    """
    rate, source = _rate(runs)
    lines, flops_left = [], 0.0
    for run in runs:
        again = refresh and run.ended and not run.finished  # it diverged, and starts anew
        left = run.steps - (0 if again else run.saved_step)
        if run.digest in unneeded or run.finished or (run.ended and not refresh):
            left = 0
        flops = math.nan if run.flops is None else run.flops
        flops_left += flops * left / run.steps
        lines.append(
            {
                "run": run.name,
                "folder": run.digest,
                "state": "not needed: measured" if run.digest in unneeded and not run.ended else _state(run),
                "FLOPs": f"{flops:.3g}",
                "hours left": _hours(flops * left / run.steps, rate),
            }
        )
    finished = sum(run.finished for run in runs)
    total = {
        "run": "total",
        "folder": "",
        "state": f"{finished} of {len(runs)} finished",
        "FLOPs": f"{sum(math.nan if run.flops is None else run.flops for run in runs):.3g}",
        "hours left": _hours(flops_left, rate),
    }
    return (
        f"{format_table([*lines, total])}\n"
        f"runs are stored in {store.root}; hours for one after the other, at {rate:.3g} FLOP/s, {source}"
    )


def _state(run: StoredRun) -> str:
    if run.finished:
        return "finished"
    if (reason := run.diverged) is not None:
        return f"left out: {reason}" if run.left_out else reason
    return "missing" if run.facts is None else f"{run.saved_step:,} of {run.steps:,} steps"


def _hours(flops: float, rate: float) -> str:
    hours = flops / rate / 3600
    return "< 0.01" if 0 < hours < 0.01 else f"{hours:.3g}"


def _rate(runs: Sequence[StoredRun]) -> tuple[float, str]:
    """Return the FLOP/s at which this machine trains, and how they are known.

    They are those of the finished runs that it trained with as many threads and for long enough, or else a
    fraction of its best rate of matrix products.
    """
    device = launched().device
    own = {"machine": machine(device)["processor"], "threads": torch.get_num_threads()}
    known = [
        (facts["flops"] * facts["timed_steps"] / run.steps, facts["seconds"])
        for run in runs
        if run.finished and (facts := run.facts) and facts["flops"] and facts["seconds"] >= LEAST_SECONDS
        if all(facts[key] == value for key, value in own.items())
    ]
    if known:
        rate = sum(flops for flops, _ in known) / sum(seconds for _, seconds in known)
        return rate, f"as the {len(known)} finished runs of this machine"
    side = SIDE.get(device.type, SIDE["cpu"])
    best = square_rate(side, torch.float32, device)
    return best * ASSUMED_FRACTION, f"{ASSUMED_FRACTION:.0%} of its best rate of matrix products"
