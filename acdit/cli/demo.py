"""`acdit demo`: serve a page in the browser that shows models generate block by block."""

import os
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from ..utils.errors import require
from ..utils.ranges import Range, Ranged
from .command import PlainCommand

AUTH = "ACDIT_DEMO_AUTH"


@dataclass
class DemoOptions(Ranged):
    """Serve a page in the browser that shows how the models generate block by block.

    It works without a network. Other machines cannot reach it unless --host is given.
    """

    section: ClassVar[str] = "--"

    model: list[str] = field(default_factory=list)
    """Pipeline directories or training runs that the page offers beside the models in the package."""
    host: str = "127.0.0.1"
    """Address to listen on; one that other machines can reach needs a password, see --auth."""
    port: Annotated[int, Range(0, 65535)] = 7860
    """Port to listen on; 0 = any free one."""
    auth: str | None = None
    """USER:PASSWORD that browsers must send; default: the environment variable ACDIT_DEMO_AUTH, which other
    users of this machine cannot see in the list of processes."""
    open: bool = False
    """Open the page in the browser of this machine."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the networks."""


def run(options: DemoOptions) -> None:
    """Serve the page until it is interrupted."""
    for module in ("starlette", "uvicorn"):
        require(module, "demo")
    from ..playground.access import access_of
    from ..playground.listening import listen

    access = access_of(options.host, options.auth or os.environ.get(AUTH))
    with listen(options.host, options.port) as listener:  # before what takes seconds to import
        import torch

        from ..playground.server import serve
        from ..playground.shelf import Shelf
        from .open_model import device_of

        shelf = Shelf(options.model, device_of(options.device), getattr(torch, options.dtype))
        serve(shelf, listener, access, open_browser=options.open)


COMMAND = PlainCommand(
    name="demo",
    summary="page in the browser",
    example="acdit demo --model runs/mnist --open",
    options=DemoOptions,
    run=run,
)
