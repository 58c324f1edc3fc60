"""The application: routes of the page, its files and its requests."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .. import __version__
from ..utils.errors import UserError, line_of
from ..utils.untrusted import parse_json
from .draw import draw
from .jobs import Job, Worker
from .requests import DRAW, check_request, read_settings
from .shelf import Shelf

STATIC = Path(__file__).parent / "static"
UPLOAD_BYTES, UPLOAD_PIXELS, UPLOAD_FRAMES = 16 * 2**20, 2**24, 64


class Playground:
    """The page's state, and the functions that answer its requests.

    Args:
        shelf: the models.
        worker: the queue of jobs.
    """

    def __init__(self, shelf: Shelf, worker: Worker):
        self.shelf, self.worker = shelf, worker

    def routes(self) -> list[Any]:
        """Return the routes of the application."""
        return [
            Route("/", self.page),
            Route("/api/models", self.models),
            Route("/api/stop", self.stop, methods=["POST"]),
            Route("/api/draw", self.draw, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
        ]

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        del request
        index = STATIC / "index.html"
        return FileResponse(index) if index.exists() else PlainTextResponse("the page has no index.html yet")

    async def models(self, request: Request) -> Response:
        """Answer with the models, and the limits of uploads."""
        del request
        limits = {
            "upload_bytes": UPLOAD_BYTES,
            "upload_pixels": UPLOAD_PIXELS,
            "upload_frames": UPLOAD_FRAMES,
        }
        models = [card.described() for card in self.shelf.cards.values()]
        return JSONResponse({"models": models, "limits": limits, "version": __version__})

    async def draw(self, request: Request) -> Response:
        """Draw a picture."""
        values = check_request(await body_of(request), DRAW)
        card = self.shelf.card(values["model"], "draw")
        settings = read_settings(card, values)
        return self.streamed(lambda job: draw(job, self.shelf, card, settings))

    async def stop(self, request: Request) -> Response:
        """Stop a job."""
        values = await body_of(request)
        job = self.worker.find(values.get("job") if isinstance(values, dict) else None)
        if job is not None:
            self.worker.stop(job)
        return JSONResponse({"stopped": job is not None})

    def streamed(self, work: Callable[[Job], None]) -> Response:
        """Queue a job, and stream its events."""
        job = self.worker.submit(work)

        async def lines() -> AsyncIterator[str]:
            try:
                async for event in job.events():
                    yield json.dumps(event) + "\n"
            finally:
                self.worker.stop(job)

        return StreamingResponse(lines(), media_type="application/x-ndjson")


async def body_of(request: Request) -> object:
    """Return the JSON of a request."""
    return parse_json(await request.body(), "the request")


async def refused(request: Request, error: Exception) -> Response:
    """Answer a request that cannot be done with the reason."""
    del request
    return JSONResponse({"error": line_of(error)}, 400)


def application(shelf: Shelf, worker: Worker) -> Starlette:
    """Return the application."""
    handlers: Any = {UserError: refused}
    return Starlette(routes=Playground(shelf, worker).routes(), exception_handlers=handlers)
