"""Connections to the page: one over which no request comes is closed, since their number is limited."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_SILENCE = 30.0  # seconds without the head of a request, also while single bytes of one arrive


class Connection(H11Protocol):
    """Connection that closes itself if it has no request to answer for `LONGEST_SILENCE` seconds.

    uvicorn itself closes connections only after an answer, and waits for the first request, for the rest of
    its head and for the body of one that was refused as long as it takes.
    """

    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait."""
        super().connection_lost(exc)
        if self._silence is not None:
            self._silence.cancel()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(LONGEST_SILENCE, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
