"""`acdit demo`: serve a page in the browser that draws with the models block by block."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from ..utils.errors import require
from ..utils.ranges import Range, Ranged
from .command import PlainCommand


@dataclass
class DemoOptions(Ranged):
    """Serve a page in the browser that shows how models generate block by block."""

    section: ClassVar[str] = "--"

    model: list[str] = field(default_factory=list)
    """Pipeline directories or training runs that the page offers beside the models in the package."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Range(0, 65535)] = 7860
    """Port to listen on; 0 = any free one."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the networks."""


def run(options: DemoOptions) -> None:
    """Serve the page until Ctrl-C."""
    for module in ("starlette", "uvicorn"):
        require(module, "demo")
    import torch

    from ..playground.server import serve
    from ..playground.shelf import Shelf
    from .open_model import device_of

    shelf = Shelf(options.model, device_of(options.device), getattr(torch, options.dtype))
    serve(shelf, options.host, options.port)


COMMAND = PlainCommand(
    name="demo",
    summary="page in the browser",
    example="acdit demo --model runs/mnist --open",
    options=DemoOptions,
    run=run,
)
