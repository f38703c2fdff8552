"""``migrate``: copies a collection to another database."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from vecbridge.cli import common, moving, output, writing
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.migration.copying import MigrationReport
    from vecbridge.migration.journal import Copied
    from vecbridge.migration.plans import Plan


def migrate(
    source: moving.SourceArgument,
    target: moving.TargetArgument,
    plan_file: moving.PlanOption = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="KIND", help="A loss to accept, as in index or field:title."),
    ] = None,
    rename: moving.RenameOption = None,
    drop: moving.DropOption = None,
    where: moving.WhereOption = None,
    filter_json: moving.FilterOption = None,
    id_template: moving.IdOption = None,
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="WHICH", help="empty: a new or empty target; existing: add to one with records."
        ),
    ] = "empty",
    max_rate: Annotated[
        float | None, typer.Option("--max-rate", metavar="N", help="Records a second, at most.")
    ] = None,
    workers: writing.WorkersOption = 4,
    dead_letters: Annotated[
        Path | None,
        typer.Option(
            "--dead-letters",
            metavar="FILE",
            help="Set records aside here that the target cannot keep; otherwise the copy stops at the first.",
            rich_help_panel=moving.CONTINUE_PANEL,
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            metavar="FILE",
            help="Records what is copied. Default: a file of this command in ~/.local/state/vecbridge.",
            rich_help_panel=moving.CONTINUE_PANEL,
        ),
    ] = None,
    no_journal: Annotated[
        bool,
        typer.Option(
            "--no-journal", help="Keep no journal: an interrupted copy cannot go on.",
            rich_help_panel=moving.CONTINUE_PANEL,
        ),
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="Also record what was sent, for vecbridge sync --state FILE.",
            rich_help_panel=moving.CONTINUE_PANEL,
        ),
    ] = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:  # fmt: skip
    """Copy a collection, with all namespaces, to another database.

    The source is not altered. The same command goes on where an earlier run was interrupted.

    Without #name the target has the source's name. ?namespace=NAME in SRC copies that namespace alone.
    """
    common.load_settings()
    if journal is not None and no_journal:
        raise ConfigError("--journal or --no-journal, one of the two")
    transform = moving.read_transform(source, rename, drop, where, filter_json, id_template)
    file = None if no_journal else journal or _default_journal(source, target, plan_file, transform)
    from vecbridge.migration.copying import migrate as copy

    which: Any = into
    try:
        with _progress(quiet=quiet) as (advance, show_plan):
            report = copy(
                source, target, plan=plan_file, allow=moving.read_kinds(allow), journal=file,
                dead_letters=dead_letters, max_rate=max_rate, into=which, state=state,
                workers=workers, wait=writing.READY_SECONDS, progress=advance, on_plan=show_plan, **transform,
            )  # fmt: skip
    except KeyboardInterrupt:
        kept = "the same command goes on" if file else "what was copied is kept"
        output.note(f"Stopped: {kept}.")
        raise
    if as_json:
        files = {"journal": _text(file), "dead_letters": _text(dead_letters)}
        output.document(report.to_dict() | files)
    else:
        _show(report, source, target, dead_letters, file)
    if report.failed and not report.already_done:
        raise typer.Exit(1)


def _default_journal(source: str, target: str, plan_file: Path | None, transform: dict[str, Any]) -> Path:
    """The journal of this very command."""
    from vecbridge.migration.planning import Transform
    from vecbridge.migration.plans import Plan

    about: dict[str, Any] = Transform.of(**transform).to_dict()
    if plan_file is not None:
        about["plan"] = Plan.load(plan_file).digest()
    return moving.state_path("migrate", source, target, about, ".journal")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[Copied], None], Callable[[Plan], None]]]:
    """A progress bar on stderr, and what shows the plan before it starts; no bar without a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[failed]}", style="yellow"),
        TimeRemainingColumn(),
    ]  # fmt: skip
    with output.progress(*columns, quiet=quiet) as bar:
        task = bar.add_task("Planning", total=None, rate="", failed="")

        def show_plan(plan: Plan) -> None:
            moving.show_losses(plan)
            output.note(f"Copying {plan.source} to {plan.target}: {output.number(plan.size.rows, 'record')}.")
            bar.update(task, description="Copying", total=plan.size.rows or None)

        def advance(copied: Copied) -> None:
            speed, total = bar.tasks[task].speed, bar.tasks[task].total
            copying = total is None or copied.rows < total
            bar.update(
                task, completed=copied.rows,
                description="Copying" if copying else "Waiting for the index",
                rate=f"{speed:,.0f}/s" if speed else "",
                failed=f"{copied.failed} set aside" if copied.failed else "",
            )  # fmt: skip

        yield advance, show_plan


def _show(
    report: MigrationReport, source: str, target: str, dead_letters: Path | None, journal: Path | None
) -> None:
    """The summary, and the commands that come next."""
    copied = report.copied
    lines = [("copied", f"{copied.written:,}" if copied.rows else "no records")]
    if copied.failed:
        lines.append(("set aside", f"{copied.failed:,}; the reasons are in {dead_letters}"))
    if copied.duplicates:
        lines.append(("replaced", f"{copied.duplicates:,} by a later record with the same id"))
    if report.resumed and not report.already_done:
        lines.append(("before", f"{report.resumed:,} by an earlier run"))
    if copied.retried:
        lines.append(("retried", output.number(copied.retried, "request")))
    lines.append(("namespaces", f"{report.namespaces:,}"))
    if report.seconds:
        rate = (copied.rows - report.resumed) / report.seconds
        lines.append(("time", f"{report.seconds:.1f} s, {rate:,.0f} records a second"))
    if journal is not None:
        lines.append(("journal", _short(journal)))
    lines += [("note", note) for note in report.notes]
    output.show(output.pairs(lines))
    addresses = f"{shlex.quote(source)} {shlex.quote(target)}"
    output.line(Text(output.safe(f"next: {output.program()} verify {addresses}")))


def _short(path: Path) -> str:
    """A path as people write it, with ~ for their home."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
