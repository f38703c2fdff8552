"""``sync``: brings a copy to what its source holds now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbridge.cli import common, moving, output, writing

if TYPE_CHECKING:
    from vecbridge.migration.syncing import SyncReport
    from vecbridge.migration.syncrun import Synced

DELETES_PANEL = "What is deleted"
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DST", help="Its copy; without #name it has the source's name.", show_default=False
    ),
]


def sync(
    source: moving.SourceArgument,
    target: TargetArgument,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="What the target has, from migrate --state or the last sync. "
            "Default: a file of this command in ~/.local/state/vecbridge.",
        ),
    ] = None,
    plan_file: moving.PlanOption = None,
    where: moving.WhereOption = None,
    filter_json: moving.FilterOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, and show what would be done.")
    ] = False,
    max_deletes: Annotated[
        int | None,
        typer.Option(
            "--max-deletes",
            metavar="N",
            min=0,
            help="Refuse to delete more records. Default: a tenth of them, and at least 1,000.",
            rich_help_panel=DELETES_PANEL,
        ),
    ] = None,
    delete_extra: Annotated[
        bool,
        typer.Option(
            "--delete-extra",
            help="Delete also records of the target that never came from the source.",
            rich_help_panel=DELETES_PANEL,
        ),
    ] = False,
    max_rate: Annotated[
        float | None, typer.Option("--max-rate", metavar="N", help="Records read a second, at most.")
    ] = None,
    workers: writing.WorkersOption = 4,
    dead_letters: Annotated[
        Path | None,
        typer.Option(
            "--dead-letters",
            metavar="FILE",
            help="Set records aside here that the target cannot keep; otherwise the sync stops at the first.",
            rich_help_panel=moving.CONTINUE_PANEL,
        ),
    ] = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Bring a copy to what its source holds now.

    Reads the source once and sends what differs from the state file: inserts, updates and deletes. Without a
    state file, the target is read and compared too, and the file is made.

    The same command can be run again at any time, also after an interruption.
    """
    common.load_settings()
    condition = moving.read_transform(source, None, None, where, filter_json, None)["filter"]
    file = state or moving.state_path("sync", source, target, {}, ".state")
    from vecbridge.migration.syncing import sync as bring

    try:
        with _progress(quiet=quiet) as advance:
            report = bring(
                source, target, state=file, plan=plan_file, filter=condition, dry_run=dry_run,
                max_deletes=max_deletes, delete_extra=delete_extra, dead_letters=dead_letters,
                max_rate=max_rate, workers=workers, progress=advance,
            )  # fmt: skip
    except KeyboardInterrupt:
        output.note("Stopped: the same command completes it.")
        raise
    if as_json:
        output.document(report.to_dict() | {"state": str(file)})
    else:
        output.show(output.pairs(_summary(report, file, dead_letters)))
    if report.failed:
        raise typer.Exit(1)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Synced], None]]:
    """Counts on stderr; nothing without a terminal."""
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    with output.progress(*columns, quiet=quiet, expand=False) as bar:
        task = bar.add_task("Comparing")

        def advance(counts: Synced) -> None:
            changes = f"{counts.inserted:,} new, {counts.updated:,} changed, {counts.deleted:,} deleted"
            bar.update(task, description=f"{output.number(counts.rows, 'record')} read: {changes}")

        yield advance


def _summary(report: SyncReport, state: Path, dead_letters: Path | None) -> list[tuple[str, Any]]:
    """A label, and a number with its explanation."""
    lines: list[tuple[str, Any]] = (
        [("dry run", "nothing was changed; this would be:")] if report.dry_run else []
    )
    lines += [
        ("inserted", f"{report.inserted:,}"),
        ("updated", f"{report.updated:,}"),
        ("deleted", f"{report.deleted:,}"),
        ("unchanged", f"{report.unchanged:,}"),
    ]
    if report.failed:
        where = (
            f"; the reasons are in {dead_letters}" if dead_letters is not None and not report.dry_run else ""
        )
        lines.append(("set aside", f"{report.failed:,}{where}"))
    if report.kept:
        lines.append(
            ("kept", f"{report.kept:,} that the source got while it was read; the next sync sends them")
        )
    if report.kept_extra:
        lines.append(("extra", f"{report.kept_extra:,} only in the target; --delete-extra deletes them"))
    read = f"{report.rows / report.seconds:,.0f} records a second" if report.seconds else ""
    lines.append(("time", f"{report.seconds:.1f} s, {read}"))
    lines.append(
        ("compared", "with the state" if report.compared == "state" else "with the target: no state yet")
    )
    if not report.dry_run:
        lines.append(("state", str(state)))
    return [*lines, *(("note", note) for note in report.notes)]
