"""Load objects that are named by import strings, such as "acdit.pipelines.image:ACDiTImagePipeline"."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def load_object(reference: str) -> object:
    """Import the module that a reference names, and return the named object from it.

    Args:
        reference: Import string, MODULE:NAME.

    Raises:
        ValueError: If the reference does not have this form.
    """
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a reference must be MODULE:NAME, not {reference!r}")
    return getattr(import_module(module), name)


def load_submodule(package: str, name: str) -> ModuleType:
    """Import the module PACKAGE.NAME without running the package itself, whose imports may not be installed.

    The module sees an empty package, and is not kept in `sys.modules`: later imports of the package are not
    affected.

    Raises:
        ModuleNotFoundError: If there is no such package.
    """
    if package in sys.modules:
        return import_module(f"{package}.{name}")
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    empty = ModuleType(package)
    empty.__path__ = list(spec.submodule_search_locations)
    sys.modules[package] = empty
    try:
        return import_module(f"{package}.{name}")
    finally:
        for key in [key for key in sys.modules if key.split(".")[0] == package]:
            del sys.modules[key]
