"""``plan``: says what a migration would do, lose and cost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from vecbridge.cli import common, moving, output

if TYPE_CHECKING:
    from vecbridge.migration.plans import Plan
    from vecbridge.schema import CollectionSpec

_SHOWN_NAMESPACES: Final = 20
_MINUTE: Final = 60.0
_HOUR: Final = 3_600.0


def plan(
    source: moving.SourceArgument,
    target: moving.TargetArgument,
    scan: Annotated[
        bool,
        typer.Option("--scan", help="Read every record, and count those that the target cannot keep."),
    ] = False,
    rename: moving.RenameOption = None,
    drop: moving.DropOption = None,
    where: moving.WhereOption = None,
    filter_json: moving.FilterOption = None,
    id_template: moving.IdOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the plan as JSON to a file, for --plan FILE of migrate, verify and sync.",
            rich_help_panel=common.OUTPUT_PANEL,
        ),
    ] = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Show what a migration would do and lose, and how large it is.

    Nothing is written to the source or the target. Without --scan, some 1,000 records are looked at.
    """
    common.load_settings()
    transform = moving.read_transform(source, rename, drop, where, filter_json, id_template)
    from vecbridge.migration.planning import plan as make

    with output.busy("Reading every record" if scan else "Planning", quiet=quiet):
        planned = make(source, target, scan=scan, **transform)
    if file is not None:
        from vecbridge.migration.planfile import write_plan

        write_plan(file, planned)
        output.note(f"Plan: {file}")
    if as_json:
        output.document(planned.to_dict())
        return
    _show(planned)
    _show_next(planned, source, target, file)


def _show(planned: Plan) -> None:
    output.show(output.pairs(_facts(planned)), "", output.table(*_columns(planned)))
    if planned.source_spec.namespaced or planned.into:
        output.show("", _namespaces(planned))
    output.show("")
    if planned.losses:
        output.show(moving.losses_table(planned))
    else:
        output.show("Nothing is lost.")


def _facts(planned: Plan) -> Iterator[tuple[str, Any]]:
    size = planned.size
    yield "source", planned.source
    yield "target", planned.target
    if planned.filter is not None:
        yield "only", json.dumps(planned.filter, ensure_ascii=False)
    if planned.id_template is not None:
        yield "ids", f"built as {planned.id_template}"
    if not size.rows:
        yield "records", "none"
        return
    yield "records", f"{size.rows:,}"
    basis = "every record was encoded" if size.exact else "from a sample"
    yield "size", f"{output.size(size.bytes)} in {output.number(size.requests, 'request')}, {basis}"
    if size.seconds is not None:
        shortest, longest = map(_duration, size.seconds)
        yield "time", f"{shortest} to {longest}; the first is that of reading and encoding alone"


def _columns(planned: Plan) -> tuple[list[str], list[list[str]]]:
    """The schema before and after, a line a column."""
    from vecbridge.reserved import public

    before, after = _described(planned.source_spec), _described(planned.spec)
    new_names = {column.source: column.name for column in planned.columns} | {"id": "id"}
    rows = []
    for name in public(planned.source_spec).column_names:
        new = new_names.get(name)
        what = "(left out)" if new is None else after[new]
        rows.append([name, before[name], new or "", "same" if what == before[name] else what])
    return ["source", "", "target", ""], rows


def _described(spec: CollectionSpec) -> dict[str, str]:
    """What each column is."""
    from vecbridge.indexes import describe

    described: dict[str, str] = {"id": spec.id_type}
    for vector in spec.vectors:
        index = describe(vector.index)
        described[vector.name] = f"{vector.dim} dimensions, {vector.metric}, {index}"
    return described | {field.name: field.type for field in spec.fields}


def _namespaces(planned: Plan) -> Any:
    shown = planned.namespaces[:_SHOWN_NAMESPACES]
    rows = [[_name(each.source), f"{each.rows:,}", _name(each.target)] for each in shown]
    if len(planned.namespaces) > len(shown):
        rest = planned.namespaces[len(shown) :]
        rows.append([f"and {len(rest):,} more", f"{sum(each.rows for each in rest):,}", ""])
    return output.table(["namespace", "records", "target"], rows, right=["records"])


def _name(namespace: str) -> str:
    return namespace or "(the default one)"


def _show_next(planned: Plan, source: str, target: str, file: Path | None) -> None:
    """The command that carries the plan out."""
    refused = planned.refused(())
    if any(loss.kind == "metric" for loss in refused):
        output.note("It cannot be carried out: nothing converts a metric.")
        return
    kinds = dict.fromkeys(loss.kind for loss in refused)
    words = ["migrate", source, target, *(word for kind in kinds for word in ("--allow", kind))]
    words += ["--plan", str(file)] if file is not None else []
    if file is not None or not _is_changed(planned):
        output.note("Nothing was written. To carry it out:")
        command = f"{output.program()} {' '.join(map(shlex.quote, words))}"
        output.stderr().print(Text(output.safe(command)), soft_wrap=True)
    else:
        output.note("Nothing was written. migrate takes the same options.")


def _is_changed(planned: Plan) -> bool:
    """Whether options say what the migration changes."""
    lost = {loss.kind.partition(":")[2] for loss in planned.losses}
    return bool(
        planned.filter is not None or planned.id_template is not None or planned.renamed
        or set(planned.dropped) - lost
    )  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
