"""How far ``index`` and ``load`` have come: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from vecbridge.cli import output

if TYPE_CHECKING:
    from vecbridge.bulk import Progress

LINE_SECONDS: Final = 5.0  # between two lines, where there is no terminal
_BAR_WIDTH: Final = 8  # a terminal may have no more than 80 columns


@contextmanager
def follow(label: str, total: int | None, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows the progress on stderr; yields what takes its states.

    Args:
        label: What is being done.
        total: Rows that there are; None if that is not known.
        quiet: Show nothing.
    """
    if quiet:
        yield lambda state: None
    elif output.stderr().is_terminal:
        with _bar(label, total) as advance:
            yield advance
    else:
        with _lines(label, total) as advance:
            yield advance


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=_BAR_WIDTH),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TextColumn("{task.fields[trouble]}", style="yellow"),
        TimeElapsedColumn() if total is None else TimeRemainingColumn(),
    ]
    with output.progress(*columns) as bar:
        task = bar.add_task(label, total=total, rates="", trouble="")

        def advance(state: Progress) -> None:
            trouble = ", ".join(trouble_words(state))
            rates = " ".join([*(word.replace(" rows/", "/") for word in rate_words(state)), state.bottleneck])
            bar.update(task, completed=state.done, rates=rates, trouble=trouble)

        yield advance


@contextmanager
def _lines(label: str, total: int | None) -> Iterator[Callable[[Progress], None]]:
    latest: Progress | None = None
    done = threading.Event()

    def advance(state: Progress) -> None:
        nonlocal latest
        latest = state

    def repeat() -> None:
        while not done.wait(LINE_SECONDS):
            if latest is not None:
                output.note(line(label, latest, total))

    thread = threading.Thread(target=repeat, name="vecbridge-progress", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        done.set()
        thread.join()


def line(label: str, state: Progress, total: int | None) -> str:
    """A state in one line.

    Example:
        >>> from vecbridge.bulk import Progress
        >>> stages = {"read": 0.4, "embed": 0.98}
        >>> state = Progress(rows=600, written=498, failed=2, bytes=2_000_000, seconds=10, stages=stages)
        >>> line("Indexing", state, 2000)
        'Indexing: 500 of 2,000 (25%), 50 rows/s, 200.0 kB/s, embed 98% busy, 2 failed, 30 s left'
    """
    words = [
        f"{state.done:,}" if total is None else f"{state.done:,} of {total:,} ({_percent(state, total)})"
    ]
    words += rate_words(state)
    if state.bottleneck:
        words.append(f"{state.bottleneck} {state.stages[state.bottleneck]:.0%} busy")
    words += trouble_words(state)
    if total is not None and state.rows_per_second:
        words.append(f"{_duration((total - state.done) / state.rows_per_second)} left")
    return f"{label}: {', '.join(words)}"


def rate_words(state: Progress) -> list[str]:
    """How fast it is."""
    words = []
    if state.rows_per_second:
        words.append(f"{state.rows_per_second:,.0f} rows/s")
    if state.bytes_per_second:
        words.append(f"{output.size(state.bytes_per_second)}/s")
    return words


def trouble_words(state: Progress) -> list[str]:
    """What went wrong so far."""
    words = [f"{state.failed:,} failed"] if state.failed else []
    return [*words, f"{state.retried:,} retried"] if state.retried else words


def _percent(state: Progress, total: int) -> str:
    return f"{state.done / total:.0%}" if total else "100%"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
