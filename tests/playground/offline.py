"""Watch over servers of the page: a server that tries to reach anything but this machine fails its test.

`python -m tests.playground.offline WORDS` is `acdit WORDS`, and ends at the first such attempt. What FFmpeg
or another library does without the sockets of Python is not seen.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from subprocess import Popen
from typing import Any

OFFLINE = "tests.playground.offline"  # module to run in place of acdit
CAUGHT = 97  # exit status of a process that was caught
SENDING = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")

_watchers: list[Callable[[str], None]] = []  # the last one is called with what was attempted


def attempt(event: str, values: tuple[Any, ...]) -> str | None:
    """Words for an audit event by which a process reaches, or looks up, another machine; None for others."""
    if event in SENDING:
        address = values[1]
    elif event in LOOKING_UP:
        address = values[0]
    else:
        return None
    host = address[0] if isinstance(address, tuple) and address else address
    text = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    is_path = event in SENDING and not isinstance(address, tuple)  # of a socket of this machine
    if is_path or text == "localhost":
        return None
    try:
        number = ip_address(text.partition("%")[0])
    except ValueError:
        return f"{event} {text}"
    is_near = number.is_loopback or event == "socket.getaddrinfo"  # of a number, which asks nobody
    return None if is_near else f"{event} {text}"


def _audit(event: str, values: tuple[Any, ...]) -> None:
    if not _watchers or not event.startswith("socket."):
        return
    words = attempt(event, values)
    if words is not None:
        _watchers[-1](words)


sys.addaudithook(_audit)


@contextmanager
def watched_threads() -> Iterator[None]:
    """Fail at the end if any thread but the main one has tried to reach another machine, and forbid it."""
    attempts: list[str] = []

    def watcher(words: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            attempts.append(words)
            raise PermissionError(f"the page must not use the network: {words}")

    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
    assert attempts == [], "the page has used the network"


@contextmanager
def watched_process(process: Popen[str]) -> Iterator[None]:
    """Fail at the end if a process of this module has tried to reach another machine."""
    try:
        yield
    finally:
        assert process.poll() != CAUGHT, "the page has used the network: its stderr says how"


def end_when_caught(words: str) -> None:
    """End this process, whatever it would have made of an exception."""
    print(f"the page must not use the network: {words}", file=sys.stderr, flush=True)
    os._exit(CAUGHT)


def watch(watcher: Callable[[str], None]) -> None:
    """Call a function with what this process attempts, from now on."""
    _watchers.append(watcher)


if __name__ == "__main__":
    watch(end_when_caught)
    from acdit.cli.main import main

    sys.exit(main())
