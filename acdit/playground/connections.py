"""Connections to the page, of limited number: those that are silent, or whose answers nobody reads, end."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 64
LONGEST_SILENCE = 30.0  # seconds without the head of a request, also while single bytes of one arrive
LONGEST_STALL = 300.0  # seconds in which a browser reads none of an answer that waits, as one that is asleep


class Connection(H11Protocol):
    """Connection that ends if it has no request to answer, or if nobody reads the answer.

    One above the limit takes the place of the one that has been silent for longest.

    uvicorn itself closes connections only after an answer, and waits for the first request, for the rest of
    its head, for the body of one that was refused and for the reader of an answer as long as it takes.
    """

    _silent_since = 0.0  # time of the event loop
    _silence: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()
        opened = [each for each in self.connections if not each.transport.is_closing()]
        if len(opened) > MOST_CONNECTIONS:
            others = (each for each in opened if isinstance(each, Connection) and each is not self)
            silent = (each for each in others if each._is_silent)
            min(silent, key=lambda each: each._silent_since, default=self).transport.abort()

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
        self._silent_since = self.loop.time()
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(LONGEST_SILENCE, self._close_if_silent)

    @property
    def _is_silent(self) -> bool:
        """Return whether there is no request to answer."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_silent(self) -> None:
        if self._is_silent:
            self.transport.close()
