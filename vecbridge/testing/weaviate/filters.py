"""Filters: checked against the schema when they arrive, then asked about one row at a time.

A text is compared by its tokens, as the inverted index has them: the whole text without white space at its
ends (``field``), or its words. An empty text is a token and counts as null all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from operator import ge, gt, le, lt
from typing import Any, Final

from vecbridge.stores.weaviate.stubs import base_pb2
from vecbridge.testing.weaviate import schema
from vecbridge.testing.weaviate.errors import NoSuchIndex, NotEmulated, Refused, Unsearchable
from vecbridge.testing.weaviate.objects import Row, is_null
from vecbridge.testing.weaviate.values import nanoseconds

Match = Callable[[Row], bool]

_F: Final = base_pb2.Filters
_ORDER: Final[dict[int, Callable[[Any, Any], bool]]] = {
    _F.OPERATOR_LESS_THAN: lt,
    _F.OPERATOR_LESS_THAN_EQUAL: le,
    _F.OPERATOR_GREATER_THAN: gt,
    _F.OPERATOR_GREATER_THAN_EQUAL: ge,
}
_CONTAINS: Final = (_F.OPERATOR_CONTAINS_ANY, _F.OPERATOR_CONTAINS_ALL, _F.OPERATOR_CONTAINS_NONE)
_GO_TYPES: Final = {
    "value_text": "string",
    "value_int": "int",
    "value_number": "float64",
    "value_boolean": "bool",
    "value_text_array": "[]string",
    "value_int_array": "[]int",
    "value_number_array": "[]float64",
    "value_boolean_array": "[]bool",
}
_WANTED: Final = {"text": "string", "int": "int", "number": "float64", "boolean": "bool", "date": "string"}
_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_DEEPER: Final = "resolve doc ids for prop/value pair: "
_NO_TERM: Final = (
    "invalid search term, only stopwords provided. "
    "Stopwords can be configured in class.invertedIndexConfig.stopwords"
)


def of_request(request: Any, described: Mapping[str, Any]) -> Match | None:
    """What tells whether a row matches; None where every row does.

    Args:
        request: What may have a filter.
        described: The class.

    Raises:
        Refused: The filter does not agree with the schema.
        Unsearchable: The index has no answer to it.
    """
    return _compiled(request.filters, described) if request.HasField("filters") else None


def matching(rows: Iterable[Row], match: Match | None) -> list[Row]:
    """Those of some rows that match."""
    return [each for each in rows if match is None or match(each)]


def _compiled(message: Any, described: Mapping[str, Any]) -> Match:
    operator = message.operator
    if operator in (_F.OPERATOR_AND, _F.OPERATOR_OR, _F.OPERATOR_NOT):
        return _joined(operator, [_compiled(each, described) for each in message.filters])
    name = message.target.property or next(iter(message.on), "")
    if not name:
        raise Refused(
            "paths needs to have a uneven number of components: property, class, property, ...., got []"
        )
    if operator == _F.OPERATOR_UNSPECIFIED:
        raise Refused("unknown filter operator OPERATOR_UNSPECIFIED")
    kind = message.WhichOneof("test_value")
    if name == "_id":
        return _id_leaf(operator, kind, message)
    return _leaf(operator, _property(name, described), kind, message, described)


def _joined(operator: int, parts: list[Match]) -> Match:
    word = _F.Operator.Name(operator).removeprefix("OPERATOR_").capitalize()
    if not parts:
        raise Unsearchable(f'{_DEEPER}no children for operator "{word}"')
    if operator == _F.OPERATOR_AND:
        return lambda row: all(part(row) for part in parts)
    if operator == _F.OPERATOR_OR:
        return lambda row: any(part(row) for part in parts)
    if len(parts) > 1:
        raise Unsearchable(f'{_DEEPER}too many children for operator "Not". Expected 1, given {len(parts)}')
    return lambda row: not parts[0](row)


def _property(name: str, described: Mapping[str, Any]) -> Mapping[str, Any]:
    known = schema.properties(described)
    if name not in known:
        raise Refused(
            f"no such prop with name '{name}' found in class '{described['class']}' in the schema. Check "
            "your schema files for which properties in this class are available"
        )
    return known[name]


def _leaf(
    operator: int, about: Mapping[str, Any], kind: str | None, message: Any, described: Mapping[str, Any]
) -> Match:
    name = about["name"]
    type = about["dataType"][0].removesuffix("[]")
    if kind is None:
        raise Refused("unknown value type <nil>")
    if operator == _F.OPERATOR_IS_NULL:
        return _null(about, kind, message, described)
    if type not in _WANTED:
        raise NotEmulated(f"a filter on {name!r}, which is {type}")
    if operator in _CONTAINS:
        values = _listed(type, kind, message)
        wanted = [_tokens(about, each) for each in values]
    else:
        wanted = [_tokens(about, _single(type, kind, message))]
    if not about["indexFilterable"] and not about["indexRangeFilters"]:
        raise NoSuchIndex(
            f"Filtering by property '{name}' requires inverted index. Is `indexFilterable` option of "
            f"property '{name}' enabled? Set it to `true` or leave empty"
        )

    def stored(row: Row) -> set[Any]:
        return _stored(about, row.properties.get(name))

    test = _test(operator, wanted)
    if operator == _F.OPERATOR_NOT_EQUAL and not about["indexFilterable"]:
        return lambda row: bool(found := stored(row)) and test(found)  # the index of ranges has no nulls
    return lambda row: test(stored(row))


def _id_leaf(operator: int, kind: str | None, message: Any) -> Match:
    if kind is None:
        raise Refused("unknown value type <nil>")
    if operator == _F.OPERATOR_IS_NULL and kind == "value_boolean":
        raise Unsearchable("expected value to be string, got 'bool'")
    values = _listed("text", kind, message) if operator in _CONTAINS else [_single("text", kind, message)]
    if operator == _F.OPERATOR_CONTAINS_ANY:
        among = set(values)
        return lambda row: row.uuid in among
    test = _test(operator, [{each} for each in values])
    return lambda row: test({row.uuid})


def _test(operator: int, wanted: list[set[Any]]) -> Callable[[set[Any]], bool]:
    """What tells whether the tokens of a row fit; each value that is compared is a set of tokens."""
    match operator:
        case _F.OPERATOR_EQUAL | _F.OPERATOR_CONTAINS_ALL:
            return lambda found: all(each <= found for each in wanted)
        case _F.OPERATOR_NOT_EQUAL:
            return lambda found: not wanted[0] <= found
        case _F.OPERATOR_CONTAINS_ANY:
            return lambda found: any(each <= found for each in wanted)
        case _F.OPERATOR_CONTAINS_NONE:
            return lambda found: not any(each <= found for each in wanted)
        case _ if operator in _ORDER:
            order = _ORDER[operator]
            return lambda found: all(any(order(each, bound) for each in found) for bound in wanted[0])
    raise NotEmulated(_F.Operator.Name(operator))


def _null(about: Mapping[str, Any], kind: str, message: Any, described: Mapping[str, Any]) -> Match:
    name = about["name"]
    if kind != "value_boolean":
        raise Unsearchable(f"expected value to be bool, got {_GO_TYPES[kind]}")
    if not described["invertedIndexConfig"].get("indexNullState"):
        raise Unsearchable(
            f"{_DEEPER}Nullstate must be indexed to be filterable! "
            "Add `indexNullState: true` to the invertedIndexConfig"
        )
    if not any(about[each] for each in ("indexFilterable", "indexRangeFilters", "indexSearchable")):
        raise Unsearchable(f"{_DEEPER}bucket for prop {name}_nullState not found - is it indexed?")
    wanted = message.value_boolean
    if wanted:
        return lambda row: name in row.nulls
    if name.startswith("_"):  # taken for a property of the server's own: its index knows no row with a value
        return lambda row: False
    return lambda row: not is_null(row.properties.get(name))


def _single(type: str, kind: str, message: Any) -> Any:
    """The value of a comparison."""
    value = getattr(message, kind)
    if type == "text":
        if kind != "value_text":
            raise Unsearchable(f"expected value to be string, got '{_GO_TYPES[kind]}'")
        return value
    if type == "date":
        if kind != "value_text":
            raise Unsearchable(f"expected value to be time.Time (or parseable string), got {_GO_TYPES[kind]}")
        return value
    if type == "boolean":
        if kind != "value_boolean":
            raise Unsearchable(f"expected value to be bool, got {_GO_TYPES[kind]}")
        return value
    if kind == "value_text":
        value = _parsed(value, type)
    elif kind not in ("value_int", "value_number"):
        raise Unsearchable(f"expected value to be {_WANTED[type]}, got {_GO_TYPES[kind]}")
    if type == "int" and not float(value).is_integer():
        raise Refused(f"filtering for integer, but received a floating point number {value}")
    return float(value)


def _parsed(text: str, type: str) -> float:
    try:
        return float(text)
    except ValueError:
        wanted, go = {"int": ("an integer", "int"), "number": ("a number", "float")}[type]
        raise Refused(
            f"expected {wanted} value, but could not parse string '{text}' as {go}: "
            f'strconv.ParseFloat: parsing "{text}": invalid syntax'
        ) from None


def _listed(type: str, kind: str, message: Any) -> list[Any]:
    """The values of an operator that takes several."""
    numbers = type in ("int", "number") and kind in ("value_int_array", "value_number_array")
    if not numbers and _GO_TYPES[kind] != f"[]{_WANTED[type]}":
        parsed = kind == "value_text" and type in ("int", "number")
        found = _WANTED[type] if parsed else _GO_TYPES[kind]
        raise Unsearchable(f"value type should be []{_WANTED[type]} but is {found}")
    values = list(getattr(message, kind).values)
    if values:
        return values
    match message.operator:
        case _F.OPERATOR_CONTAINS_ANY:
            raise Unsearchable(_NO_TERM)
        case _F.OPERATOR_CONTAINS_ALL:
            raise Unsearchable(f'{_DEEPER}no children for operator "And"')
    raise Unsearchable(f'{_DEEPER}nested NOT query: no children for operator "Or"')


def _stored(about: Mapping[str, Any], value: Any) -> set[Any]:
    """The tokens that the index has of a row."""
    if value is None:
        return set()
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    if about["dataType"][0].startswith("date"):
        return {nanoseconds(each) for each in values}
    if not about["dataType"][0].startswith("text"):
        return set(values)
    return {token for each in values for token in _words(about["tokenization"], each)}


def _tokens(about: Mapping[str, Any], value: Any) -> set[Any]:
    """The tokens of a value that is compared."""
    if about["dataType"][0].startswith("date"):
        return {nanoseconds(value)}
    if not about["dataType"][0].startswith("text"):
        return {value}
    if tokens := set(_words(about["tokenization"], value)):
        return tokens
    raise Unsearchable(_NO_TERM)


def _words(tokenization: str, text: str) -> list[str]:
    match tokenization:
        case "field":
            return [text.strip(_SPACE)]
        case "word":
            return re.findall(r"[^\W_]+", text.lower())
        case "lowercase":
            return text.lower().split()
        case "whitespace":
            return text.split()
    raise NotEmulated(f"tokenization {tokenization!r}")
