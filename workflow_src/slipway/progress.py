"""What a long stage is doing and how long it still takes: a bar on a terminal, plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Steps:
    """Steps of known length, told as they come; made by `steps`."""

    def __init__(self, total_s: float, count: int, bar: Progress | None) -> None:
        self._left_s = total_s
        self._count = count
        self._done = 0
        self._bar = bar
        self._task = bar.add_task("", total=count) if bar else None

    def begin(self, what: str) -> None:
        """Tell of the next step."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what)
        else:
            # What is decided as it goes may take more steps than were expected.
            of, left = (
                (f"/{self._count}", f"; about {self._left_s:.0f} s left") if self._done < self._count else ("", "")
            )
            told = f"[{self._done + 1}{of}] {what}{left}"
            sys.stderr.write(told + "\n")
            sys.stderr.flush()

    def note(self, what: str) -> None:
        """Tell of something on a line of its own."""
        if self._bar is not None:
            self._bar.console.print(what, highlight=False, markup=False)
        else:
            sys.stderr.write(what + "\n")
            sys.stderr.flush()

    def take_longer(self, more_s: float) -> None:
        """Plan *more_s* more for the steps that are left: how long they are was not known when they were counted."""
        self._left_s += more_s

    def end(self, planned_s: float) -> None:
        """Count the step that began last; *planned_s* is what it was planned to take."""
        self._done += 1
        self._left_s -= planned_s
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)


@contextlib.contextmanager
def steps(count: int, total_s: float) -> Iterator[Steps]:
    """
    Tell of *count* steps during the block, on standard error.

    Args:
        count: Steps.
        total_s: What all of them together are planned to take.
    """
    began = time.monotonic()
    console = Console(stderr=True)
    if not console.is_terminal:
        told = Steps(total_s, count, None)
        yield told
        told.note(f"done in {time.monotonic() - began:.0f} s")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        yield Steps(total_s, count, bar)


@contextlib.contextmanager
def counter(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """
    Tell how many of *total* small things are done during the block, on standard error.

    Args:
        what: What is being done.
        total: Things, at least 1.

    Yields:
        To be called with how many more are done: a bar on a terminal, a line at every tenth of them in a log.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda more: bar.advance(task, more)
        return
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        told = 10 * done // total
        done += more
        if 10 * done // total > told:
            sys.stderr.write(f"{what}: {done:,} of {total:,}\n")
            sys.stderr.flush()

    yield advance
