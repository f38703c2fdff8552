"""Bulk writing for ``index`` and ``load``: a progress bar, dead letters of the source, a summary."""

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
        help=f"File to which failed records are appended, with the reason. Default: {DEAD_LETTERS}.",
        rich_help_panel=FAILURE_PANEL,
    ),
]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Records what is written, so that the same command continues after an interruption.",
        rich_help_panel=FAILURE_PANEL,
    ),
]
MaxFailuresOption = Annotated[
    int | None,
    typer.Option(
        "--max-failures",
        metavar="N",
        min=0,
        help="Stop when more than N records failed.",
        rich_help_panel=FAILURE_PANEL,
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Maximal number of requests at a time, for stores that gain from several.",
    ),
]


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The result of ``index`` or ``load``.

    Attributes:
        written: Records acknowledged.
        failed: Records that the source could not read or the store refused.
        duplicates: Records that a later one of the same id replaced.
        retried: Requests sent again.
        dead_letters: The file that lists the failed records; None if none failed.
        rows: Records in the collection afterwards.
        index: State of the collection's index.
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


class SourceFailures:
    """Collects the dead letters of the source, and appends them to the file after the bulk write.

    The bulk write has the file open until then.

    Args:
        path: The dead-letter file.
        limit: More dead letters than this stop the run; None is no limit.
    """

    def __init__(self, path: Path, limit: int | None) -> None:
        self.path = path
        self.count = 0
        self._limit = limit
        self._pending: list[DeadLetter] = []
        self._existed = path.exists()

    def add(self, letter: DeadLetter) -> None:
        """Collects one dead letter.

        Raises:
            VecbridgeError: There are more than the limit.
        """
        self.count += 1
        self._pending.append(letter)
        if self._limit is not None and self.count > self._limit:
            raise VecbridgeError(
                f"{self.count} failed, which is more than --max-failures {self._limit}; see {self.path}"
            )

    def save(self) -> None:
        """Appends them to the file; removes the file if this run created it and it is empty."""
        from vecbridge.bulk.deadletters import DeadLetterFile

        if self._pending:
            with DeadLetterFile(self.path, continuing=True) as file:
                file.append(self._pending)
            self._pending = []
        if not self._existed and self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()


def write_all(
    collection: Collection,
    batches: Callable[[Callable[[DeadLetter], None]], Iterable[pa.RecordBatch]],
    *,
    label: str,
    source: str,
    dead_letters: Path,
    journal: Path | None = None,
    max_failures: int | None = None,
    workers: int = 4,
    grow: bool = False,
    total: int | None = None,
    quiet: bool = False,
) -> IngestResult:
    """Writes a source and waits until it can be searched.

    Args:
        collection: The collection to write to.
        batches: Called with a callback for dead letters of the source; yields the batches.
        label: Label of the progress bar.
        source: Name of the source in the journal.
        dead_letters: The dead-letter file.
        journal: The journal; None writes without one.
        max_failures: More failures than this stop the run.
        workers: Maximal number of requests at a time.
        grow: Add columns that the collection does not have as fields.
        total: Number of records in the source; None if unknown.
        quiet: Show no progress bar.
    """
    from vecbridge.bulk import write

    failures = SourceFailures(dead_letters, max_failures)
    try:
        with _progress(label, total, failures, quiet=quiet) as advance:
            report = write(
                collection,
                batches(failures.add),
                workers=workers,
                journal=journal,
                dead_letters=dead_letters,
                max_failures=max_failures,
                grow=grow,
                progress=advance,
                source=source,
            )
    except KeyboardInterrupt:
        state = f"the same command continues from {journal}" if journal else "what was written is kept"
        output.note(f"Stopped: {state}.")
        raise
    finally:
        failures.save()
    with output.busy("Waiting for the index", quiet=quiet):
        collection.flush()
        collection.wait_ready(READY_SECONDS)
    status = collection.status()
    failed = report.failed + failures.count
    return IngestResult(
        report.written,
        failed,
        report.duplicates,
        report.retried,
        str(dead_letters) if failed else None,
        status.rows,
        status.index,
    )


def summary(result: IngestResult, verb: str, *, skipped: int | None = None) -> list[tuple[str, str]]:
    """The lines of a summary: a label, and a number with its explanation."""
    lines = [(verb, f"{result.written:,}")]
    where = f"; the reasons are in {result.dead_letters}" if result.dead_letters else ""
    lines.append(("failed", f"{result.failed:,}{where}"))
    if skipped is not None:
        lines.append(("skipped", f"{skipped:,}" + (" (neither pictures nor texts)" if skipped else "")))
    if result.duplicates:
        lines.append(("replaced", f"{result.duplicates:,} by a later record with the same id"))
    if result.retried:
        lines.append(("retried", output.number(result.retried, "request")))
    lines.append(("collection", f"{output.number(result.rows, 'record')}, index {result.index}"))
    return lines


@contextmanager
def _progress(
    label: str, total: int | None, failures: SourceFailures, *, quiet: bool
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
        task = bar.add_task(label, total=total, failed="")

        def advance(state: Any) -> None:
            failed = state.failed + failures.count
            text = f"{failed} failed" if failed else ""
            bar.update(task, completed=state.done + failures.count, failed=text)

        yield advance
