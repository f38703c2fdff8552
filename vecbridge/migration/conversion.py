"""Rows of the source as rows of the target: the one conversion that copy, verification and sync share.

A source with a schema gives the columns of the plan, which are selected and renamed without a copy. One
without a schema is described anew whenever it is opened, from a sample, so that a key may be a column today
and stand in the column of extra keys tomorrow. Its rows are taken apart into keys and values, and laid out
again by the spec that the plan has pinned.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import pyarrow as pa

from vecbridge import records, timestamps
from vecbridge.errors import ConfigError, SchemaError
from vecbridge.migration.plans import Plan
from vecbridge.schema import CollectionSpec, FieldType

_Row: TypeAlias = dict[str, Any]

_FITS: Final[Mapping[FieldType, Callable[[Any], bool]]] = {
    "bool": lambda value: isinstance(value, bool),
    "int64": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63,
    "float64": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "timestamp": lambda value: isinstance(value, datetime),
    "list<string>": lambda value: _is_list(value, "string"),
    "list<int64>": lambda value: _is_list(value, "int64"),
    "list<float64>": lambda value: _is_list(value, "float64"),
    "json": lambda value: True,
}


class Converter:
    """Makes rows of the target from rows of the source.

    Args:
        plan: What the rows become.
        opened: The spec of the source as it is open now.
        extra: Its json column of extra keys, if it has one.

    Attributes:
        include: The columns to scan at the source.

    Raises:
        SchemaError: The source has changed since the plan was made, so that the plan no longer fits.
    """

    def __init__(self, plan: Plan, opened: CollectionSpec, extra: str | None) -> None:
        self._plan = plan
        self._schema = records.arrow_schema(plan.spec)
        self._template = None if plan.id_template is None else parse_template(plan.id_template)
        self._relayout: _Relayout | None = None
        if plan.extra is not None and opened != plan.source_spec:
            self._relayout = _Relayout(opened, extra, plan.source_spec, plan.extra)
            _require_columns(plan, opened, [vector.name for vector in opened.vectors])
            self.include: tuple[str, ...] = opened.column_names[1:]
        else:
            wanted = [column.source for column in plan.columns]
            _require_columns(plan, opened, wanted)
            self.include = tuple(name for name in opened.column_names if name in set(wanted))

    def convert(self, batch: pa.RecordBatch, namespace: str) -> pa.RecordBatch:
        """Rows of the target, in the same order; they are not checked.

        Args:
            batch: Rows of the source, with the columns of ``include``.
            namespace: Their namespace at the source.
        """
        if self._relayout is not None:
            batch = self._relayout(batch)
        ids = batch.column("id")
        if self._template is not None:
            ids = pa.array([self._template(namespace, key) for key in ids.to_pylist()], pa.string())
        columns = [ids, *(batch.column(column.source) for column in self._plan.columns)]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def parse_template(template: str) -> Callable[[str, str | int], str]:
    """What builds an id of the target from namespace and id of the source.

    Raises:
        ConfigError: Something other than {namespace} and {id} in it, or no {id}.

    Example:
        >>> parse_template("{namespace}/{id}")("eu", 7)
        'eu/7'
    """
    if not isinstance(template, str):
        raise ConfigError(f"id template {template!r}: a text such as '{{namespace}}/{{id}}'")
    hint = f"id template {template!r}: text with {{id}}, and {{namespace}} if wanted"
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ConfigError(f"{hint}; {{{{ is a brace ({exc})") from None
    names = [name for _, name, _, _ in pieces if name is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in pieces)
    if "id" not in names or set(names) - {"id", "namespace"} or not plain:
        raise ConfigError(hint)

    def built(namespace: str, key: str | int) -> str:
        values = {"namespace": namespace, "id": str(key)}
        return "".join(text + (values[name] if name is not None else "") for text, name, _, _ in pieces)

    return built


def keeps_apart(template: str) -> bool:
    """Whether ids of different rows never become the same, whatever namespaces and ids there are.

    A namespace has letters, digits, ``_`` and ``-`` alone, so that any other character behind it ends it.

    Example:
        >>> keeps_apart("{namespace}/{id}"), keeps_apart("{namespace}-{id}"), keeps_apart("{id}")
        (True, False, False)
    """
    tokens = [
        (piece, is_field)
        for text, name, _, _ in string.Formatter().parse(template)
        for piece, is_field in ((text, False), (name, True))
        if piece
    ]
    first = next(place for place, (_, is_field) in enumerate(tokens) if is_field)
    if tokens[first][0] != "namespace":
        return False
    behind, is_field = tokens[first + 1]
    return not is_field and re.match(r"[A-Za-z0-9_-]", behind) is None


class _Relayout:
    """Lays rows of a source without a schema out by the plan's spec."""

    def __init__(
        self, opened: CollectionSpec, opened_extra: str | None, pinned: CollectionSpec, pinned_extra: str
    ) -> None:
        self._opened, self._opened_extra = opened, opened_extra
        self._pinned, self._pinned_extra = pinned, pinned_extra
        self._schema = records.arrow_schema(pinned)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = self._keys(batch)
        columns = [batch.column(name) for name in ("id", *(vector.name for vector in self._pinned.vectors))]
        taken: dict[str, list[Any]] = {}
        for field in self._pinned.fields:
            if field.name != self._pinned_extra:
                fits = _FITS[field.type]
                values = [row.pop(field.name, None) if fits(row.get(field.name)) else None for row in rows]
                taken[field.name] = [_stored(value, field.type) for value in values]
        taken[self._pinned_extra] = [_json_text(row) if row else None for row in rows]
        columns += [
            pa.array(taken[field.name], records.arrow_type(field.type)) for field in self._pinned.fields
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _keys(self, batch: pa.RecordBatch) -> list[_Row]:
        """Each row as keys and values; a key whose value is null is left out."""
        rows: list[_Row] = [{} for _ in range(batch.num_rows)]
        for field in self._opened.fields:
            values = batch.column(field.name).to_pylist()
            for row, value in zip(rows, values, strict=True):
                if value is not None and field.name == self._opened_extra:
                    row.update(json.loads(value))
                elif value is not None:
                    row[field.name] = json.loads(value) if field.type == "json" else value
        return rows


def _is_list(value: Any, element: FieldType) -> bool:
    return isinstance(value, list) and all(map(_FITS[element], value))


def _stored(value: Any, type: FieldType) -> Any:
    """A value as its column holds it."""
    return records.canonical_json(json.dumps(value)) if type == "json" and value is not None else value


def _json_text(row: Mapping[str, Any]) -> str:
    values = {
        key: timestamps.text(value) if isinstance(value, datetime) else value for key, value in row.items()
    }
    return records.canonical_json(json.dumps(values))


def _require_columns(plan: Plan, opened: CollectionSpec, names: Sequence[str]) -> None:
    """Refuses a source that no longer has what the plan takes from it."""
    if opened.id_type != plan.source_spec.id_type:
        raise SchemaError(f"{plan.source}: its ids were {plan.source_spec.id_type} when the plan was made")
    pinned, present = _types(plan.source_spec), _types(opened)
    for name in names:
        before, now = pinned.get(name, "missing"), present.get(name, "missing")
        if before != now:
            raise SchemaError(
                f"{plan.source}: {name!r} is {now} and was {before} when the plan was made: make a new plan"
            )


def _types(spec: CollectionSpec) -> dict[str, str]:
    """What each column is, by name."""
    vectors = {each.name: f"a vector of {each.dim} ({each.metric})" for each in spec.vectors}
    return vectors | {each.name: each.type for each in spec.fields}
