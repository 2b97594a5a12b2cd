"""What a run says while it works, on stderr; results go to stdout and are none of this module's business."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Bar", "Reporter"]

QUIET_SECONDS = 30.0  # that a log may stay without a line while training goes on


class Bar(Protocol):
    """A progress bar that is on the screen."""

    def advance(self, amount: int = 1) -> None:
        """Count ``amount`` more items as done."""

    def expect(self, total: int) -> None:
        """Correct how many items there will be."""

    def describe(self, text: str) -> None:
        """Show ``text`` behind the bar."""


class _Silent:
    def advance(self, amount: int = 1) -> None:
        pass

    def expect(self, total: int) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


class Reporter:
    """Prints notes, and shows bars where there is a terminal to draw them on.

    Args:
        level: 0 says nothing, 1 the notes, 2 the details too.
        prefix: put before every note; ``compare`` names the cell there.
        bars: whether to draw bars; several processes would draw over each other's.
    """

    def __init__(self, level: int = 1, prefix: str = "", *, bars: bool = True) -> None:
        """Draw bars only where stderr is a terminal."""
        self.level = level
        self.prefix = prefix
        self._spoken = time.monotonic()
        self._bars = bars and level > 0 and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Print one line."""
        if self.level > 0:
            print(f"{self.prefix}{text}", file=sys.stderr, flush=True)

    def epoch(self, text: str) -> None:
        """Print one line on an epoch: each with ``-v``; in a log, which has no bar, one now and then."""
        now = time.monotonic()
        if self.level > 1 or (not self._bars and now - self._spoken > QUIET_SECONDS):
            self._spoken = now
            self.note(text)

    @contextmanager
    def bar(self, label: str, total: int | None) -> Iterator[Bar]:
        """Show a bar while the block runs; ``None`` for a total that is not known yet."""
        if not self._bars:
            yield _Silent()
            return
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("{task.fields[text]}"),
        )
        with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task(f"{self.prefix}{label}", total=total, text="")

            class _Rich:
                def advance(self, amount: int = 1) -> None:
                    shown.advance(task, amount)

                def expect(self, total: int) -> None:
                    shown.update(task, total=total)

                def describe(self, text: str) -> None:
                    shown.update(task, text=text)

            yield _Rich()
