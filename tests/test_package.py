"""The package from outside: what it exports, and how little `import acdit` and `acdit --help` load."""

import subprocess
import sys
from importlib import import_module

import pytest

import acdit

HEAVY = {"torch", "diffusers", "accelerate", "datasets", "transformers", "jsonargparse", "numpy"}


def loaded_by(program: str) -> set[str]:
    report = f"import sys\n{program}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_import_and_help_load_nothing_heavy():
    modules = loaded_by(
        "import acdit\nfrom acdit.cli.main import main\nassert dir(acdit)\nassert main(['--help']) == 0"
    )
    assert "acdit.cli.main" in modules and not HEAVY & modules


def test_parsing_loads_no_torch():
    modules = loaded_by(
        "from acdit.cli.main import main\n"
        "assert main(['sample', '--help']) == 0\n"
        "assert main(['train', 'mnist', '--print_config']) == 0\n"
        "assert main(['train', 'mnist', '--model.size', 'Q']) == 2"
    )
    assert "jsonargparse" in modules and "torch" not in modules


@pytest.mark.parametrize("name", [*acdit.__all__, "ModelMixin", "SchedulerMixin", "DiffusionPipeline"])
def test_lazy_names(name):
    assert getattr(acdit, name) is getattr(import_module(acdit._HOMES[name]), name)


def test_names():
    assert set(acdit.__all__) <= set(dir(acdit))
    assert not hasattr(acdit, "no_such_name")
    assert not hasattr(acdit, "PreTrainedModel")
