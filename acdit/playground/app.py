"""The application: routes of the page, its files and its requests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .. import __version__
from ..utils.errors import UserError, line_of, raised_here
from . import requests
from .cards import Card
from .draw import Start, draw, finish
from .how import explain
from .jobs import Job, Relabel, Worker
from .pictures import UPLOAD_BYTES, UPLOAD_FRAMES, UPLOAD_PIXELS, data_url, uploaded_clip, uploaded_picture
from .refusals import Refusal
from .shelf import Shelf
from .video import Clip, LabelChoice, film, whole_blocks
from .write import write

STATIC = Path(__file__).parent / "static"
LONGEST_REQUEST = 4 * UPLOAD_BYTES // 3 + 2**16  # bytes: an upload in base64, and settings
LONGEST_TEXT = 2**18  # bytes of a request without an upload
LONGEST_READING = 30.0  # seconds in which a request must arrive


class _Json(JSONResponse):
    """Answer in ASCII, so that half a surrogate pair in the name of a class or of a folder can be sent."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Playground:
    """The state of the page, and the functions that answer its requests.

    Args:
        shelf: the models.
        worker: the queue of jobs.
    """

    def __init__(self, shelf: Shelf, worker: Worker):
        self.shelf, self.worker = shelf, worker
        self._decoding = CapacityLimiter(1)  # uploads are decoded one after the other, to bound the memory
        self._explaining = CapacityLimiter(1)  # explanations need not wait for uploads

    def routes(self) -> list[Any]:
        """Return the routes of the application."""
        posts = {
            "draw": self.draw,
            "finish": self.finish,
            "preview": self.preview,
            "video": self.video,
            "video/label": self.change_label,
            "write": self.write,
            "fill": self.fill,
            "how": self.how,
            "stop": self.stop,
        }
        return [
            Route("/", self.page),
            Route("/api/models", self.models),
            *(Route(f"/api/{name}", answer, methods=["POST"]) for name, answer in posts.items()),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        del request
        return FileResponse(STATIC / "index.html")

    async def models(self, request: Request) -> Response:
        """Answer with the models, and the limits of uploads."""
        del request
        limits = {
            "upload_bytes": UPLOAD_BYTES,
            "upload_pixels": UPLOAD_PIXELS,
            "upload_frames": UPLOAD_FRAMES,
        }
        models = [card.described() for card in self.shelf.cards.values()]
        return _Json({"models": models, "limits": limits, "version": __version__})

    async def draw(self, request: Request) -> Response:
        """Draw a picture of a class."""
        card, values = await self._read(request, requests.PICTURE, "draw")
        settings = requests.read_settings(card, values)
        return self._streamed(lambda job: draw(job, self.shelf, card, settings))

    async def finish(self, request: Request) -> Response:
        """Draw the rest of an uploaded picture."""
        card, values = await self._read(request, requests.FINISH, "finish", LONGEST_REQUEST)
        settings = requests.read_settings(card, values)
        keep = requests.checked_keep(card, settings.block, values["keep"])
        picture = await self._picture(card, values["image"])
        start = Start(picture, keep, values["count"] or 1)
        return self._streamed(lambda job: finish(job, self.shelf, card, settings, start))

    async def preview(self, request: Request) -> Response:
        """Answer with an uploaded picture as a model sees it."""
        card, values = await self._read(request, requests.PREVIEW, "finish", LONGEST_REQUEST)
        if values["block"] is not None:
            requests.checked_block(card, values["block"])
        return _Json({"image": data_url(await self._picture(card, values["image"]))})

    async def video(self, request: Request) -> Response:
        """Make a video."""
        card, values = await self._read(request, requests.VIDEO, "video", LONGEST_REQUEST)
        settings = requests.read_settings(card, values)
        frames = requests.checked_frames(card, settings.block, values["frames"])
        planned = [requests.checked_label(card, label) for label in values["labels_by_block"] or []]
        if planned and not card.can_change_class:
            raise UserError(
                f"the class cannot change with {card.name}: what it sees of the past depends on it"
            )
        hold = bool(values["hold"])
        if hold and not card.can_hold:
            raise UserError(f"{card.name} cannot keep the first block in view: leave hold out")
        if hold and planned:
            raise UserError(
                "a video that keeps its first block in view keeps its class: leave out labels_by_block"
            )
        choice, prefix = LabelChoice(settings.label, planned), []
        if values["clip"] is not None:
            size = requests.frames_of_block(card, settings.block)
            prefix = await to_thread.run_sync(
                lambda: uploaded_clip(values["clip"], *card.square), limiter=self._decoding
            )
            prefix = whole_blocks(prefix, size)
        clip = Clip(choice, frames, prefix, hold)
        return self._streamed(
            lambda job: film(job, self.shelf, card, settings, clip),
            (lambda label: choice.change(requests.checked_label(card, label)))
            if card.can_change_class and not hold
            else None,
        )

    async def change_label(self, request: Request) -> Response:
        """Change the class of the blocks of a video that have not begun."""
        values = requests.check_request(await body_of(request, LONGEST_TEXT), requests.CHANGE)
        job = self.worker.find(values["job"])
        if job is None or job.relabel is None:
            raise Refusal(
                "The class of this video cannot be changed: it has ended, or its model does not allow it", 404
            )
        job.relabel(values["label"])
        return _Json({"accepted": True})

    async def write(self, request: Request) -> Response:
        """Continue a prompt."""
        card, values = await self._read(request, requests.WRITE, "write")
        settings = requests.read_prompt(card, values)
        return self._streamed(lambda job: write(job, self.shelf, card, settings))

    async def fill(self, request: Request) -> Response:
        """Fill the gaps of a text."""
        card, values = await self._read(request, requests.FILL, "write")
        settings = requests.read_gaps(card, values)
        return self._streamed(lambda job: write(job, self.shelf, card, settings))

    async def how(self, request: Request) -> Response:
        """Answer with the mask, the order, the cache and the cost of a layout."""
        card, values = await self._read(request, requests.HOW, "how")
        block = requests.checked_block(card, values["block"])
        return _Json(
            await to_thread.run_sync(
                lambda: explain(card, block, self.shelf.machine), limiter=self._explaining
            )
        )

    async def stop(self, request: Request) -> Response:
        """Stop a job."""
        values = requests.check_request(await body_of(request, LONGEST_TEXT), requests.STOP)
        job = self.worker.find(values["job"])
        if job is not None:
            self.worker.stop(job)
        return _Json({"stopped": job is not None})

    async def _read(
        self, request: Request, kinds: Any, tab: str, longest: int = LONGEST_TEXT
    ) -> tuple[Card, dict[str, Any]]:
        """Return the model of a request and its checked values."""
        values = requests.check_request(await body_of(request, longest), kinds)
        return self.shelf.card(values["model"], tab), values

    async def _picture(self, card: Card, url: str) -> Any:
        return await to_thread.run_sync(lambda: uploaded_picture(url, *card.square), limiter=self._decoding)

    def _streamed(self, work: Callable[[Job], None], relabel: Relabel | None = None) -> Response:
        """Queue a job, and stream its events."""
        job = self.worker.submit(work, relabel)

        async def lines() -> AsyncIterator[str]:
            try:
                async for line in job.lines():
                    yield line
            finally:  # also if the browser has closed the connection
                self.worker.stop(job)

        return StreamingResponse(lines(), media_type="application/x-ndjson")


async def body_of(request: Request, longest: int) -> object:
    """Return the JSON of a request.

    Raises:
        UserError: if it is longer than `longest` bytes, does not arrive, or is no JSON. No more than that is
            kept; a little more is read, since a browser reads the answer only after it has sent its request.
    """
    parts, size = bytearray(), 0
    try:
        async with asyncio.timeout(LONGEST_READING):
            async for part in request.stream():
                size += len(part)
                if size <= longest:
                    parts += part
                elif size > 4 * longest:
                    break
    except TimeoutError as error:
        raise Refusal("the request did not arrive in time", 408) from error
    if size > longest:
        raise Refusal(f"the request is too long: at most {longest:,} bytes are read", 413)
    body = bytes(parts)
    if size <= LONGEST_TEXT:
        return requests.parse(body)
    return await to_thread.run_sync(requests.parse, body)  # so that other requests go on


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a request that is not carried out with the reason."""
    del request
    if not isinstance(error, UserError) and not raised_here(error):
        raise error
    status = error.status if isinstance(error, Refusal) else 400
    ends = {"connection": "close"} if status in (408, 413) else None  # the rest of the request is not read
    return _Json({"error": line_of(error)}, status, headers=ends)


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer a request for something that does not exist."""
    del request
    assert isinstance(error, HTTPException)
    return _Json({"error": error.detail}, error.status_code, headers=error.headers)


async def _answer_failure(request: Request, error: Exception) -> Response:
    """Answer a request at which the server failed; its terminal shows the traceback."""
    del request
    return _Json({"error": f"the server failed, see its terminal: {type(error).__name__}"}, 500)


async def _ignore(request: Request, error: Exception) -> Response:
    """Answer nobody: the browser has gone."""
    del request, error
    return Response(status_code=400)


def application(shelf: Shelf, worker: Worker) -> Starlette:
    """Return the application of the page.

    Args:
        shelf: the models.
        worker: the queue of jobs.
    """
    handlers: Any = {
        ValueError: _refuse,
        HTTPException: _answer_error,
        ClientDisconnect: _ignore,
        Exception: _answer_failure,
    }
    return Starlette(routes=Playground(shelf, worker).routes(), exception_handlers=handlers)
