"""Requests that no page would send are refused with a message, and the page goes on."""

import json
import resource
import socket
import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from acdit.playground.pictures import UPLOAD_BYTES
from tests.pipelines.small import picture
from tests.playground.page import JSON, encoded, upload

DRAW = {"model": "picture", "label": 0, "block": "2x2", "steps": 1, "guidance": 1.5, "seed": 0}
FINISH = DRAW | {"keep": 1, "count": 1}
WRITE = {
    "model": "letters",
    "prompt": "a",
    "block": 4,
    "steps": None,
    "temperature": 1.0,
    "seed": 0,
    "tokens": 4,
}


@pytest.fixture(autouse=True)
def still_there(page):
    yield
    assert page.ask("GET", "/api/models")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"draw",
        b"[]",
        b"null",
        b'"text"',
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"model": NaN}',
        b'{"model": "picture", "model": "mnist"}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"{}",
    ],
)
@pytest.mark.parametrize("path", ["draw", "finish", "preview", "write", "fill", "how", "stop"])
def test_bodies_that_are_no_request(path, body, page):
    status, _, answer = page.ask("POST", f"/api/{path}", body, JSON)
    assert status == 400 and json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "nothing"}, 404, "picture"),
        ({"model": "../picture"}, 404, "there is no model"),
        ({"model": "/etc"}, 404, "there is no model"),
        ({"model": ["picture"]}, 400, "model must be text"),
        ({"model": "letters"}, 400, "this tab cannot show"),
        ({"model": "recogniser"}, 400, "this tab cannot show"),
        ({"label": 3}, 400, "0 to 2"),
        ({"label": -1}, 400, "label"),
        ({"label": "ant"}, 400, "label"),
        ({"label": True}, 400, "label"),
        ({"block": "3x3"}, 400, "2x2"),
        ({"block": [2, 2]}, 400, "block must be text"),
        ({"block": "2x2x2"}, 400, "2x2"),
        ({"steps": 0}, 400, "1 to 100"),
        ({"steps": 101}, 400, "1 to 100"),
        ({"steps": 2.5}, 400, "1 to 100"),
        ({"steps": "5"}, 400, "1 to 100"),
        ({"steps": 10**30}, 400, "1 to 100"),
        ({"guidance": 1e300}, 400, "guidance"),
        ({"guidance": None}, 400, "guidance"),
        ({"guidance": 10**400}, 400, "guidance must be a number from -100 to 100"),
        ({"label": 10**400}, 400, "0 to 2"),
        ({"seed": -1}, 400, "seed"),
        ({"seed": 2**60}, 400, "seed"),
        ({"path": "/etc/passwd"}, 400, "unknown key"),
    ],
)
def test_values_of_a_wrong_kind(change, status, said, page):
    given, answer = page.post("/api/draw", DRAW | change)
    assert given == status and said in answer["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": 5}, "prompt must be text"),
        ({"prompt": "\ud800"}, "not valid Unicode"),
        ({"block": 3}, "one of 16, 8, 4, 2, 1"),
        ({"block": 0}, "block"),
        ({"temperature": -1}, "0 to 10"),
        ({"tokens": 0}, "tokens must be a whole number of at least 1, not 0"),
        ({"block": 10**400}, "block must be one of"),
        ({"temperature": 10**400}, "0 to 10"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"steps": 5}, "from 1 to 4, the tokens of a block"),
        ({"tokens": None}, "tokens"),
        ({"model": "picture"}, "this tab cannot show"),
    ],
)
def test_texts_of_a_wrong_kind(change, said, page):
    body = json.dumps(WRITE | change).encode()
    status, _, answer = page.ask("POST", "/api/write", body, JSON)
    last = json.loads(answer.splitlines()[-1])
    assert said in (last["error"] if status == 400 else last["message"])


def bytes_of(image: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def huge_png(side: int = 10_000) -> bytes:
    """A PNG of 100 megapixels that is a few kilobytes long."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("", "data URL"),
        ("https://evil.example/a.png", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("data:image/png,abc", "data URL"),
        ("data:image/png;base64,???", "base64"),
        (encoded(b""), "not an image"),
        (encoded(b"no picture"), "not an image"),
        (encoded(b"GIF89a"), "cannot be read"),
        (encoded(bytes_of(picture(3), "PNG")[:60]), "cannot be read"),
        (encoded(bytes_of(Image.new("RGB", (8, 8)), "TIFF")), "TIFF"),
        (encoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"), "EPS"),
        (encoded(bytes_of(Image.new("L", (3000, 20)), "PNG")), "too narrow"),
        (encoded(huge_png()), "10,000x10,000 pixels"),
    ],
)
@pytest.mark.parametrize("path", ["finish", "preview"])
def test_uploads_that_are_no_picture(path, image, said, page):
    values = FINISH if path == "finish" else {"model": "picture"}
    status, answer = page.post(f"/api/{path}", values | {"image": image})
    assert status == 400 and said in answer["error"]


def test_a_huge_picture_is_not_decoded(page):
    url = encoded(huge_png())
    assert len(url) < 50_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert page.post("/api/preview", {"model": "picture", "image": url})[0] == 400
    # the page runs in this process: 100 megapixels would take at least 95 MiB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024


def test_a_long_request_is_refused_while_it_is_read(page):
    body = json.dumps(DRAW | {"model": "a" * 400_000}).encode()
    status, _, answer = page.ask("POST", "/api/draw", body, JSON)
    assert status == 413 and "too long" in json.loads(answer)["error"]
    url = "data:image/png;base64," + "A" * (2 * UPLOAD_BYTES)
    assert page.post("/api/preview", {"model": "picture", "image": url})[0] == 413


def test_a_request_without_end_is_cut_off(page):
    """The server answers although the announced body never ends."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        head = f"POST /api/draw HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        part = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        sent = 0
        try:
            while sent < 64 * 2**20:
                connection.sendall(part)
                sent += len(part)
        except OSError:
            pass  # the server has closed the connection
    assert sent < 64 * 2**20


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/app.py", "/api"]
)
def test_only_the_files_of_the_page_are_sent(path, page):
    assert page.ask("GET", path)[0] == 404


def test_the_right_path_with_the_wrong_method(page):
    assert page.ask("GET", "/api/draw")[0] == 405
    assert page.ask("DELETE", "/api/models", headers=JSON)[0] == 405


def test_a_good_request_still_works(page):
    status, answer = page.post("/api/preview", {"model": "picture", "image": upload(picture(3))})
    assert status == 200 and answer["image"].startswith("data:image/png")
