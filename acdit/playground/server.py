"""Listen on an address and serve the page until it is interrupted."""

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from types import FrameType

import uvicorn

from .access import Access, Guard
from .app import application
from .connections import Connection
from .jobs import Worker
from .listening import url_of
from .shelf import Shelf

LAST_WAIT = 5  # seconds for the answers that are being sent when the server is interrupted


class Server(uvicorn.Server):
    """Server that stops all jobs when it is interrupted.

    Args:
        shelf: the models.
        access: conditions of requests.
        started: function that is called when requests are answered.
    """

    def __init__(self, shelf: Shelf, access: Access, started: Callable[[], None] | None = None):
        self.worker, self._when_started = Worker(), started
        config = uvicorn.Config(
            Guard(application(shelf, self.worker), access),
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=LAST_WAIT,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer requests."""
        await super().startup(sockets)
        if self._when_started is not None and self.started:
            self._when_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop all jobs, and end the server after their last events."""
        self.worker.close()
        super().handle_exit(sig, frame)


def serve(shelf: Shelf, listener: socket.socket, access: Access, *, open_browser: bool = False) -> None:
    """Serve the page until the process is interrupted.

    Args:
        shelf: the models.
        listener: socket that listens, see `listen`.
        access: conditions of requests.
        open_browser: whether to open the page in the browser of this machine.
    """
    address = url_of(listener)
    print(f"acdit demo: {address} shows the page; Ctrl-C ends it", flush=True)

    def show() -> None:  # in a thread of its own: a browser may run until it is closed
        threading.Thread(target=_open_browser, args=(address,), daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):
        Server(shelf, access, show if open_browser else None).run(sockets=[listener])
    print("acdit demo: ended", flush=True)


def _open_browser(address: str) -> None:
    """Open a page in the browser, but in none that would take over the terminal, unless BROWSER names it."""
    has_windows = os.name != "posix" or sys.platform == "darwin"
    named = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if not (has_windows or named) or not webbrowser.open(address):
        print(f"acdit demo: no browser can be opened here: open {address} yourself", file=sys.stderr)
