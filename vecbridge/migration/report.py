"""A proof as one HTML page, with everything inside: no script, no file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from vecbridge import timestamps
from vecbridge.indexes import describe
from vecbridge.migration.plans import Plan
from vecbridge.migration.plots import recall_plot, score_plot, share_name

if TYPE_CHECKING:  # a proof makes its own page
    from vecbridge.migration.proof import Proof, Recall

_MOST: Final = 200  # lines of a table; what comes after is counted, and not shown
_BARS: Final = 12  # groups of searches in a plot
_LONGEST: Final = 300  # characters of a cell

_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #f5f6f8; --card: #fff; --ink: #1c2026; --grey: #5c6470;
  --line: #dfe3e8; --source: #8a94a3; --target: #2463aa; --good: #1a7f4b; --bad: #b3261e; --soft: #eef1f5; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1e2228; --ink: #e8eaed;
  --grey: #9aa3ae; --line: #313740; --source: #7b8594; --target: #82b4f0; --good: #63c793; --bad: #f2918a;
  --soft: #272c34; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 24px; line-height: 1.3; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 32px 0 10px; }
h3 { font-size: 14px; margin: 0 0 10px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 6px 0; }
.held { color: var(--good); } .failed { color: var(--bad); }
.grey, figcaption { color: var(--grey); font-size: 13px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 14px 0 0; }
.facts dt { color: var(--grey); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--grey); font-weight: 600; font-size: 13px; white-space: nowrap; }
th, td { padding: 7px 12px; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; }
td { overflow-wrap: break-word; max-width: 340px; } td.kind { font-weight: 600; color: var(--bad); }
td.detail { min-width: 240px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: 13px/1.5 ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
  margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
ul { margin: 6px 0; padding-left: 20px; } li { overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 16px;
  margin-bottom: 16px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
figcaption { margin-top: 8px; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11.5px; fill: var(--ink); } svg .axis { stroke: var(--grey); stroke-width: 1; }
svg .source { fill: var(--source); } svg .target { fill: var(--target); }
svg .wanted { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 3 2; }
svg circle { fill: var(--target); fill-opacity: .55; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 10px; }
@media (max-width: 640px) { main { padding: 18px 12px 32px; } .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: 6px; }
  .stack td { max-width: none; min-width: 0; overflow-wrap: anywhere; }
  .stack thead { display: none; } .stack tr { display: block; border-top: 1px solid var(--line);
  padding: 8px 0; } .stack tr:first-child { border-top: 0; } .stack td { display: flex; gap: 10px;
  border: 0; padding: 2px 12px; text-align: left; } .stack td.number { text-align: left; }
  .stack td:empty { display: none; } .stack td::before { content: attr(data-name); color: var(--grey);
  font-weight: 400; font-size: 13px; flex: 0 0 96px; } }
""".strip()


def page(proof: Proof, *, values: bool = True) -> str:
    """The page as text, below 1 MB.

    Args:
        proof: What it shows; every text of it is escaped.
        values: Whether to show values of rows that differ, and those of filters.
    """
    held = "held" if proof.passed else "failed"
    verdict = "The copy holds" if proof.passed else "The copy does not hold"
    sections = [
        _section("Findings", _findings(proof, values=values)),
        _section("Rows", _counts(proof)),
        _section("Searches", _searches(proof, values=values)),
        _section("Plan", _plan(proof.plan, derived=proof.derived)),
        _section("Losses", _losses(proof.plan)),
        _section("Notes", _list(proof.notes)),
        _section("Commands", f"<pre>{escape(chr(10).join(proof.commands))}</pre>"),
        _section("Versions", f'<p class="grey">{escape(_joined(proof.versions.items()))}</p>'),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_cut(f'{verdict}: {proof.target}'))}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f'<body>\n<main>\n<h1 class="{held}">{verdict}</h1>\n{_facts(proof)}\n'
        f"{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>\n" if content else ""


def _facts(proof: Proof) -> str:
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
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_cut(text))}</dd>" for name, text in facts)
    return f'<dl class="facts">{lines}</dl>'


def _findings(proof: Proof, *, values: bool) -> str:
    findings = proof.findings
    if not findings:
        return '<p class="grey">None: everything that this level compares is the same.</p>'
    headings = ["kind", "namespace", "id", "column", "detail"]
    headings += ["at the source", "at the target"] if values else []
    rows = []
    for each in findings[:_MOST]:
        cells = [each.kind, proof.shown_namespace(each), each.id, each.column, each.detail]
        rows.append([*cells, each.source, each.target] if values else cells)
    shown = [name for place, name in enumerate(headings) if any(row[place] not in (None, "") for row in rows)]
    rows = [[cell for name, cell in zip(headings, row, strict=True) if name in shown] for row in rows]
    more = len(findings) - _MOST
    rest = f'<p class="grey">and {more:,} more</p>' if more > 0 else ""
    return _table(shown, rows, kind="kind") + rest


def _counts(proof: Proof) -> str:
    rows = [
        [each.namespace or "(default)", _from(each.sources, each.namespace), each.source, each.target]
        for each in proof.namespaces[:_MOST]
    ]
    more = len(proof.namespaces) - _MOST
    rest = f'<p class="grey">and {more:,} more namespaces</p>' if more > 0 else ""
    renamed = any(row[1] for row in rows)
    headings = ["namespace", "from", "source", "target"]
    if not renamed:
        headings, rows = [headings[0], *headings[2:]], [[row[0], *row[2:]] for row in rows]
    return _table(headings, rows) + rest


def _from(sources: Sequence[str], target: str) -> str:
    return "" if tuple(sources) == (target,) else ", ".join(each or "(default)" for each in sources)


def _searches(proof: Proof, *, values: bool) -> str:
    if not proof.recall:
        return ""
    figures = []
    groups: dict[str, list[Recall]] = {}
    for each in proof.recall:
        groups.setdefault(each.vector, []).append(each)
    for vector, members in groups.items():
        figures.append(
            f"<figure><h3>recall@10, {escape(_cut(vector))}</h3>{recall_plot(members[:_BARS])}"
            '<figcaption><span class="key" style="background:var(--source);margin-left:0"></span>source'
            '<span class="key" style="background:var(--target)"></span>target'
            '<span class="key" style="background:var(--bad)"></span>wanted</figcaption></figure>'
        )
    figures += [
        f"<figure><h3>scores of the same hits, {escape(_cut(scores.vector))}</h3>{score_plot(scores)}"
        "<figcaption>On the dashed line they are the same.</figcaption></figure>"
        for scores in proof.scores
        if scores.source
    ]
    rows = [_recall_row(each, values=values) for each in proof.recall[:_MOST]]
    headings = ["vector", "namespace", "searches", "queries"]
    headings += ["source", "target", "at least", "wanted", "same ranks"]
    for place in (1, 0):
        if len({row[place] for row in rows}) == 1:  # a column that says the same everywhere
            headings, rows = _without(headings, place), [_without(row, place) for row in rows]
    return f'<div class="plots">{"".join(figures)}</div>{_table(headings, rows)}'


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


def _plan(plan: Plan, *, derived: bool) -> str:
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
    fields = [[each.name, sources[each.name], each.type, ""] for each in plan.spec.fields]
    notes = []
    if derived:
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
    table = _table(["column", "at the source", "type", "index"], [*vectors, *fields][:_MOST])
    return "".join(f'<p class="grey">{escape(_cut(each))}</p>' for each in notes) + table


def _losses(plan: Plan) -> str:
    rows = [
        [each.kind, each.subject, each.detail, "certain" if each.certain else "possible",
         "" if each.rows is None else each.rows]
        for each in plan.losses[:_MOST]
    ]  # fmt: skip
    return _table(["kind", "subject", "detail", "", "rows"], rows) if rows else ""


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, kind: str = "") -> str:
    """A table; on a narrow screen each row is a block of named values."""
    rows = list(rows)
    right = {
        place
        for place in range(len(headings))
        if all(_is_number(row[place]) for row in rows) and any(row[place] not in (None, "") for row in rows)
    }

    def cell(place: int, value: Any) -> str:
        text = (
            "" if value is None else f"{value:,}" if place in right and isinstance(value, int) else str(value)
        )
        name = "number" if place in right else "kind" if headings[place] == kind else ""
        name = "detail" if headings[place] == "detail" else name
        named = f' class="{name}"' if name else ""
        return f'<td{named} data-name="{escape(headings[place])}">{escape(_cut(text))}</td>'

    head = "".join(
        f'<th class="number">{escape(each)}</th>' if place in right else f"<th>{escape(each)}</th>"
        for place, each in enumerate(headings)
    )
    body = "".join(
        f"<tr>{''.join(cell(place, value) for place, value in enumerate(row))}</tr>\n" for row in rows
    )
    return (
        f'<div class="wide"><table class="stack"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value == "–" or value.replace(".", "", 1).isdigit()
    return value is None or isinstance(value, int)


def _list(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(_cut(each))}</li>" for each in texts[:_MOST])
    return f"<ul>{items}</ul>" if items else ""


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in pairs)


def _cut(text: str) -> str:
    """Text without characters that are not seen or turn others around, and of a bounded length."""
    text = _UNSEEN.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
