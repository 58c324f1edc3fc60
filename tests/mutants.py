"""Plants known mistakes in a copy of the package, one at a time, and sees that the tests named for each fail.

python tests/mutants.py [part of a mutant's name ..]
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import accelerate  # noqa: F401  what takes long to import, before any fork
import diffusers  # noqa: F401
import pytest
import torch  # noqa: F401
from diffusers.models import modeling_utils  # noqa: F401
from diffusers.schedulers import scheduling_dpmsolver_multistep  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


class Mutant(NamedTuple):
    """A mistake in a file of the package: texts that occur once there, and what takes their place."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: str  # separated by blanks, in tests/


def mutant(name: str, file: str, old: str, new: str, tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


MUTANTS = [
    mutant(
        "mask off by one",
        "attention.py",
        "answering < limit[asking]",
        "answering <= limit[asking]",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "own clean block visible to its noised view",
        "attention.py",
        "max(blocks), tuple(blocks), True",
        "max(blocks), tuple(min(b + 1, max(blocks)) for b in blocks), True",
        "test_transformer.py::test_a_clean_block_is_seen_by_later_views_alone",
    ),
    mutant(
        "own clean block visible, seen by the golden prediction",
        "attention.py",
        "max(blocks), tuple(blocks), True",
        "max(blocks), tuple(min(b + 1, max(blocks)) for b in blocks), True",
        "test_golden.py::test_prediction",
    ),
    mutant(
        "window off by one",
        "attention.py",
        "max(0, index - self.window)",
        "max(0, index - self.window + 1)",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "sinks forgotten by the split backend",
        "attention.py",
        "sinks = min(visibility.sinks, low)",
        "sinks = 0",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "split pieces without a mask",
        "attention.py",
        "masked=len(limits) > 1",
        "masked=False",
        "test_attention.py::test_forward_float32",
    ),
    mutant(
        "rotation dropped",
        "rope.py",
        "wide = x.to(self.cos.dtype)",
        "return x",
        "test_rope.py::test_equation_4_by_loops",
    ),
    mutant(
        "rotation dropped, seen by the network",
        "layers.py",
        "rope.rotate(self.k_norm(key))",
        "self.k_norm(key)",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "axes swapped",
        "rope.py",
        "coordinates[..., axis, None]",
        "coordinates[..., -1 - axis, None]",
        "test_rope.py::test_equation_4_by_loops",
    ),
    mutant(
        "rotary base of any length",
        "rope.py",
        "100 * math.ceil(8 * length / (100 * math.pi))",
        "100",
        "test_rope.py::test_base",
    ),
    mutant(
        "published rotation inside the axes",
        "rope.py",
        '(head_dim,) if variant == "published" else split',
        "split",
        "test_golden.py::test_prediction",
    ),
    mutant(
        "exact GELU",
        "layers.py",
        'approximate="tanh"',
        'approximate="none"',
        "test_golden.py::test_prediction",
    ),
    mutant(
        "another norm epsilon",
        "layers.py",
        "NORM_EPS = 1e-6",
        "NORM_EPS = 1e-5",
        "test_golden.py::test_prediction",
    ),
    mutant(
        "QK-norm after the rotation",
        "layers.py",
        "rope.rotate(self.k_norm(key))",
        "self.k_norm(rope.rotate(key))",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "scale and shift swapped",
        "layers.py",
        "_modulate(self.norm1(views.x), modulation.shift1, modulation.scale1)",
        "_modulate(self.norm1(views.x), modulation.scale1, modulation.shift1)",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "sine before cosine",
        "layers.py",
        "(angles.cos(), angles.sin())",
        "(angles.sin(), angles.cos())",
        "test_transformer.py::test_network_in_float32",
    ),
    mutant(
        "the clean stream teaches nothing",
        "transformer.py",
        "clean_stream._replace(x=x)",
        "clean_stream._replace(x=x.detach())",
        "test_transformer.py::test_gradients_equal_the_reference",
    ),
    mutant(
        "last layer's clean outputs computed",
        "transformer.py",
        "return_hidden_states or layer < len(self.blocks) - 1",
        "True",
        "test_transformer.py::test_what_nobody_reads_costs_nothing",
    ),
    mutant(
        "no labels = the first class",
        "transformer.py",
        'self.config["num_classes"], device=noised.device',
        "0, device=noised.device",
        "test_transformer_calls.py::test_labels_per_sample_and_per_view",
    ),
    mutant(
        "label dropout in evaluation",
        "layers.py",
        "return self.embedding_table(labels)",
        "return self.embedding_table(torch.where(torch.rand(labels.shape) < 0.1, "
        "self.embedding_table.num_embeddings - 1, labels))",
        "test_transformer_calls.py::test_labels_are_never_dropped_by_the_network",
    ),
    mutant(
        "label dropout in sampling",
        "sampling.py",
        "view_labels = labels[:, None]",
        "view_labels = torch.where(torch.rand(batch, 1) < 0.1, null_label, labels[:, None])",
        "test_sampling.py::test_equals_the_loop",
    ),
    mutant(
        "stale cache: new blocks overwrite the last one",
        "cache.py",
        "start = self.num_blocks * self.layout.block_tokens",
        "start = max(0, self.num_blocks - 1) * self.layout.block_tokens",
        "test_cache.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "stale cache: blocks are not counted",
        "cache.py",
        "self.num_blocks += new_blocks",
        "self.num_blocks += 0",
        "test_cache.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "stale cache: the noise is kept, not the clean block",
        "sampling.py",
        "pending = sample[:, None]",
        "pending = noise[:, index][:, None]",
        "test_sampling.py::test_layouts_of_one_network",
    ),
    mutant(
        "guidance branches swapped",
        "sampling.py",
        "answer[:, 1], answer[:, 0], scale",
        "answer[:, 0], answer[:, 1], scale",
        "test_sampling.py::test_guidance_rises_over_the_blocks",
    ),
    mutant(
        "guidance at every noise level",
        "sampling.py",
        "not self.interval[0] <= sigma <= self.interval[1]",
        "False",
        "test_sampling.py::test_guidance_acts_in_an_interval_of_sigma",
    ),
    Mutant(
        "solver not restarted",
        "sampling.py",
        (
            (
                "solver = copy.deepcopy(scheduler)",
                "solver = copy.deepcopy(scheduler) if index == start else solver",
            ),
            (
                "solver.set_timesteps(counts[index], device=device)",
                "index == start and solver.set_timesteps(counts[index], device=device)",
            ),
        ),
        "test_sampling.py::test_layouts_of_one_network",
    ),
    mutant(
        "solver not copied",
        "sampling.py",
        "copy.deepcopy(scheduler)",
        "scheduler",
        "test_sampling.py::test_the_scheduler_is_not_changed",
    ),
    mutant(
        "steps of the first block for all",
        "sampling.py",
        "set_timesteps(counts[index]",
        "set_timesteps(counts[0]",
        "test_sampling.py::test_steps_per_block_and_evaluations",
    ),
    mutant(
        "what a callback returns is ignored",
        "sampling.py",
        "sample if replaced is None else replaced",
        "sample",
        "test_sampling.py::test_callbacks_count_steps_over_all_blocks_and_may_replace_the_sample",
    ),
    mutant(
        "noise cut without regard to blocks",
        "sampling.py",
        "layout.to_blocks(torch.stack(drawn))",
        "torch.stack(drawn).reshape(len(drawn), layout.num_blocks, layout.block_tokens, -1)",
        "test_sampling.py::test_a_seed_is_the_same_noise_at_every_block_size",
    ),
    mutant(
        "training draws by place in the batch",
        "diffusion.py",
        '"diffusion", epoch, index, draw',
        '"diffusion", epoch, row, draw',
        "test_diffusion.py::test_draws_depend_on_their_key_alone",
    ),
    mutant(
        "the same noise for every draw",
        "diffusion.py",
        '"diffusion", epoch, index, draw',
        '"diffusion", epoch, index',
        "test_diffusion.py::test_every_part_of_the_key_counts",
    ),
    mutant(
        "one timestep for all blocks",
        "diffusion.py",
        "timesteps[row, column].uniform_(generator=source)",
        "timesteps[row, column] = torch.rand((), generator=source)",
        "test_diffusion.py::test_every_block_has_its_own_timestep_and_noise",
    ),
    mutant(
        "labels always dropped or never",
        "diffusion.py",
        "dropped < self.label_dropout",
        "dropped < round(self.label_dropout)",
        "test_diffusion.py::test_share_of_dropped_labels",
    ),
    mutant(
        "flow backwards",
        "diffusion.py",
        "share), noise - data",
        "share), data - noise",
        "test_diffusion.py::test_flow_targets_are_those_of_diffusers",
    ),
    mutant(
        "columns before rows in a patch",
        "layout.py",
        "*tokens, *patches, 1)",
        "*tokens, *reversed(patches), 1)",
        "test_layout.py::test_patch_channels_are_row_column_channel",
    ),
    mutant(
        "EMA weights not restored",
        "training/loop.py",
        'checkpoint.tensors["ema"]',
        'checkpoint.tensors["model"]',
        "training/test_resume.py::test_resume_restores_the_moving_average",
    ),
]


def run_tests(folder: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests in a copy of the repository; pytest's exit status and its last line.

    In a forked process, so that torch need not be imported again for every mutant.
    """
    log = folder / "pytest.log"
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(folder, tests, log))
    process.start()
    process.join()
    lines = log.read_text().strip().splitlines()
    return process.exitcode or 0, lines[-1] if lines else ""


def _pytest(folder: Path, tests: list[str], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path = [str(folder), *(path for path in sys.path if not path.startswith(str(ROOT / "tests")))]
    options = ["-q", "-x", "--no-header", "--tb=line", "--disable-warnings", "-p", "no:cacheprovider"]
    status = pytest.main([*options, *(f"tests/{test}" for test in tests)])
    if not Path(sys.modules["acdit"].__file__ or "").is_relative_to(folder):
        print("not the copied package was tested")
        status = 3
    sys.stdout.flush()
    os._exit(int(status))


def copy_of_the_repository(folder: Path) -> None:
    for name in ("acdit", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def plant(folder: Path, mutant: Mutant) -> None:
    """Change the package's source in `folder`.

    Raises:
        ValueError: if a text is not found exactly once.
    """
    path = folder / "acdit" / mutant.file
    source = path.read_text()
    for old, new in mutant.edits:
        pattern = r"\s+".join(re.escape(word) for word in old.split())
        found = len(re.findall(pattern, source))
        if found != 1:
            raise ValueError(f"{mutant.file} has {found} times, not once: {old}")
        source = re.sub(pattern, lambda _, new=new: new, source)
    path.write_text(source)


def verdict(mutant: Mutant) -> tuple[bool, str]:
    """Whether the tests caught a mutant, and how."""
    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_repository(Path(folder))
        try:
            plant(Path(folder), mutant)
        except (OSError, ValueError) as error:
            return False, str(error)
        status, last = run_tests(Path(folder), mutant.tests.split())
    return status == 1, last  # 1 = tests ran and some failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", help="part of a mutant's name; all by default")
    wanted = parser.parse_args().name
    chosen = [each for each in MUTANTS if not wanted or any(part in each.name for part in wanted)]
    if not chosen:
        print(f"no mutant is named so; there are: {', '.join(each.name for each in MUTANTS)}")
        return 1

    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_repository(Path(folder))
        tests = sorted({test for each in chosen for test in each.tests.split()})
        status, last = run_tests(Path(folder), tests)
        if status:
            print(f"the tests fail without any mutant: {last}")
            return 1
        print(f"without a mutant: {last}", flush=True)

    survived = 0
    for each in chosen:
        caught, last = verdict(each)
        survived += not caught
        print(f"{'caught  ' if caught else 'SURVIVED'}  {each.name:<62}  {last}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants caught")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
