"""Connections that are slow, silent or cut off: each ends, and the page answers the others."""

import json
import socket
import time
from contextlib import ExitStack, closing, suppress

import pytest

from acdit.playground.connections import MOST_CONNECTIONS, Connection
from tests.pipelines.small import picture
from tests.playground.page import WAIT, first_event, served, upload

DRAW = {"model": "picture", "label": 0, "block": "2x2", "steps": 1, "guidance": 1.5, "seed": 0}
LONG = DRAW | {"block": "1x1", "steps": 100}
TEXT = {"model": "letters", "block": 4, "temperature": 1.0, "seed": 0}
# A request of every kind that is carried out.
REQUESTS = {
    "draw": DRAW,
    "finish": DRAW | {"image": upload(picture(3)), "keep": 1, "count": 2},
    "preview": {"model": "picture", "image": upload(picture(3)), "block": "2x2"},
    "video": DRAW | {"model": "clip", "block": "1x4x4", "frames": None},
    "video/label": {"job": "0" * 16, "label": 1},
    "write": TEXT | {"prompt": "a", "tokens": 9},
    "fill": TEXT | {"text": "a ___ b"},
    "how": {"model": "picture", "block": "2x2"},
    "stop": {"job": "0" * 16},
}


def head_of(page, path: str, length: int, kind: str = "application/json") -> bytes:
    lines = (
        f"POST /api/{path} HTTP/1.1",
        f"Host: 127.0.0.1:{page.port}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def connected(page) -> socket.socket:
    return socket.create_connection(("127.0.0.1", page.port), timeout=WAIT)


def everything(connection: socket.socket) -> bytes:
    """What a connection receives until the server closes it; a timeout fails the test."""
    parts = []
    with suppress(ConnectionResetError, BrokenPipeError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def test_a_request_that_arrives_byte_by_byte_is_answered(page):
    body = json.dumps(REQUESTS["how"]).encode()
    with closing(connected(page)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in (
            head_of(page, "how", len(body)).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body
        ):
            connection.sendall(bytes([byte]))
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"mask"' in answer


def test_a_request_whose_body_does_not_come_is_ended(page, monkeypatch):
    monkeypatch.setattr("acdit.playground.app.LONGEST_READING", 0.3)
    with closing(connected(page)) as connection:
        connection.sendall(head_of(page, "draw", 100) + b'{"model"')
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive in time" in answer
    assert page.events("/api/draw", DRAW)[-1]["event"] == "done"


def test_a_refused_request_that_goes_on_is_ended(page, monkeypatch):
    """It is answered before its body has come, of which a byte now and then keeps the connection open."""
    monkeypatch.setattr("acdit.playground.connections.LONGEST_SILENCE", 0.5)
    with closing(connected(page)) as connection:
        connection.sendall(head_of(page, "draw", 10**6, "text/plain"))
        assert connection.recv(2**16).startswith(b"HTTP/1.1 415 ")
        deadline = time.monotonic() + WAIT
        with pytest.raises(OSError):
            while time.monotonic() < deadline:
                connection.sendall(b" ")
                time.sleep(0.05)


@pytest.mark.parametrize(
    "beginning", [b"", b"POST /api/draw HTTP/1.1\r\nHost: 127"], ids=["silent", "half a head"]
)
def test_connections_without_a_request_make_room(beginning, folders, monkeypatch):
    """At once for others, those that are silent for longest first; and in the end by themselves."""
    with served(folders["picture"]) as page, ExitStack() as stack:
        assert page.server is not None
        opened = page.server.server_state.connections

        def silent(count):
            for _ in range(count):
                connection = stack.enter_context(closing(connected(page)))
                connection.sendall(beginning)
                yield connection

        first = list(silent(MOST_CONNECTIONS))
        assert page.ask("GET", "/api/models")[0] == 200
        assert everything(first[0]) == b""
        monkeypatch.setattr("acdit.playground.connections.LONGEST_SILENCE", 1.0)
        more = list(silent(MOST_CONNECTIONS))
        assert [everything(connection) for connection in first[1:]] == [b""] * (MOST_CONNECTIONS - 1)
        assert len(opened) <= MOST_CONNECTIONS
        assert [everything(connection) for connection in more] == [b""] * MOST_CONNECTIONS
        assert page.ask("GET", "/api/models")[0] == 200


def test_connections_with_a_request_are_not_cut_for_others(folders):
    body = json.dumps(DRAW).encode()
    with served(folders["picture"]) as page, ExitStack() as stack:
        asking = [stack.enter_context(closing(connected(page))) for _ in range(MOST_CONNECTIONS)]
        for connection in asking:
            connection.sendall(head_of(page, "draw", len(body)) + body[:10])
        assert page.server is not None
        opened = page.server.server_state.connections
        while sum(isinstance(each, Connection) and each.cycle is not None for each in opened) < len(asking):
            time.sleep(0.05)
        assert everything(connected(page)) == b""  # one too many
        asking[0].sendall(body[10:])
        assert b'"event": "done"' in everything(asking[0])


def test_an_answer_that_takes_longer_than_a_silence_may_is_not_cut(folders, monkeypatch):
    monkeypatch.setattr("acdit.playground.connections.LONGEST_SILENCE", 0.2)
    with served(folders["picture"]) as page, page.stream("/api/draw", LONG) as events:
        job = first_event(events, "started")["job"]
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert next(events)["event"] in ("loading", "loaded", "step", "block")
        page.post("/api/stop", {"job": job})
        assert list(events)[-1]["event"] == "stopped"


def test_an_answer_that_nobody_reads_ends_with_its_connection(folders, monkeypatch):
    monkeypatch.setattr("acdit.playground.connections.LONGEST_STALL", 0.3)
    with served(folders["picture"], buffer=4096) as page, page.stream("/api/draw", LONG) as events:
        first_event(events, "started")  # and reads nothing more
        assert page.server is not None
        connections, deadline = page.server.server_state.connections, time.monotonic() + WAIT
        while connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not connections
        assert page.events("/api/draw", DRAW)[-1]["event"] == "done"


@pytest.mark.parametrize("path", REQUESTS)
def test_a_browser_that_goes_at_any_point_disturbs_nobody(path, page):
    """In the head, between head and body, in the body, before the answer, and in it."""
    body = json.dumps(REQUESTS[path]).encode()
    whole = head_of(page, path, len(body)) + body
    for size in (9, len(whole) - len(body), len(whole) - 2, len(whole)):
        for received in (0, 1):
            with closing(connected(page)) as connection:
                connection.sendall(whole[:size])
                if received and size == len(whole):
                    connection.recv(received)
    assert page.events("/api/draw", DRAW)[-1]["event"] == "done"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"x" * 200_000, 400),
        (b"POST /api/draw HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /api/draw HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
    ids=["no HTTP", "long head", "negative length", "unknown encoding"],
)
def test_what_is_no_request_is_refused(sent, status, page):
    with closing(connected(page)) as connection:
        with suppress(OSError):
            connection.sendall(sent)
        answer = everything(connection)
    assert answer.startswith((b"HTTP/1.1 400 ", f"HTTP/1.1 {status} ".encode()))
    assert page.ask("GET", "/api/models")[0] == 200
