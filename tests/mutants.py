"""Plants known mistakes in a copy of the package, one at a time, and sees that the tests named for each fail.

python tests/mutants.py [part of a mutant's name ..]
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mistakes import Mutant

ROOT = Path(__file__).resolve().parents[1]
# What takes long to import is imported once, before any fork.
SLOW = (
    "accelerate",
    "diffusers.models.modeling_utils",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "torch",
)


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
    for name in ("acdit", "docs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def verdict(mutant: "Mutant") -> tuple[bool, str]:
    """Whether the tests caught a mutant, and how."""
    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_repository(Path(folder))
        try:
            path = Path(folder) / "acdit" / mutant.file
            path.write_text(mutant.planted(path.read_text()))
        except (OSError, ValueError) as error:
            return False, str(error)
        status, last = run_tests(Path(folder), mutant.tests.split())
    return status == 1, last  # 1 = tests ran and some failed


def main() -> int:
    from mistakes import (
        MUTANTS,
    )  # here, because processes that tests start import this file without its folder

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", help="part of a mutant's name; all by default")
    wanted = parser.parse_args().name
    chosen = [each for each in MUTANTS if not wanted or any(part in each.name for part in wanted)]
    if not chosen:
        print(f"no mutant is named so; there are: {', '.join(each.name for each in MUTANTS)}")
        return 1

    for name in SLOW:
        importlib.import_module(name)
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
