"""Jobs in order of arrival: one thread computes, and each job streams its events to its request."""

import asyncio
import json
import secrets
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ..utils.errors import UserError, line_of, raised_here
from .refusals import Refusal

MOST_WAITING = 16  # jobs in the queue
MOST_UNREAD = 64  # events that wait for the browser; the job pauses then
MOST_UNREAD_BYTES = 32 * 2**20  # of these events
LONGEST_PAUSE = 30.0  # seconds after which a job whose events nobody reads ends
LONGEST_BLOCKING = 5.0  # the same while others wait, summed over all events
CREDIT = 1.0  # seconds that each event that is read takes off that sum

Event = dict[str, Any]
Relabel = Callable[[int | None], None]


class Stopped(Exception):
    """Exception that ends a job which somebody stopped, or whose reader has gone.

    Args:
        **values: values of its last event.
    """

    def __init__(self, **values: object):
        super().__init__()
        self.values = values


@contextmanager
def stopped_with(texts: Mapping[str, object]) -> Iterator[None]:
    """Add the texts to copy to the last event of a job that is stopped: those that make the whole result."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(**stopped.values, **texts, whole=True) from None


class Job:
    """One request in the queue, and its events.

    Args:
        work: function of the job, which is called in the worker's thread and sends events.
        loop: event loop of the request that reads the events.
        others_wait: function that returns whether other jobs wait for their turn.
        relabel: function that changes the class while the job runs; None if nothing can change it.
    """

    def __init__(
        self,
        work: Callable[["Job"], None],
        loop: asyncio.AbstractEventLoop,
        others_wait: Callable[[], bool],
        relabel: Relabel | None = None,
    ):
        self.id, self.work = secrets.token_hex(8), work
        self.others_wait, self.relabel = others_wait, relabel
        self._loop, self._lines = loop, asyncio.Queue[str | None]()
        self._stopped = threading.Event()
        self._read, self._unread, self._unread_bytes = threading.Condition(), 0, 0
        self._blocking = 0.0  # seconds for which others had to wait for the reader

    @property
    def stopped(self) -> bool:
        """Return whether the job is to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let the job end before its next block, or after the current solver step."""
        self._stopped.set()

    def check(self) -> None:
        """Raise Stopped if the job is to end."""
        if self.stopped:
            raise Stopped

    def send(self, event: str, **values: object) -> None:
        """Send an event from the worker's thread; wait while too many are unread.

        Raises:
            Stopped: if the job is to end, or if nobody reads its events.
            ValueError: if a value is a number that JSON does not have.
        """
        line, began = _line({"event": event, **values}), time.monotonic()
        before = began
        with self._read:
            while not self._read.wait_for(lambda: self._has_room(len(line)), timeout=0.1):
                self.check()
                now = time.monotonic()
                if self.others_wait():
                    self._blocking += now - before
                before = now
                if now - began > LONGEST_PAUSE or self._blocking > LONGEST_BLOCKING:
                    self.stop()
                    raise Stopped(reason="nobody read the answer")
        self.check()
        self._hand_over(line)

    def post(self, event: Event | None) -> None:
        """Hand over an event to the request; None is the end.

        It waits for no reader and for no stop, so that the last event of finished work is never lost.
        """
        self._hand_over(None if event is None else _line(event))

    async def lines(self) -> AsyncIterator[str]:
        """Yield the events up to the end, each as a line of JSON."""
        while (line := await self._lines.get()) is not None:
            with self._read:
                self._unread -= 1
                self._unread_bytes -= len(line)
                self._blocking = max(0.0, self._blocking - CREDIT)
                self._read.notify()
            yield line

    def _has_room(self, size: int) -> bool:
        """Return whether an event may be sent; one of any size may if all others were read."""
        if not self._unread:
            return True
        return self._unread < MOST_UNREAD and self._unread_bytes + size <= MOST_UNREAD_BYTES

    def _hand_over(self, line: str | None) -> None:
        if line is not None:
            with self._read:
                self._unread += 1
                self._unread_bytes += len(line)
        try:
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
        except RuntimeError:  # the server has ended
            self.stop()


class Worker:
    """The queue of jobs and the thread that runs them one after the other."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="acdit-demo", daemon=True).start()

    def submit(self, work: Callable[[Job], None], relabel: Relabel | None = None) -> Job:
        """Add a job to the queue, and return it; see `Job`.

        Raises:
            Refusal: if the queue is full or closed.
        """
        job = Job(work, asyncio.get_running_loop(), lambda: bool(self._waiting), relabel)
        with self._changed:
            if self._closed or len(self._waiting) >= MOST_WAITING:
                raise Refusal(f"{len(self._waiting)} requests are waiting: try again in a moment", 503)
            self._waiting.append(job)
            self._tell_position(job)
            self._changed.notify()
        return job

    def find(self, name: object) -> Job | None:
        """Return the job of an id, while it waits or runs."""
        with self._changed:
            jobs = [*self._waiting, *([self._running] if self._running else [])]
        return next((job for job in jobs if job.id == name), None)

    def stop(self, job: Job) -> None:
        """Stop a job; one that waits ends at once."""
        job.stop()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.post({"event": "stopped"})
                job.post(None)
                self._tell_positions()

    def close(self) -> None:
        """Stop all jobs, and end the thread after the current step."""
        with self._changed:
            self._closed = True
            waiting, running = list(self._waiting), self._running
            self._changed.notify()
        for job in waiting:
            self.stop(job)
        if running is not None:
            running.stop()

    def _tell_positions(self) -> None:
        for job in self._waiting:
            self._tell_position(job)

    def _tell_position(self, job: Job) -> None:
        """Tell a job how many others come before it, with the one that runs."""
        position = self._waiting.index(job) + (self._running is not None)
        job.post({"event": "queued", "job": job.id, "position": position})

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._running = job = self._waiting.popleft()
                self._tell_positions()
            last = outcome(job)
            with self._changed:
                self._running = None
            job.post(last)
            job.post(None)


def outcome(job: Job) -> Event | None:
    """Run a job up to its end, whatever happens in it, and return its last event; None if it was sent."""
    try:
        job.check()
        job.post({"event": "started", "job": job.id})
        job.work(job)
    except Stopped as stopped:
        return {"event": "stopped", **stopped.values}
    # A panic of a library in Rust is a BaseException, which would end the only thread that computes. Ctrl-C
    # is raised in the main thread, never here.
    except BaseException as error:  # noqa: BLE001
        return {"event": "error", "message": failure(error)}
    return None


def failure(error: BaseException) -> str:
    """Return the message of an error in a job; the terminal of the server shows the traceback of a bug."""
    if not isinstance(error, UserError) and not (isinstance(error, ValueError) and raised_here(error)):
        with suppress(OSError, ValueError):  # nobody may read the terminal any more
            traceback.print_exception(error, file=sys.stderr)
    return line_of(error)


def _line(event: Event) -> str:
    return json.dumps(event, allow_nan=False) + "\n"
