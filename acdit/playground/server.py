"""Serve the page."""

import uvicorn

from .app import application
from .jobs import Worker
from .shelf import Shelf


def serve(shelf: Shelf, host: str, port: int) -> None:
    """Serve the page until it is interrupted."""
    config = uvicorn.Config(application(shelf, Worker()), host=host, port=port, log_level="warning")
    print(f"acdit demo: http://{host}:{port}", flush=True)
    uvicorn.Server(config).run()
