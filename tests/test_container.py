"""The Dockerfile, which cannot be built by the tests: its parts exist, and its health check works."""

import json
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from acdit.cli.main import load_command

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
# Instructions with their arguments; a backslash joins lines.
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", TEXT).splitlines()
    if line and not line.startswith("#")
]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


@contextmanager
def server(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


def health(port: int) -> int:
    (check,) = arguments("HEALTHCHECK")
    interpreter, *words = json.loads(check.partition("CMD ")[2])
    assert interpreter == "python"
    words[-1] = words[-1].replace("7860", str(port))
    return subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (401, True), (404, False), (500, False)])
def test_the_health_check(status, healthy):
    with server(status) as port:
        assert (health(port) == 0) is healthy


def test_the_health_check_without_a_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens
        assert health(free.getsockname()[1]) != 0


def test_it_runs_as_a_user_of_its_own_and_copies_what_is_built():
    names = [name for name, _ in STEPS]
    assert names.index("USER") < names.index("ENTRYPOINT") and arguments("USER") == ["acdit"]
    assert names.count("FROM") == 1 and "ADD" not in names
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()[1:]]
    (copied,) = arguments("COPY")
    assert sent == copied.split()[:-1] == ["constraints.txt", "dist/*.whl"]
    assert not re.search(
        r"AUTH\s*=", "".join(arguments("ENV") + arguments("ARG"))
    )  # no password in the image


def test_it_installs_and_starts_the_page_on_the_port_that_it_exposes():
    (entry,), (port,) = arguments("ENTRYPOINT"), arguments("EXPOSE")
    program, command, *options = json.loads(entry)
    assert program == "acdit" and options == ["--host", "0.0.0.0", "--port", port]
    text = load_command(command).help([])
    assert "--host" in text and "--port" in text and "ACDIT_DEMO_AUTH" in text and "ACDIT_DEMO_AUTH" in TEXT
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"\*\.whl\)\[([\w,]+)\]", TEXT)
    assert named == "demo,video" and set(named.split(",")) <= extras.keys()  # video: clips that are uploaded
