"""Requests of every kind with values of wrong kinds: each is refused, and the message names the value."""

import json

import pytest

from tests.playground.page import JSON
from tests.playground.test_page_connections import REQUESTS

ALL = {
    **REQUESTS,
    "video": REQUESTS["video"] | {"frames": 2, "labels_by_block": [0], "clip": None, "hold": False},
    "write": REQUESTS["write"] | {"steps": 1},
    "fill": REQUESTS["fill"] | {"steps": 1},
}
OPTIONAL = {"label", "steps", "count", "labels_by_block", "frames", "clip", "hold", "block", "tokens"}
WRONG = {
    "list": "[]",
    "object": "{}",
    "nested": "[[1]]",
    "huge": "1" + "0" * 400,
    "huge fraction": "1e400",
    "not a number": "NaN",
    "infinite": "-Infinity",
    "half": "0.5",
    "negative": "-3",
    "true": "true",
    "null": "null",
    "text": '"-2x-2"',
    "empty": '""',
}
NOT_JSON = {"huge fraction", "not a number", "infinite"}
UPLOADS = {(key, name) for key in ("image", "clip") for name in ("text", "empty")}
# Values of the right kind.
RIGHT = {
    *((key, name) for key in ("prompt", "job") for name in ("text", "empty")),
    *((key, "null") for key in ("label", "frames", "labels_by_block", "clip", "steps", "tokens")),
    *(("guidance", name) for name in ("half", "negative")),
    ("temperature", "half"),
    ("hold", "true"),
}
NEVER_NULL = {("draw", "steps"), ("finish", "steps"), ("video", "steps"), ("write", "tokens")}


@pytest.fixture(autouse=True)
def still_there(page):
    yield
    assert page.ask("GET", "/api/models")[0] == 200


def cases(path: str) -> list[tuple[str, str]]:
    """The keys of a request and the names of wrong values for each."""
    unread = {("label", "huge")} if path == "video/label" else set()  # there is no such job
    return [
        (key, name)
        for key in ALL[path]
        for name in WRONG
        if (key, name) not in RIGHT | unread or (name == "null" and (path, key) in NEVER_NULL)
    ]


@pytest.mark.parametrize("path", ALL)
def test_values_of_wrong_kinds_are_named(path, page, capsys):
    assert len(cases(path)) > 10
    for key, name in cases(path):
        values = {each: json.dumps(value) for each, value in ALL[path].items()} | {key: WRONG[name]}
        body = f"{{{', '.join(f'{json.dumps(each)}: {value}' for each, value in values.items())}}}"
        status, _, answer = page.ask("POST", f"/api/{path}", body.encode(), JSON)
        is_absent = key == "model" and name in ("text", "empty")
        assert status == (404 if is_absent else 400), (key, name)
        named = "not JSON" if name in NOT_JSON else "data URL" if (key, name) in UPLOADS else key
        if (key, name) in {("text", "text"), ("text", "empty")}:
            named = "no gap"
        assert named in json.loads(answer)["error"], (key, name)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("path", ALL)
def test_a_request_needs_its_keys_and_no_others(path, page):
    for key in ALL[path].keys() - (OPTIONAL - {"block"} if path != "preview" else OPTIONAL):
        rest = {each: value for each, value in ALL[path].items() if each != key}
        assert page.post(f"/api/{path}", rest) == (400, {"error": f"the request lacks {key!r}"})
    status, answer = page.post(f"/api/{path}", ALL[path] | {"__proto__": 1})
    assert status == 400 and "unknown key '__proto__'" in answer["error"]
