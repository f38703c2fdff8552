"""``verify``: compares a collection with its copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from vecbridge.cli import common, moving, output
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.migration.proof import Proof, Recall
    from vecbridge.query import FloatArray

_MOST: Final = 40  # findings in a terminal
_SEARCH_PANEL: Final = "Level search"


def verify(
    source: moving.SourceArgument,
    target: moving.TargetArgument,
    level: Annotated[
        str,
        typer.Option(
            "--level",
            "-l",
            metavar="LEVEL",
            help="count: schema and numbers of records; ids: which records; content: every value; "
            "search: also what searches find.",
        ),
    ] = "search",
    plan: moving.PlanOption = None,
    journal: Annotated[
        Path | None,
        typer.Option("--journal", metavar="FILE", help="The journal of the copy, which holds its plan."),
    ] = None,
    settle: Annotated[
        float,
        typer.Option("--settle", metavar="SECONDS", min=0, help="How long a difference is looked up again."),
    ] = 10.0,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="DIR",
            help="Where to keep 16 bytes a record and side meanwhile. Default: the temporary directory.",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Query vectors to use, .npy of shape (n, dim). Default: mixtures of stored vectors.",
            rich_help_panel=_SEARCH_PANEL,
        ),
    ] = None,
    min_recall: Annotated[
        float | None,
        typer.Option(
            "--min-recall",
            metavar="R",
            help="The recall@10 that is enough. Default: 0.95, or the source's less 0.02 "
            "(0.05 for a quantized index).",
            rich_help_panel=_SEARCH_PANEL,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="How long to wait for an index that is being built.",
            rich_help_panel=_SEARCH_PANEL,
        ),
    ] = 60.0,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write the report as an HTML page.",
            rich_help_panel=common.OUTPUT_PANEL,
        ),
    ] = None,
    no_values: Annotated[
        bool,
        typer.Option("--no-values", help="Show no values of records.", rich_help_panel=common.OUTPUT_PANEL),
    ] = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Compare a collection with its copy, and say what differs.

    Nothing is altered on either side. Without --plan and --journal the copy should be what the source is.

    Exit status: 0 everything holds, 1 something does not, 2 bad usage, or a level that a side cannot do.
    """
    common.load_settings()
    from vecbridge.migration.verifying import verify as compare

    asked: Any = level
    with _progress(quiet=quiet) as advance:
        proof = compare(
            source, target, plan=plan, level=asked, queries=_vectors(queries), min_recall=min_recall,
            wait=wait, settle=settle, journal=journal, directory=directory, progress=advance,
        )  # fmt: skip
    if html is not None:
        html.write_text(proof.to_html(values=not no_values), "utf-8")
        output.note(f"Page: {html}")
    if as_json:
        output.document(proof.to_dict(values=not no_values))
    else:
        _show(proof, values=not no_values)
    if not proof.passed:
        raise typer.Exit(1)


def _vectors(path: Path | None) -> FloatArray | None:
    """The query vectors of a file.

    Raises:
        ConfigError: It cannot be read.
    """
    if path is None:
        return None
    import numpy as np

    try:
        vectors: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"--queries {path}: {exc}") from exc
    return vectors


def _show(proof: Proof, *, values: bool) -> None:
    mine, theirs = proof.rows
    facts: list[tuple[str, Any]] = [
        ("source", proof.source),
        ("target", proof.target),
        ("level", proof.level),
        ("records", f"{mine:,} at the source, {theirs:,} at the target"),
    ]
    if proof.compared:
        facts.append(("compared", output.number(proof.compared, "record")))
    verdict = Text("held", "bold green") if proof.passed else Text("does not hold", "bold red")
    facts.append(("result", verdict))
    output.show(output.pairs(facts))
    if len(proof.namespaces) > 1:
        rows = [
            [each.namespace or "(default)", f"{each.source:,}", f"{each.target:,}"]
            for each in proof.namespaces[:_MOST]
        ]
        _titled(output.table(["namespace", "source", "target"], rows, right=["source", "target"]))
    if proof.recall:
        _titled(_recall_table(proof.recall))
    if proof.findings:
        _titled(_findings_table(proof, values=values))
        if len(proof.findings) > _MOST:
            output.note(f"{len(proof.findings) - _MOST:,} more findings: see them with --json or --html.")
    for text in proof.notes:
        output.note(f"Note: {text}.")


def _titled(table: Any) -> None:
    output.show("", table)


def _recall_table(recall: Sequence[Recall]) -> Any:
    from vecbridge.migration.plots import share_name

    columns: dict[str, list[Any]] = {
        "vector": [each.vector for each in recall],
        "namespace": [
            "(all)" if each.namespace is None else each.namespace or "(default)" for each in recall
        ],
        "searches": [share_name(each) for each in recall],
        "queries": [f"{each.queries:,}" for each in recall],
        "source": [_figure(each.source) for each in recall],
        "target": [_figure(each.target) for each in recall],
        "wanted": [_figure(each.required) for each in recall],
        "same ranks": [_figure(each.agreement) for each in recall],
        "recall@10": [Text("held", "green") if each.passed else Text("too low", "red") for each in recall],
    }
    for name in ("vector", "namespace"):
        if len(set(columns[name])) == 1:
            del columns[name]
    rows = zip(*columns.values(), strict=True)
    return output.table(list(columns), rows, right=["queries", "source", "target", "wanted", "same ranks"])


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _findings_table(proof: Proof, *, values: bool) -> Any:
    rows = []
    for each in proof.findings[:_MOST]:
        detail = each.detail
        if values and each.kind == "value":
            detail += f" ({each.source} → {each.target})"
        rows.append(
            [Text(output.safe(each.kind), "red"), proof.shown_namespace(each), each.id, each.column, detail]
        )
    headings = ["finding", "namespace", "id", "column", "detail"]
    shown = [
        place for place in range(5) if place in (0, 4) or any(row[place] not in (None, "") for row in rows)
    ]
    return output.table(
        [headings[place] for place in shown], [[row[place] for place in shown] for row in rows]
    )


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; none without a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with output.progress(*columns, quiet=quiet, expand=False) as bar:
        task = bar.add_task("Looking at both sides", total=None)

        def advance(step: str, rows: int, total: int) -> None:
            label = {"compare": "Comparing records", "search": "Comparing searches"}.get(step, step)
            bar.update(task, description=label, completed=rows, total=max(total, rows))

        yield advance
