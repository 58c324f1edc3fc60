"""The watch over the network of servers: an attempt to reach another machine is caught."""

import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress

import pytest

from tests.playground.offline import CAUGHT, OFFLINE, attempt, watched_process
from tests.playground.page import ROOT, served

NOWHERE = "192.0.2.1"  # of documents, RFC 5737


def connect() -> None:
    socket.create_connection((NOWHERE, 80), timeout=1).close()


def send() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(b"here", (NOWHERE, 53))


def look_up() -> None:
    socket.getaddrinfo("name.example", 80)


@pytest.mark.parametrize("reach", [connect, send, look_up])
def test_a_thread_of_the_page_that_reaches_another_machine_fails_the_test(reach, folders):
    refused = []

    def run() -> None:
        try:
            reach()
        except PermissionError as error:
            refused.append(str(error))

    with pytest.raises(AssertionError, match="has used the network"), served(folders["picture"]):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len(refused) == 1 and (NOWHERE in refused[0] or "name.example" in refused[0])


def test_a_page_that_reaches_nobody_fails_no_test(folders):
    def run() -> None:
        with closing(socket.create_connection(("127.0.0.1", page.port))), suppress(OSError):
            socket.getaddrinfo("127.0.0.1", 80)

    with served(folders["picture"]) as page:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()


def test_a_server_that_looks_up_a_name_is_ended_and_fails_the_test():
    """Which `--host` is."""
    command = [sys.executable, "-m", OFFLINE, "demo", "--host", "name.example"]
    with (
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process,
        pytest.raises(AssertionError, match="has used the network"),
        watched_process(process),
    ):
        _, error = process.communicate()
        assert error == "the page must not use the network: socket.getaddrinfo name.example\n"
    assert process.returncode == CAUGHT


@pytest.mark.parametrize(
    ("event", "values", "is_caught"),
    [
        ("socket.connect", (None, ("127.0.0.1", 80)), False),
        ("socket.connect", (None, ("::1", 80, 0, 0)), False),
        ("socket.connect", (None, "/run/socket"), False),
        ("socket.connect", (None, ("10.0.0.1", 80)), True),
        ("socket.connect", (None, ("2001:db8::1", 80, 0, 0)), True),
        ("socket.connect", (None, ("huggingface.co", 443)), True),
        ("socket.sendmsg", (None, None), False),
        ("socket.sendmsg", (None, (NOWHERE, 53)), True),
        ("socket.getaddrinfo", ("localhost", 80, 0, 0, 0), False),
        ("socket.getaddrinfo", (b"huggingface.co", 443, 0, 0, 0), True),
        ("socket.getaddrinfo", ("0.0.0.0", 80, 0, 0, 0), False),
        ("socket.gethostbyname", ("huggingface.co",), True),
        ("socket.bind", (None, ("0.0.0.0", 80)), False),
    ],
)
def test_what_is_caught(event, values, is_caught):
    assert (attempt(event, values) is not None) == is_caught
