"""A proof as one HTML page, with everything inside: no script, no file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vecbridge import texts, timestamps
from vecbridge.indexes import describe
from vecbridge.migration.plans import Plan
from vecbridge.migration.plots import recall_plot, score_plot, share_name
from vecbridge.pages import render
from vecbridge.reserved import public

if TYPE_CHECKING:  # a proof makes its own page
    from vecbridge.migration.proof import Proof, Recall

_MOST: Final = 200  # lines of a table; what comes after is counted, and not shown
_BARS: Final = 12  # groups of searches in a plot
_LONGEST: Final = 300  # characters of a cell


@dataclass(frozen=True, slots=True)
class Heading:
    """A column of a table.

    Attributes:
        name: What stands above it.
        kind: The class of its cells in the stylesheet; "" for none.
        right: Whether it is of numbers, which stand at the right.
    """

    name: str
    kind: str
    right: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the template shows it.

    Attributes:
        headings: Its columns.
        rows: Each cell with its column.
        more: How many rows are left out, as a sentence; "" for none.
    """

    headings: list[Heading]
    rows: list[list[tuple[Heading, str]]]
    more: str = ""


def page(proof: Proof, *, values: bool = True) -> str:
    """The page as text, below 1 MB.

    Args:
        proof: What it shows; every text of it is escaped.
        values: Whether to show values of rows that differ, and those of filters.
    """
    verdict = "The copy holds" if proof.passed else "The copy does not hold"
    return render(
        "proof.html",
        title=_cut(f"{verdict}: {proof.target}"),
        passed=proof.passed,
        verdict=verdict,
        facts=_facts(proof),
        findings=_findings(proof, values=values),
        counts=_counts(proof),
        searches=_searches(proof, values=values) if proof.recall else None,
        plan={"notes": _plan_notes(proof), "table": _plan_table(proof.plan)},
        losses=_losses(proof.plan),
        notes=[_cut(each) for each in proof.notes[:_MOST]],
        commands=proof.commands,
        versions=_joined(proof.versions.items()),
    )


def _facts(proof: Proof) -> list[tuple[str, str]]:
    mine, theirs = proof.rows
    seconds = sum(proof.seconds.values())
    facts = [
        ("Source", proof.source),
        ("Target", proof.target),
        ("Level", proof.level),
        ("Rows", f"{mine:,} at the source, {theirs:,} at the target"),
        ("Compared", f"{proof.compared:,} rows" if proof.compared else "no single rows"),
        ("Finished", f"{timestamps.readable(proof.finished)}, after {seconds:,.1f} s"),
    ]
    return [(name, _cut(text)) for name, text in facts]


def _findings(proof: Proof, *, values: bool) -> Table:
    headings = ["kind", "namespace", "id", "column", "detail"]
    headings += ["at the source", "at the target"] if values else []
    rows = []
    for each in proof.findings[:_MOST]:
        cells = [each.kind, proof.shown_namespace(each), each.id, each.column, each.detail]
        rows.append([*cells, each.source, each.target] if values else cells)
    shown = [name for place, name in enumerate(headings) if any(row[place] not in (None, "") for row in rows)]
    rows = [[cell for name, cell in zip(headings, row, strict=True) if name in shown] for row in rows]
    return _table(shown, rows, kind="kind", more=_more(proof.findings, ""))


def _counts(proof: Proof) -> Table:
    rows = [
        [each.namespace or "(default)", _from(each.sources, each.namespace), each.source, each.target]
        for each in proof.namespaces[:_MOST]
    ]
    headings = ["namespace", "from", "source", "target"]
    if not any(row[1] for row in rows):  # none was renamed
        headings, rows = [headings[0], *headings[2:]], [[row[0], *row[2:]] for row in rows]
    return _table(headings, rows, more=_more(proof.namespaces, " namespaces"))


def _from(sources: Sequence[str], target: str) -> str:
    return "" if tuple(sources) == (target,) else ", ".join(each or "(default)" for each in sources)


def _searches(proof: Proof, *, values: bool) -> dict[str, Any]:
    groups: dict[str, list[Recall]] = {}
    for each in proof.recall:
        groups.setdefault(each.vector, []).append(each)
    rows = [_recall_row(each, values=values) for each in proof.recall[:_MOST]]
    headings = ["vector", "namespace", "searches", "queries"]
    headings += ["source", "target", "at least", "wanted", "same ranks"]
    for place in (1, 0):
        if len({row[place] for row in rows}) == 1:  # a column that says the same everywhere
            headings, rows = _without(headings, place), [_without(row, place) for row in rows]
    return {
        "recall": [(_cut(vector), recall_plot(members[:_BARS])) for vector, members in groups.items()],
        "scores": [(_cut(each.vector), score_plot(each)) for each in proof.scores if each.source],
        "table": _table(headings, rows),
    }


def _without(cells: Sequence[Any], place: int) -> list[Any]:
    return [*cells[:place], *cells[place + 1 :]]


def _recall_row(recall: Recall, *, values: bool) -> list[Any]:
    what = share_name(recall)
    if recall.filter is not None and values:
        what = f"{share_name(recall)}: {_condition(recall.filter)}"
    return [
        recall.vector, "(all)" if recall.namespace is None else recall.namespace or "(default)", what,
        recall.queries, _number(recall.source), _number(recall.target), _number(recall.low),
        _number(recall.required), _number(recall.agreement),
    ]  # fmt: skip


def _condition(filter: Any) -> str:
    value = filter["value"]
    return f"{filter['field']} {filter['op']} {value!r}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plan_notes(proof: Proof) -> list[str]:
    plan, notes = proof.plan, []
    if proof.derived:
        notes.append("None was given: the target should be what the source is.")
    if plan.filter is not None:
        notes.append("Only rows that match its filter are copied.")
    if plan.id_template is not None:
        notes.append(f"Ids are built as {plan.id_template}.")
    if plan.only is not None:
        notes.append(f"Only the namespace {plan.only or '(default)'} is copied.")
    if plan.into is not None:
        notes.append(f"All rows go to the namespace {plan.into or '(default)'}.")
    if plan.dropped:
        notes.append(f"Left out: {', '.join(plan.dropped)}.")
    return [_cut(each) for each in notes]


def _plan_table(plan: Plan) -> Table:
    vectors = [
        [
            each.name,
            plan.source_spec.vector_field(column).name,
            f"{each.dim} dimensions, {each.metric}",
            describe(each.index),
        ]
        for each, column in zip(plan.spec.vectors, [each.source for each in plan.columns], strict=False)
    ]
    sources = {each.name: each.source for each in plan.columns}
    fields = [[each.name, sources[each.name], each.type, ""] for each in public(plan.spec).fields]
    return _table(["column", "at the source", "type", "index"], [*vectors, *fields][:_MOST])


def _losses(plan: Plan) -> Table:
    rows = [
        [each.kind, each.subject, each.detail, "certain" if each.certain else "possible",
         "" if each.rows is None else each.rows]
        for each in plan.losses[:_MOST]
    ]  # fmt: skip
    return _table(["kind", "subject", "detail", "", "rows"], rows)


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], *, kind: str = "", more: str = ""
) -> Table:
    columns = []
    for place, name in enumerate(headings):
        cells = [row[place] for row in rows]
        right = all(map(_is_number, cells)) and any(cell not in (None, "") for cell in cells)
        style = "number" if right else "kind" if name == kind else "detail" if name == "detail" else ""
        columns.append(Heading(name, style, right))
    shown = [
        [(column, _cell(column, value)) for column, value in zip(columns, row, strict=True)] for row in rows
    ]
    return Table(columns, shown, more)


def _cell(column: Heading, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if column.right and isinstance(value, int) else _cut(str(value))


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value == "–" or value.replace(".", "", 1).isdigit()
    return value is None or isinstance(value, int)


def _more(shown: Sequence[Any], what: str) -> str:
    more = len(shown) - _MOST
    return f"and {more:,} more{what}" if more > 0 else ""


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in pairs)


def _cut(text: str) -> str:
    """Text of a bounded length, in which what cannot be seen is spelled out."""
    return texts.cut(texts.safe(text), _LONGEST)
