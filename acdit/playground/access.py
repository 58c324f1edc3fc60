"""Access to the page: addresses, passwords, and the checks of every request before it is read."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..utils.errors import UserError

LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """Conditions that a request must meet.

    Attributes:
        hosts: names by which browsers on this machine reach the page; None = any, for other addresses. A page
            elsewhere that lets its own name point to this machine is refused by its name.
        credentials: USER:PASSWORD that a request must carry; None = none.
    """

    hosts: frozenset[str] | None = LOCAL_NAMES
    credentials: str | None = None

    def refusal(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return the status and the reason with which a request is refused; None if it is not."""
        host = headers.get("host", "")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return 403, "the page is served for this machine only: open it as http://127.0.0.1"
        if self.credentials is not None and not _same(_given_credentials(headers), self.credentials):
            return 401, "user and password are needed"
        if method in ("GET", "HEAD"):
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if (origin is not None and _origin_host(origin) != host.lower()) or site not in (
            "same-origin",
            "none",
        ):
            return 403, "requests of other pages are refused"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "the request must be of the type application/json"
        return None


class Guard:
    """Application that refuses requests which do not meet the conditions, and adds headers to all answers.

    Args:
        app: application that answers the other requests.
        access: the conditions.
    """

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in extra if pair[0] not in own)]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self.access.refusal(scope["method"], headers)
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
            return
        status, reason = refusal
        answer: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        if status == 401:
            answer.append((b"www-authenticate", b'Basic realm="acdit demo", charset="UTF-8"'))
        await send_with_headers({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": json.dumps({"error": reason}).encode()})


def access_of(host: str, credentials: str | None) -> Access:
    """Return the conditions for requests to an address of this machine.

    Args:
        host: name or number of the address.
        credentials: USER:PASSWORD; None = none.

    Raises:
        UserError: if the address can be reached from other machines and there is no password, or if the
            credentials are not of this form.
    """
    if credentials is not None and not all(credentials.partition(":")):
        raise UserError("the user and the password of the page must be given as USER:PASSWORD, neither empty")
    if is_loopback(host):
        # the URL of the page has one of these numbers, whatever name was given
        numbers = {str(address[0]) for _, address in addresses(host, 0)}
        return Access(LOCAL_NAMES | {host.lower()} | numbers, credentials)
    if credentials is None:
        raise UserError(
            f"--host {host} lets other machines use the page: set a user and a password with --auth "
            "USER:PASSWORD or in the environment variable ACDIT_DEMO_AUTH, or leave out --host"
        )
    return Access(None, credentials)


def is_loopback(host: str) -> bool:
    """Return whether an address can only be reached from this machine.

    Raises:
        UserError: if there is no such address.
    """
    return all(ipaddress.ip_address(address[0]).is_loopback for _, address in addresses(host, 0))


def addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Return the families and socket addresses of a host.

    Raises:
        UserError: if there are none.
    """
    try:
        listed = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} is not an address of this machine") from error
    return [(family, address) for family, _, _, _, address in listed]


def _name_of(host: str) -> str | None:
    """Return the name in a Host header without its port; None if it has none."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.netloc == host and parts.username is None else None
    except ValueError:
        return None


def _origin_host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _given_credentials(headers: dict[str, str]) -> str:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _same(given: str, expected: str) -> bool:
    """Return whether two texts are equal, in a time that depends on neither."""
    digests = (hashlib.sha256(text.encode()).digest() for text in (given, expected))
    return hmac.compare_digest(*digests)
