"""Diagnosis of this machine: what it has, what is used and why, and whether it computes correctly."""

import os
import re
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import Literal

import torch

from .. import __version__
from ..model.attention import BACKENDS, Backend, agrees, default_backend, disagreement, supports
from ..model.layout import Layout
from ..model.matmul_rate import best_rate
from ..model.transformer import ACDiTTransformer
from ..utils.progress_bar import ProgressBar
from .timing import machine

State = Literal["has", "uses", "right", "FAILED", "lacks"]
CORE = ("torch", "diffusers", "accelerate", "datasets", "safetensors")


@dataclass(frozen=True)
class Finding:
    """Finding about the machine: its subject, its state (present, used or checked), and the details."""

    subject: str
    state: State
    text: str


def examine(device: torch.device) -> list[Finding]:
    """Examine a device and the installed packages; this takes some seconds."""
    # On the CPU the dense call is the reference for the other backends.
    backends: list[Backend] = [backend for backend in BACKENDS if (backend, device.type) != ("dense", "cpu")]
    steps = {
        "packages": _packages,
        "extras": _extras,
        "device": _hardware,
        "matrix products": _rates,
        **{f"attention {backend}": partial(_backend, backend) for backend in backends},
        "attention": _chosen_backend,
        "cached sampling": _cache,
        "torch.compile": _compiler,
    }
    findings: list[Finding] = []
    for subject, step in ProgressBar(steps.items(), desc="doctor", unit="check", delay=1, leave=False):
        try:
            findings.extend(step(device))
        except Exception as fault:  # noqa: BLE001  every failure is a finding
            first = next(iter(str(fault).splitlines()), "")
            findings.append(Finding(subject, "FAILED", f"{type(fault).__name__}: {first}"))
    return findings


def format_findings(findings: Sequence[Finding]) -> str:
    """Format the findings, one per line."""
    return "\n".join(f"{finding.state:8}{finding.subject:22}{finding.text}" for finding in findings)


def _packages(device: torch.device) -> list[Finding]:
    facts = machine(device)
    named = ", ".join(f"{name} {version(name)}" for name in CORE)
    return [Finding("packages", "has", f"acdit {__version__}, Python {facts['python']}, {named}")]


def _extras(device: torch.device) -> list[Finding]:
    """Check the packages that `pip install acdit[..]` adds; return nothing if acdit is not installed."""
    extras: dict[str, list[str]] = {}
    for requirement in (requires("acdit") or []) if _installed("acdit") else []:
        name, extra = (
            re.split(r"[^\w.-]", requirement, maxsplit=1)[0],
            re.search(r"extra == .(\w+)", requirement),
        )
        if extra and extra[1] != "dev":
            extras.setdefault(extra[1], []).append(name)
    findings = []
    for extra, names in extras.items():
        missing = [name for name in names if not _installed(name)]
        if missing:
            text = f"{', '.join(missing)}: pip install 'acdit[{extra}]' if you need it"
            findings.append(Finding(f"extra {extra}", "lacks", text))
        else:
            findings.append(Finding(f"extra {extra}", "has", ", ".join(names)))
    return findings


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _hardware(device: torch.device) -> list[Finding]:
    facts = machine(device)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        text = (
            f"{facts['processor']}, {memory:.0f} GiB, CUDA {torch.version.cuda}; "
            f"allocator {facts['allocator']}"
        )
    else:
        text = f"{facts['processor']}, {facts['threads']} threads; allocator {facts['allocator']}"
    reason = "torch sees a GPU" if device.type == "cuda" else "torch sees no GPU"
    if device.type == "cpu" and torch.cuda.is_available():
        reason = "it was requested, although torch sees a GPU"
    return [Finding("device", "uses", f"{device}, because {reason}"), Finding(str(device), "has", text)]


def _rates(device: torch.device) -> list[Finding]:
    """Measure the rate of matrix products with the sizes of a network of size B, by precision."""
    rates: dict[torch.dtype, float] = {}
    rows = 256 if device.type == "cpu" else 1024  # some CPUs have no bf16 and take seconds
    for dtype in (torch.float32, torch.bfloat16):
        rates[dtype] = best_rate([(1, rows, 768, 3072)], dtype, device)
    listed = ", ".join(f"{str(dtype)[6:]} {rate / 1e9:,.0f} GFLOP/s" for dtype, rate in rates.items())
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        precision = "bf16 autocast in training, because this GPU supports it"
    else:
        precision = (
            "float32; bf16 is the default only on GPUs that support it; to use it: --training.precision bf16"
        )
    return [Finding("matrix products", "has", listed), Finding("precision", "uses", precision)]


def _backend(backend: Backend, device: torch.device) -> list[Finding]:
    """Compare a backend with one dense call on the CPU."""
    training = supports(backend, device, training=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        error = disagreement(backend, device, backward=training)
    compared, note = (
        ("output and gradients", "") if training else ("output", "; no backward pass on this device")
    )
    text = f"{compared} within {error:.1e} of one dense call{note}"
    return [Finding(f"attention {backend}", "right" if agrees(error, device) else "FAILED", text)]


def _chosen_backend(device: torch.device) -> list[Finding]:
    with torch.enable_grad():
        chosen = default_backend(device)
    if chosen == "flex":
        text = "flex in training, because it is correct here, and split in sampling, which needs few masks"
    elif device.type == "cuda":
        text = "split, because FlexAttention gives wrong results here"
    else:
        text = "split, because it is correct on every device"
    return [Finding("attention", "uses", text)]


def _cache(device: torch.device) -> list[Finding]:
    """Compare blocks computed one by one through the cache with all of them in one call."""
    layout = Layout((4, 4), (2, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ACDiTTransformer(3, layout.grid, 2, 32, 2, num_classes=4).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)  # a fresh network outputs zeros only
        clean, noised = (torch.randn(2, layout.num_blocks, layout.block_tokens, 3) for _ in range(2))
    torch.nn.Module.to(network, device)
    clean, noised = clean.to(device), noised.to(device)
    timestep, labels = (
        torch.full((2, layout.num_blocks), 500.0, device=device),
        torch.tensor([1, 2], device=device),
    )
    with torch.no_grad():
        whole = network(noised, timestep, layout=layout, clean=clean, labels=labels).sample
        cache, parts = network.new_cache(layout, 2), []
        for block in range(layout.num_blocks):
            current = slice(block, block + 1)
            past = clean[:, block - 1 : block] if block else None
            arguments = {
                "layout": layout,
                "blocks": (block,),
                "clean": past,
                "labels": labels,
                "cache": cache,
            }
            parts.append(network(noised[:, current], timestep[:, current], **arguments).sample)
    error = float((torch.cat(parts, 1) - whole).norm() / whole.norm())
    state = "right" if agrees(error, device) else "FAILED"
    return [Finding("cached sampling", state, f"within {error:.1e} of one call over all blocks")]


def _compiler(device: torch.device) -> list[Finding]:
    if device.type == "cuda":
        compiler = "triton" if find_spec("triton") else None
    else:
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), None)
    if compiler is None:
        return [Finding("torch.compile", "lacks", "no compiler was found: --training.compile cannot be used")]
    return [Finding("torch.compile", "has", f"{compiler}; used only with --training.compile")]
