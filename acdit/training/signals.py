"""Handle signals that stop a run: the run finishes its step and saves a checkpoint before it ends."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A launcher forwards a signal that the terminal has already sent to its processes. Within this time, another
# signal is not a second request.
ECHO = 2.0  # seconds


class StopRequest:
    """Context manager that is true once SIGTERM or SIGINT has arrived inside the context.

    A second signal ends the process at once. Contexts may be nested: the outer ones become true too.
    """

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self._previous_handlers: dict[int, Any] = {}
        self._outer: StopRequest | None = None

    def __bool__(self) -> bool:
        return self.requested_at is not None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._previous_handlers = {number: signal.signal(number, self._handle) for number in SIGNALS}
            outer = getattr(self._previous_handlers[SIGNALS[0]], "__self__", None)
            self._outer = outer if isinstance(outer, StopRequest) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._outer is not None and not self._outer:
            self._outer._handle(number, frame)
        if self.requested_at is None:
            self.requested_at = now
        elif now - self.requested_at > ECHO:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
