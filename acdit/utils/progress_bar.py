"""Progress bars: tqdm's in a terminal, occasional lines if the output is a file or a pipe."""

import sys
import time
from typing import Any

from tqdm import tqdm

INTERVAL = 10.0  # minimum number of seconds between lines


class ProgressBar(tqdm):  # pyright: ignore[reportMissingTypeArgument]
    """Progress bar of tqdm, with the same arguments, that prints lines if the output is not a terminal.

    The lines have no control characters. Work that takes less than ten seconds prints only the last line of a
    bar that stays (`leave`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._plain = not (kwargs.get("file") or sys.stderr).isatty()
        self._printed, self._lines = time.monotonic(), 0
        if self._plain:
            kwargs |= {"mininterval": INTERVAL, "delay": 0, "ncols": 100}
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the bar, or print a line if the last one was printed long enough ago."""
        if not self._plain:
            return super().display(msg, pos)
        if time.monotonic() - self._printed >= INTERVAL:
            self._print()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar from the screen; printed lines stay."""
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        """Close the bar."""
        if not self._plain:
            super().close()
        elif not self.disable:
            self.disable = True
            bars: Any = type(self)  # tqdm's type hints lack this method
            bars._decr_instances(self)
            if self.leave and (not self._lines or time.monotonic() - self._printed >= INTERVAL):
                self._print()

    def _print(self) -> None:
        self._printed, self._lines = time.monotonic(), self._lines + 1
        self.fp.write(f"{self}\n")
        self.fp.flush()
