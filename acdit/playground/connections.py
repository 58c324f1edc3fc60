"""Connections to the page, of limited number: those that are silent, or whose answers nobody reads, end."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_SILENCE = 30.0  # seconds without the head of a request, also while single bytes of one arrive
LONGEST_STALL = 300.0  # seconds in which a browser reads none of an answer that waits, as one that is asleep


class Connection(H11Protocol):
    """Connection that ends if it has no request to answer, or if nobody reads the answer.

    uvicorn itself closes connections only after an answer, and waits for the first request, for the rest of
    its head, for the body of one that was refused and for the reader of an answer as long as it takes.
    """

    _silence: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waits."""
        super().connection_lost(exc)
        for timer in (self._silence, self._stall):
            if timer is not None:
                timer.cancel()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the reader of an answer."""
        super().pause_writing()
        self._stall = self.loop.call_later(LONGEST_STALL, self.transport.abort)

    def resume_writing(self) -> None:
        """End the wait for the reader."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def _wait(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(LONGEST_SILENCE, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
