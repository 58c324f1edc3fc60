"""Load objects that are named by import strings, such as "acdit.pipelines.image:ACDiTImagePipeline"."""

from importlib import import_module


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
