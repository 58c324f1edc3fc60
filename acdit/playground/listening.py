"""Sockets that the page is served at. Does not import torch, so that an address in use is found at once."""

import contextlib
import errno
import socket

from ..utils.errors import UserError
from .access import addresses

PORTS_TRIED = 50  # after one that is in use


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        UserError: if the port is in use, or the address is not one of this machine.
    """
    family, address = addresses(host, port)[0]
    try:
        return _bound(family, address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            free = _free_port(family, address)
            raise UserError(f"port {port} is in use: {free}") from error
        if error.errno == errno.EACCES:
            raise UserError(f"port {port} is reserved for the system: use --port 7860") from error
        raise UserError(f"--host {host} is not an address of this machine") from error


def url_of(listener: socket.socket) -> str:
    """Return the URL of the page that is served at a socket."""
    host, port = listener.getsockname()[:2]
    here = str({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def _bound(family: int, address: tuple[str | int, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _free_port(family: int, address: tuple[str | int, ...]) -> str:
    """Return advice that names the next free port."""
    host, port, *rest = address
    for free in range(int(port) + 1, min(int(port) + PORTS_TRIED, 65535) + 1):
        with contextlib.suppress(OSError):
            _bound(family, (host, free, *rest)).close()
            return f"use --port {free}"
    return "use --port 0 for any free one"
