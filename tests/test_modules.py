"""Every module on its own: each is imported in a fresh process, and some must not load torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import acdit

PACKAGE = Path(acdit.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
# Imports each module in a process forked from one that holds none of the package. To save time that one
# holds what others wrote, which a first process finds out by importing everything.
EACH_ALONE = """
import importlib, os, sys, traceback

def scout(modules, end):
    for module in modules:
        importlib.import_module(module)
    os.write(end, "\\n".join(name for name in sys.modules if name.split(".")[0] != "acdit").encode())

def alone(module):
    assert not any(name.split(".")[0] == "acdit" for name in sys.modules)
    importlib.import_module(module)

def forked(function, *arguments):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)
    try:
        function(*arguments)
    except BaseException:
        print("failed:", *arguments[:1])
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    os._exit(0)

names = sys.argv[2:]
with open(sys.argv[1], "wb") as file:
    forked(scout, names, file.fileno())
for other in open(sys.argv[1]).read().split():
    try:
        importlib.import_module(other)
    except BaseException:
        pass  # some can only be imported by those that need them
for name in names:
    forked(alone, name)
print("all were tried")
"""
WITHOUT_TORCH = [
    name
    for name in MODULES
    if name.startswith(("acdit.modalities", "acdit.cli.", "acdit.training.config", "acdit.training.recipes"))
    and name.rpartition(".")[2] not in ("first_run", "open_model")
]


def run(program: str, *arguments: str) -> str:
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout


@pytest.mark.long
def test_every_module_is_imported_alone(tmp_path):
    assert "acdit.model.attention" in MODULES and len(MODULES) > 100
    names = [name for name in MODULES if name != "acdit.__main__"]
    assert run(EACH_ALONE, str(tmp_path / "others"), *names) == "all were tried\n"


def test_configuration_and_options_load_no_torch():
    assert "acdit.cli.main" in WITHOUT_TORCH and "acdit.modalities.table" in WITHOUT_TORCH
    imports = "\n".join(f"import {name}" for name in WITHOUT_TORCH)
    loaded = run(f"import sys\n{imports}\nprint(*sys.modules)").split()
    assert not {"torch", "diffusers", "numpy"} & set(loaded)
