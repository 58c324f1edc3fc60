"""Progress bars: tqdm's in a terminal, a line now and then where the output is a file or a pipe."""

import sys
import time
from typing import Any

from tqdm import tqdm

INTERVAL = 10.0  # seconds between lines, at least


class ProgressBar(tqdm):  # pyright: ignore[reportMissingTypeArgument]
    """tqdm's bar, with the same arguments; where the output is no terminal, lines without control characters.

    Work that takes less than ten seconds then prints nothing but the last line of a bar that stays (`leave`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._plain = not (kwargs.get("file") or sys.stderr).isatty()
        self._printed, self._lines = time.monotonic(), 0
        if self._plain:
            kwargs |= {"mininterval": INTERVAL, "delay": 0, "ncols": 100}
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the bar, or print a line if the last one is long enough ago."""
        if not self._plain:
            return super().display(msg, pos)
        if time.monotonic() - self._printed >= INTERVAL:
            self._print()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Take the bar off the screen; lines stay."""
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        """End the bar."""
        if not self._plain:
            super().close()
        elif not self.disable:
            self.disable = True
            bars: Any = type(self)  # tqdm's hints leave this out
            bars._decr_instances(self)
            if self.leave and (not self._lines or time.monotonic() - self._printed >= INTERVAL):
                self._print()

    def _print(self) -> None:
        self._printed, self._lines = time.monotonic(), self._lines + 1
        self.fp.write(f"{self}\n")
        self.fp.flush()
