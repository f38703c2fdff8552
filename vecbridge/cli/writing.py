"""A bulk write with what a terminal adds: a progress bar, dead letters of the source, a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import VecbridgeError

if TYPE_CHECKING:
    import pyarrow as pa

    from vecbridge.bulk import Progress
    from vecbridge.sources.deadletters import DeadLetter
    from vecbridge.store import Collection

DEAD_LETTERS: Final = Path("vecbridge-dead-letters.jsonl")
FAILURE_PANEL: Final = "Failures and continuation"
READY_SECONDS: Final = 3600.0

DeadLettersOption = Annotated[
    Path | None,
    typer.Option(
        "--dead-letters",
        metavar="FILE",
        help=f"What could not be written is appended, with the reason; without it {DEAD_LETTERS}.",
        rich_help_panel=FAILURE_PANEL,
    ),
]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Notes what is written; the same command continues from it.",
        rich_help_panel=FAILURE_PANEL,
    ),
]
MaxFailuresOption = Annotated[
    int | None,
    typer.Option(
        "--max-failures",
        metavar="N",
        min=0,
        help="Give up when more than N records failed.",
        rich_help_panel=FAILURE_PANEL,
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", metavar="N", min=1, help="Requests at a time, where that is faster.")
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of everything that the source held.

    Attributes:
        written: Records acknowledged.
        failed: Records set aside, by the source or by the store.
        duplicates: Records that a later one of the same id replaced.
        retried: Requests sent again.
        dead_letters: Where the failed ones are described; None if there are none.
        rows: Records in the collection afterwards.
        index: State of its index.
    """

    written: int
    failed: int
    duplicates: int
    retried: int
    dead_letters: str | None
    rows: int
    index: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Letters:
    """Dead letters of the source, held until the bulk write gives the file back.

    Args:
        path: The dead-letter file.
        limit: More letters than this end the run; None is no limit.
    """

    def __init__(self, path: Path, limit: int | None) -> None:
        self.path = path
        self.count = 0
        self._limit = limit
        self._held: list[DeadLetter] = []
        self._was_there = path.exists()

    def take(self, letter: DeadLetter) -> None:
        """Takes one letter.

        Raises:
            VecbridgeError: There are too many.
        """
        self.count += 1
        self._held.append(letter)
        if self._limit is not None and self.count > self._limit:
            raise VecbridgeError(
                f"{self.count} failed, which is more than --max-failures {self._limit}; see {self.path}"
            )

    def post(self) -> None:
        """Puts them into the file; a file in which nothing stands is taken away."""
        from vecbridge.bulk.deadletters import DeadLetterFile

        if self._held:
            with DeadLetterFile(self.path, continuing=True) as file:
                file.append(self._held)
            self._held = []
        if not self._was_there and self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()


def write_all(
    collection: Collection,
    batches: Callable[[Callable[[DeadLetter], None]], Iterable[pa.RecordBatch]],
    *,
    what: str,
    source: str,
    dead_letters: Path,
    journal: Path | None = None,
    max_failures: int | None = None,
    workers: int = 4,
    total: int | None = None,
    quiet: bool = False,
) -> Outcome:
    """Writes a source and waits until it can be searched.

    Args:
        collection: Where it goes.
        batches: Makes the batches, given the function that takes the source's dead letters.
        what: Stands before the progress bar.
        source: What the journal calls the source.
        dead_letters: The dead-letter file.
        journal: The journal, if there is one.
        max_failures: More failures end the run.
        workers: Requests at a time.
        total: Records in the source, if that is known.
        quiet: No progress bar.
    """
    from vecbridge.bulk import write

    letters = Letters(dead_letters, max_failures)
    try:
        with _progress(what, total, letters, quiet=quiet) as advance:
            report = write(
                collection,
                batches(letters.take),
                workers=workers,
                journal=journal,
                dead_letters=dead_letters,
                max_failures=max_failures,
                progress=advance,
                source=source,
            )
    except KeyboardInterrupt:
        kept = f"the same command continues from {journal}" if journal else "what was written stays"
        output.note(f"Stopped: {kept}.")
        raise
    finally:
        letters.post()
    with output.busy("Making it searchable", quiet=quiet):
        collection.flush()
        collection.wait_ready(READY_SECONDS)
    status = collection.status()
    failed = report.failed + letters.count
    return Outcome(
        report.written,
        failed,
        report.duplicates,
        report.retried,
        str(dead_letters) if failed else None,
        status.rows,
        status.index,
    )


def summary(outcome: Outcome, verb: str, *, skipped: int | None = None) -> list[tuple[str, str]]:
    """The lines of a summary: what was written, and what was not and why."""
    lines = [(verb, f"{outcome.written:,}")]
    why = f", with the reason for each in {outcome.dead_letters}" if outcome.dead_letters else ""
    lines.append(("failed", f"{outcome.failed:,}{why}"))
    if skipped is not None:
        lines.append(("skipped", f"{skipped:,}" + (" (neither pictures nor texts)" if skipped else "")))
    if outcome.duplicates:
        lines.append(("replaced", f"{outcome.duplicates:,} by a later record of the same id"))
    if outcome.retried:
        lines.append(("sent again", output.number(outcome.retried, "request")))
    lines.append(("in it now", f"{output.number(outcome.rows, 'record')}, index {outcome.index}"))
    return lines


@contextmanager
def _progress(
    what: str, total: int | None, letters: Letters, *, quiet: bool
) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on stderr; none without a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = output.stderr()
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}", style="yellow"),
        TimeElapsedColumn() if total is None else TimeRemainingColumn(),
    ]
    with Progress(
        *columns, console=console, disable=quiet or not console.is_terminal, transient=True, expand=True
    ) as bar:
        task = bar.add_task(what, total=total, failed="")

        def advance(state: Any) -> None:
            failed = state.failed + letters.count
            shown = f"{failed} failed" if failed else ""
            bar.update(task, completed=state.done + letters.count, failed=shown)

        yield advance
