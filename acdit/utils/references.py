"""Objects that are named by import strings, such as "acdit.pipelines.image:ACDiTImagePipeline"."""

from importlib import import_module


def load_object(reference: str) -> object:
    """Import the module that a reference names, and return the object of that name in it.

    Args:
        reference: MODULE:NAME.

    Raises:
        ValueError: if it is not written so.
    """
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a reference must be MODULE:NAME, not {reference!r}")
    return getattr(import_module(module), name)
