"""Turns, peaks and the machine's facts."""

from itertools import count
from types import SimpleNamespace

import torch

from acdit.bench.timing import machine, peak_bytes, time_alternately
from acdit.model import matmul_rate
from acdit.utils import heap

CPU = torch.device("cpu")


def test_runs_take_turns(monkeypatch):
    monkeypatch.setattr(matmul_rate, "time", SimpleNamespace(perf_counter=count(step=2.0).__next__))
    seen = []

    def run(name):
        seen.append(name)
        return name.upper()

    runs = {name: lambda name=name: run(name) for name in ("a", "b")}
    times, answers = time_alternately(runs, 3, CPU, lambda: seen.append("-"))
    assert "".join(seen) == "ab-ab-ab-ab"
    assert answers == {"a": "A", "b": "B"}
    assert times["a"].seconds == times["b"].seconds == (2.0, 2.0, 2.0)


def test_times_are_summed_up_by_median_least_and_most(monkeypatch):
    ticks = iter([0.0, 3.0, 10.0, 11.0, 20.0, 29.0])
    monkeypatch.setattr(matmul_rate, "time", SimpleNamespace(perf_counter=ticks.__next__))
    times, _ = time_alternately({"a": lambda: None}, 3, CPU, lambda: None)
    assert (times["a"].median, times["a"].minimum, times["a"].maximum) == (3.0, 1.0, 9.0)


def test_the_peak_is_what_is_held_at_once():
    kept = []

    def run():
        first = torch.empty(1000, 1000)
        second = torch.empty(2000, 1000)
        del first
        kept.append(torch.empty(500, 1000))
        del second
        kept.append(torch.empty(100, 1000))

    assert peak_bytes(run, CPU) == 12_000_000  # first and second
    assert peak_bytes(kept.clear, CPU) == 0


def test_the_peak_counts_what_autograd_keeps_and_what_operations_take_for_themselves():
    weight = torch.randn(50, 50, requires_grad=True)
    x = torch.randn(1000, 50)

    def run():
        (x @ weight).exp().sum().backward()  # exp keeps its output; its gradient is as large

    weight.grad = torch.zeros_like(weight)
    assert 2 * 200_000 <= peak_bytes(run, CPU) <= 4 * 200_000


def test_the_machine_is_named_and_left_as_it_is(monkeypatch):
    monkeypatch.setattr(heap, "_kept", False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    facts = machine(CPU)
    assert facts["device"] == "cpu" and facts["threads"] == torch.get_num_threads()
    assert facts["allocator"] and facts["processor"] and facts["torch"] == torch.__version__
    assert facts["settings"]["MALLOC_ARENA_MAX"] == "3"
    assert "kept" not in facts["allocator"] and not heap.keeps_freed_memory()
    monkeypatch.setattr(heap, "_kept", True)
    assert machine(CPU)["allocator"].endswith(", freed memory kept")
