"""Values of properties, which keep their types: nothing is made of a bool, a number or a text but itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vecbridge.testing.weaviate import schema
from vecbridge.testing.weaviate.errors import NotEmulated, Refused

_EXACT: Final = 2.0**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATE: Final = re.compile(r"(.{10}T.{8})(?:\.(\d{1,9}))?(Z|[+-]..:..)")
_WORDS: Final = {"int": "integer"}


def parsed_uuid(text: str) -> str:
    """A UUID as it is kept.

    Raises:
        Refused: It is none.
    """
    if len(text) not in (32, 36, 38, 45):
        raise Refused(f"invalid UUID length: {len(text)}")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Refused("invalid UUID format") from None


def checked(described: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of an object as they are kept, without nulls.

    Args:
        described: The class.
        sent: Values as JSON has them.

    Raises:
        Refused: A value is of another type than its property.
    """
    known = schema.properties(described)
    kept = {}
    for key, value in sent.items():
        name = schema.uncapitalised(key)
        if value is not None:
            kept[name] = _value(described["class"], name, known[name]["dataType"][0], value)
    return kept


def nanoseconds(date: str) -> int:
    """A date as the index has it: nanoseconds since 1970, which wrap around after 2^63 of them.

    Raises:
        NotEmulated: Not a date of the years 1 to 9999.
    """
    if (parts := _DATE.fullmatch(date)) is None:
        raise NotEmulated(f"the date {date!r}")
    whole, fraction, zone = parts.groups("")
    try:
        since = datetime.fromisoformat(f"{whole}{zone}") - _EPOCH
    except ValueError:
        raise NotEmulated(f"the date {date!r}") from None
    total = since // timedelta(seconds=1) * 10**9 + int(fraction.ljust(9, "0"))
    return (total + 2**63) % 2**64 - 2**63


def _value(class_name: str, name: str, kind: str, value: Any) -> Any:
    single = kind.removesuffix("[]")
    where = f"{_WORDS.get(single, single)} property '{name}' on class '{class_name}'"
    if single == kind:
        return _single(single, value, f"invalid {where}")
    where = where.replace(" property", " array property", 1)
    if not isinstance(value, list):
        raise Refused(f"invalid {where}: not a {single} array, but {_go_type(value)}")
    return [_single(single, each, f"invalid {where}") for each in value]


def _single(kind: str, value: Any, where: str) -> Any:
    match kind, value:
        case ("boolean", bool()) | ("text", str()):
            return value
        case "int", int() | float() if not isinstance(value, bool):
            if float(value).is_integer() and abs(value) < _EXACT:
                return int(float(value))  # it is a float64 inside
        case "number", int() | float() if not isinstance(value, bool):
            return float(value)
        case "date", str() if _is_date(value):
            return value
        case "uuid", str():
            return parsed_uuid(value)
        case (("boolean" | "text"), _):
            wanted = {"boolean": "bool", "text": "string"}[kind]
            raise Refused(f"{where}: not a {wanted}, but {_go_type(value)}")
    if wanted := {"int": "an integer", "number": "a float"}.get(kind, ""):
        raise Refused(f"{where}: requires {wanted}, the given value is '{_shown(value)}'")
    if kind == "date":
        wanted = "a string with a RFC3339 formatted date, but"
        raise Refused(f"{where}: requires {wanted} the given value is '{_shown(value)}'")
    raise NotEmulated(f"{where}: a value of type {kind}")


def _is_date(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")


def _go_type(value: Any) -> str:
    return {bool: "bool", int: "float64", float: "float64", str: "string"}.get(type(value), "[]interface {}")


def guessed_type(value: Any) -> str:
    """The type that a property gets which nobody declared."""
    if isinstance(value, list):
        return f"{guessed_type(value[0])}[]" if value else "text[]"
    return {bool: "boolean", int: "number", float: "number"}.get(type(value), "text")
