"""A running page over tiny models, and a client that reads it as a browser does."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from acdit.playground.access import Access
from acdit.playground.connections import Connection
from acdit.playground.listening import listen
from acdit.playground.pictures import data_url
from acdit.playground.server import Server
from acdit.playground.shelf import Shelf
from tests.playground.offline import watched_threads

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}
WAIT = 120  # seconds until a test gives up


class Page:
    """Client of a page at a port of this machine."""

    def __init__(self, port: int, buffer: int | None = None, server: Server | None = None):
        self.port, self.buffer, self.server = port, buffer, server

    def connect(self) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        connection.connect()
        if self.buffer is not None:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        return connection

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, names, response.read()

    def post(self, path: str, values: Any) -> tuple[int, Any]:
        """Status and JSON of the answer to a request that is not a stream, or is refused."""
        status, _, body = self.ask("POST", path, json.dumps(values).encode(), JSON)
        return status, json.loads(body)

    @contextmanager
    def stream(self, path: str, values: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a request as they arrive; at the end the connection is closed."""
        with closing(self.connect()) as connection:
            connection.request("POST", path, json.dumps(values).encode(), JSON)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.getheader("content-type") == "application/x-ndjson"
            yield lines(response)

    def events(self, path: str, values: Any) -> list[dict[str, Any]]:
        """All events of a request."""
        with self.stream(path, values) as events:
            return list(events)


def lines(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := response.readline():
        yield json.loads(line)


def first_event(events: Iterator[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == name)


def named(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


@contextmanager
def served(*folders: str | Path, access: Access | None = None, buffer: int | None = None) -> Iterator[Page]:
    """A page that shows the models of folders and of the package, served by a thread without network.

    `buffer` is about how many bytes the system, and the server's loop, keep of an answer that nobody reads.
    """
    listener = listen("127.0.0.1", 0)
    if buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    server = Server(Shelf([str(folder) for folder in folders]), access or Access())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    made = Connection.connection_made

    def limited(self: Connection, transport: Any) -> None:
        transport.set_write_buffer_limits(high=buffer)
        made(self, transport)

    with pytest.MonkeyPatch.context() as patched, watched_threads():
        if buffer is not None:
            patched.setattr(Connection, "connection_made", limited)
        thread.start()
        try:
            yield Page(listener.getsockname()[1], buffer, server)
        finally:
            server.worker.close()
            server.should_exit = True
            thread.join(WAIT)
            assert not thread.is_alive()


def opened(url: str) -> Image.Image:
    """The picture in a data URL."""
    head, _, encoded = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(BytesIO(base64.b64decode(encoded)))


def levels(picture: str | Image.Image) -> np.ndarray:
    """The values of a picture, or of the picture in a data URL."""
    return np.asarray(opened(picture) if isinstance(picture, str) else picture)


def upload(picture: Image.Image) -> str:
    return data_url(picture)


def encoded(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
