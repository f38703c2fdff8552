"""Bulk writing for ``index`` and ``load``: its options, the dead-letter file, a summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output, progress
from vecbridge.errors import PartialWriteError, VecbridgeError

if TYPE_CHECKING:
    from vecbridge.bulk import Progress, Target
    from vecbridge.query import WriteReport
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
        help="Records what is written: the same command may always be run again, and sends only what is new.",
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
MaxRateOption = Annotated[
    float | None, typer.Option("--max-rate", metavar="N", help="Records sent a second, at most.")
]
RequestsOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Maximal number of requests at a time. Default: as many as the store keeps up with.",
        show_default=False,
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
        read: Records of the source: written + failed + duplicates.
        written: Records acknowledged.
        failed: Records that the source could not read or the store refused.
        refused: Those of them that the store refused in this run.
        duplicates: Records of an id that another record of the source has; the last one stays.
        retried: Requests sent again.
        recalled: Records that the journal says an earlier run has settled, which are counted above, too.
        dead_letters: The file that lists the failed records; None if none failed.
        rows: Records in the collection afterwards.
        index: State of the collection's index; None if no record was written, and hence no collection made.
        speed: How long it took, how fast that was, and the share of its time that each stage was busy.
    """

    read: int
    written: int
    failed: int
    refused: int
    duplicates: int
    retried: int
    recalled: int
    dead_letters: str | None
    rows: int
    index: str | None
    speed: dict[str, Any]

    @property
    def is_there(self) -> bool:
        """Whether the collection exists."""
        return self.index is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def write_all(
    target: Collection | Target,
    send: Callable[..., WriteReport],
    *,
    label: str,
    dead_letters: Path,
    journal: Path | None = None,
    max_failures: int | None = None,
    workers: int | None = None,
    max_rate: float | None = None,
    total: int | None = None,
    quiet: bool = False,
    repeatable: bool = False,
) -> IngestResult:
    """Writes a source and waits until it can be searched.

    Args:
        target: Where to write to.
        send: Writes it: called with the target, and with the options that ``vecbridge.write`` and
            ``vecbridge.ingest`` share.
        label: Label of the progress bar.
        dead_letters: The dead-letter file.
        journal: The journal; None writes without one.
        max_failures: More failures than this stop the run.
        workers: Maximal number of requests at a time; None is as many as the store keeps up with.
        max_rate: Maximal number of records sent a second.
        total: Number of records in the source; None if unknown.
        quiet: Show no progress.
        repeatable: Whether the same command completes an interrupted run without a journal.

    Raises:
        VecbridgeError: More than ``max_failures`` records failed; or what the store and the files raise.
    """
    from vecbridge.bulk import DeadLetterFile, Progress, as_target

    goal, last = as_target(target), Progress()
    try:
        with (
            DeadLetterFile(dead_letters, continuing=True) as letters,
            progress.follow(label, total, quiet=quiet) as show,
        ):

            def advance(state: Progress) -> None:
                nonlocal last
                last = state
                show(state)

            report = send(
                goal,
                workers=workers,
                max_rate=max_rate,
                journal=journal,
                dead_letters=letters,
                max_failures=max_failures,
                progress=advance,
            )
    except PartialWriteError as exc:
        if max_failures is None:
            raise
        raise VecbridgeError(_too_many(exc.report, max_failures, dead_letters)) from exc
    except KeyboardInterrupt:
        _report_stop(goal, journal, last, repeatable=repeatable)
        raise
    rows, index = _state(goal, quiet=quiet)
    return IngestResult(
        last.rows,
        report.written,
        report.failed,
        last.refused,
        report.duplicates,
        report.retried,
        report.recalled,
        str(dead_letters) if report.failed else None,
        rows,
        index,
        _speed(last),
    )


def _speed(state: Progress) -> dict[str, Any]:
    return {
        "seconds": round(state.seconds, 3),
        "rows_per_second": round(state.rows_per_second, 1),
        "bytes": state.bytes,
        "bytes_per_second": round(state.bytes_per_second),
        "stages": {name: round(share, 3) for name, share in state.stages.items()},
        "bottleneck": state.bottleneck,
    }


def _report_stop(goal: Target, journal: Path | None, last: Progress, *, repeatable: bool) -> None:
    """Says what Ctrl-C has left, and which command goes on."""
    if goal.collection is None:
        output.note("Stopped: nothing was written.")
    elif repeatable:
        output.note("Stopped: the same command completes it.")
        if command := output.command():
            output.note(f"Continue: {command}")
    elif journal is None:
        written = output.number(last.written, "record")
        output.note(f"Stopped: what was written is kept ({written}). --journal FILE would let it continue.")
    else:
        output.note(f"Stopped: the same command continues from {journal}.")
        if command := output.command():
            output.note(f"Continue: {command}")


def _too_many(report: WriteReport, limit: int | None, dead_letters: Path) -> str:
    return (
        f"{report.failed} failed, which is more than --max-failures {limit}; see {dead_letters}: "
        f"{report.failures[0].error}"
    )


def _state(target: Target, *, quiet: bool) -> tuple[int, str | None]:
    """Waits until all is written and indexed; how many records there are, and the state of the index."""
    collection = target.collection
    if collection is None:
        return 0, None
    with output.busy("Waiting for the index", quiet=quiet):
        collection.flush()
        collection.wait_ready(READY_SECONDS)
    status = collection.status()
    return status.rows, status.index


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
    if result.recalled:
        rest = ": nothing was left to send" if result.recalled == result.read else ""
        lines.append(("settled", f"{result.recalled:,} by an earlier run, as the journal says{rest}"))
    there = f"{output.number(result.rows, 'record')}, index {result.index}"
    lines.append(("collection", there if result.is_there else "none was made, since no record was written"))
    return lines
