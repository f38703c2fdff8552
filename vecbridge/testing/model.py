"""A collection as a plain Python model, against which the conformance suite compares the stores.

The model is an oracle only as far as it shares no code with what it judges. It takes the spec and the nodes
of filters as data, and nothing else: no Arrow, no :func:`vecbridge.filters.normalize` or ``matches``, no
:mod:`vecbridge.records`. Filters are evaluated as the user wrote them, so that a mistake in bringing them to
normal form shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

import numpy as np

from vecbridge.filters import And, Cmp, Contains, Filter, In, IsEmpty, IsNull, Not, Or
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, FieldType, Metric

Record = dict[str, Any]

_EQUALITY: Final = {"==", "!=", "in", "is_null"}
_ORDER: Final = {"<", "<=", ">", ">="}
_LIST: Final = {"contains", "is_empty", "is_null"}
_ALLOWED: Final[dict[FieldType, set[str]]] = {
    "bool": _EQUALITY,
    "int64": _EQUALITY | _ORDER,
    "float64": _EQUALITY | _ORDER,
    "string": _EQUALITY | _ORDER,
    "timestamp": _EQUALITY | _ORDER,
    "list<string>": _LIST,
    "list<int64>": _LIST,
    "list<float64>": _LIST,
    "json": {"is_null"},
}


class Model:
    """One namespace of a collection: a dict of records by id.

    Scalars are kept as a store must give them back, vectors as float32 arrays.

    Args:
        spec: What the records look like.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self.spec = spec
        self.records: dict[str | int, Record] = {}

    def upsert(self, columns: Mapping[str, Any]) -> None:
        """Replaces whole records.

        Args:
            columns: As for :func:`vecbridge.batch`, with nothing wrong in them: scalars as Python values,
                JSON as text. A scalar column left out is null.
        """
        for row, key in enumerate(columns["id"]):
            record: Record = {"id": key}
            for vector in self.spec.vectors:
                record[vector.name] = np.array(columns[vector.name][row], np.float32)
            for column in self.spec.fields:
                value = columns[column.name][row] if column.name in columns else None
                record[column.name] = None if value is None else _stored(column.type, value)
            self.records[key] = record

    def delete(self, ids: Iterable[str | int]) -> int:
        """Removes records by id; returns how many there were."""
        return sum(self.records.pop(key, None) is not None for key in ids)

    def delete_where(self, condition: Filter) -> int:
        """Removes the records that match; returns how many there were."""
        return self.delete(self.find(condition))

    def find(self, condition: Filter | None = None) -> set[str | int]:
        """The ids of the records that match; all of them without a filter."""
        return {key for key, record in self.records.items() if condition is None or holds(condition, record)}

    def count(self, condition: Filter | None = None) -> int:
        """How many records match."""
        return len(self.find(condition))

    def fetch(self, ids: Iterable[str | int]) -> list[Record]:
        """Records in the order asked for: the missing left out, repeats collapsed."""
        return [self.records[key] for key in dict.fromkeys(ids) if key in self.records]

    def search(
        self, vector: FloatArray, k: int, condition: Filter | None = None, *, using: str = "vector"
    ) -> list[tuple[str | int, float]]:
        """The best records that match: (id, score), best first, by comparing with every one.

        Args:
            vector: float32, shape (dim,).
            k: Records, at most.
            condition: What they must match, or None.
            using: The vector field.
        """
        matches = self.fetch(self.find(condition))
        if not matches:
            return []
        metric = self.spec.vector_field(using).metric
        scores = exact_scores(np.stack([record[using] for record in matches]), vector, metric).tolist()
        pairs = zip((record["id"] for record in matches), scores, strict=True)
        return sorted(pairs, key=lambda pair: pair[1], reverse=metric is not Metric.L2)[:k]


def holds(condition: Filter, record: Mapping[str, Any]) -> bool:
    """Whether a filter, normalized or not, matches a record.

    A null or missing value matches only IsNull, also under Not: ``Not(year == 1)`` means "has a year, and it
    is not 1". So a node can hold, or its negation can, or neither, and Not swaps the first two.

    Args:
        condition: A filter that :func:`fits` the collection.
        record: Values by field name; a missing key is null.
    """
    return _holds(condition, record, negated=False)


def fits(condition: Any, spec: CollectionSpec) -> bool:
    """Whether a filter suits a collection: its fields, their operators, the types of its literals."""
    match condition:
        case And(items) | Or(items):
            return all(fits(item, spec) for item in items)
        case Not(item):
            return fits(item, spec)
        case IsNull(name):
            return _has(spec, name, "is_null")
        case In(name, values):
            return _has(spec, name, "in") and all(_is_literal(spec, name, value) for value in values)
        case IsEmpty(name):
            return _has(spec, name, "is_empty")
        case Contains(name, value):
            return _has(spec, name, "contains") and _is_literal(spec, name, value)
        case Cmp(name, op, value):
            return op in _COMPARISONS and _has(spec, name, op) and _is_literal(spec, name, value)
    return False


def exact_scores(stored: FloatArray, query: FloatArray, metric: Metric) -> np.ndarray[Any, Any]:
    """Scores of one query in float64, shape (len(stored),)."""
    matrix, wanted = stored.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(((matrix - wanted) ** 2).sum(axis=1))
    dots = matrix @ wanted
    if metric is Metric.DOT:
        return np.asarray(dots)
    return np.asarray(dots / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted)))


def exact_top(
    stored: FloatArray, query: FloatArray, metric: Metric, k: int, rows: Iterable[int]
) -> list[int]:
    """Numbers of the k best of the given rows, best first."""
    among = np.fromiter(rows, np.int64)
    scores = exact_scores(stored[among], query, metric)
    order = np.argsort(scores if metric is Metric.L2 else -scores, kind="stable")
    return [int(row) for row in among[order[:k]]]


def _holds(node: Filter, record: Mapping[str, Any], *, negated: bool) -> bool:
    """Whether a node holds or, if ``negated``, whether its negation does."""
    match node:
        case Not(item):
            return _holds(item, record, negated=not negated)
        case And(items):
            answers = [_holds(item, record, negated=negated) for item in items]
            return any(answers) if negated else all(answers)  # one that fails is enough to fail the whole
        case Or(items):
            answers = [_holds(item, record, negated=negated) for item in items]
            return all(answers) if negated else any(answers)
        case IsNull(name):
            return (record.get(name) is None) != negated
    value = record.get(node.name)
    return value is not None and _compares(node, value) != negated


def _compares(leaf: Cmp | In | Contains | IsEmpty, value: Any) -> bool:
    """A comparison with a value that is not null."""
    match leaf:
        case Cmp(_, op, literal):
            return _COMPARISONS[op](_order(value), _order(_beside(value, literal)))
        case In(_, literals):
            return any(_order(value) == _order(_beside(value, literal)) for literal in literals)
        case IsEmpty():
            return len(value) == 0
        case Contains(_, text):
            return any(_order(element) == _order(text) for element in value)


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda value, literal: value == literal,
    "!=": lambda value, literal: value != literal,
    "<": lambda value, literal: value < literal,
    "<=": lambda value, literal: value <= literal,
    ">": lambda value, literal: value > literal,
    ">=": lambda value, literal: value >= literal,
}


def _beside(value: Any, literal: Any) -> Any:
    """A literal as it is compared with a value: the text of a time is a time beside one."""
    text = isinstance(value, datetime) and isinstance(literal, str)
    return datetime.fromisoformat(literal) if text else literal


def _order(value: Any) -> tuple[str, Any]:
    """What a value is compared by: text by its code points, numbers exactly, a bool only with a bool."""
    if isinstance(value, datetime):
        return "time", value
    if isinstance(value, str):
        return "text", [ord(character) for character in value]
    if isinstance(value, bool):
        return "bool", value
    return "number", Fraction(value)


def _has(spec: CollectionSpec, name: str, op: str) -> bool:
    """Whether there is such a field, and its type has the operator."""
    types: dict[str, FieldType] = {"id": spec.id_type}
    types |= {column.name: column.type for column in spec.fields}
    return name in types and op in _ALLOWED[types[name]]


def _is_literal(spec: CollectionSpec, name: str, value: Any) -> bool:
    """Whether a literal suits the field's type; any number does for a number, if an int has 64 bits."""
    type = spec.id_type if name == "id" else spec.field(name).type
    match type:
        case "bool":
            return isinstance(value, bool)
        case "int64" | "list<int64>" if isinstance(value, int):
            return not isinstance(value, bool) and -(2**63) <= value < 2**63
        case "float64" | "list<float64>" if isinstance(value, int):
            return not isinstance(value, bool)
        case "int64" | "list<int64>" | "float64" | "list<float64>":
            return isinstance(value, float) and not math.isnan(value) and not math.isinf(value)
        case "string" | "list<string>":
            return _is_text(value)
        case "timestamp":
            return _is_time(value)
    return False


def _is_time(value: Any) -> bool:
    """Whether a value is a point in time, or the text of one."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return False
    return isinstance(moment, datetime) and moment.tzinfo is not None


def _is_text(value: Any) -> bool:
    """Whether a value is a string of code points, no half of a surrogate pair among them."""
    return isinstance(value, str) and not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def _stored(type: FieldType, value: Any) -> Any:
    """A value as a store must give it back."""
    match type:
        case "float64":
            return 0.0 if value == 0 else float(value)  # -0.0 is 0.0
        case "timestamp":
            return value.astimezone(UTC)
        case "list<float64>":
            return [0.0 if each == 0 else float(each) for each in value]
        case "list<string>" | "list<int64>":
            return list(value)
        case "json":
            return json.dumps(json.loads(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return value
