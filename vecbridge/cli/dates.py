"""Bare dates in the filters of ``--where`` and ``--filter``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.filters import And, Cmp, Filter, In, Not, Or, Scalar, normalize
from vecbridge.schema import CollectionSpec

if TYPE_CHECKING:
    from vecbridge.store import Collection


def fitting(filter: Filter, spec: CollectionSpec) -> Filter:
    """The filter of a command with its bare dates read, checked against the collection.

    Raises:
        ConfigError: It does not fit, as where a field is not there: on the command line, that is bad usage.
    """
    dated = with_dates(filter, spec)
    try:
        normalize(dated, spec)
    except SchemaError as exc:
        raise ConfigError(f"the condition does not fit: {exc}") from None
    return dated


def resolved(filter: Filter | None, collection: Collection) -> Filter | None:
    """The filter as :func:`fitting` reads it, if the store can answer it; checked before a model is loaded.

    Raises:
        ConfigError: It does not fit the collection.
        UnsupportedError: The store has no such condition.
    """
    if filter is None:
        return None
    fitted = fitting(filter, collection.spec)
    collection.capabilities.resolve_filter(fitted, collection.spec)
    return fitted


def with_dates(filter: Filter, spec: CollectionSpec) -> Filter:
    """The filter with midnight in UTC for a bare date (``'2024-05-17'``) where a field is a timestamp.

    Other texts stay: :func:`vecbridge.filters.normalize` reads those with an offset, and refuses the others.

    Args:
        filter: Any filter.
        spec: The collection's spec.
    """
    times = {field.name for field in spec.fields if field.type == "timestamp"}

    def replaced(node: Filter) -> Filter:
        match node:
            case Cmp(name, op, value) if name in times:
                return Cmp(name, op, _midnight(value))
            case In(name, values) if name in times:
                return In(name, tuple(map(_midnight, values)))
            case And(items) | Or(items):
                return type(node)(tuple(map(replaced, items)))
            case Not(item):
                return Not(replaced(item))
        return node

    return replaced(filter)


def _midnight(value: Scalar) -> Scalar:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return value
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError:  # such as the 31st of February
        return value
