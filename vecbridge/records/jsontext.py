"""JSON columns hold canonical text, so that equal values are equal texts."""

from __future__ import annotations

import json
from typing import Any, Final


def canonical_json(text: str) -> str:
    """JSON text with sorted keys, no blanks, exact integers and no escapes that are not needed.

    Raises:
        ValueError: Not JSON, NaN or Infinity, a key twice, half a surrogate pair.
        RecursionError: Nested too deeply.

    Example:
        >>> canonical_json('{"b": 1, "a": [2.50, null]}')
        '{"a":[2.5,null],"b":1}'
    """
    if '": ' not in text:  # probably canonical; finding repeated keys would cost as much as decoding
        canonical = _encode(_decode_any(text))
        if canonical == text:  # so no key comes twice: what is encoded from a dict has none
            canonical.encode()
            return canonical
    canonical = _encode(_decode_strict(text))
    canonical.encode()
    return canonical


def encode_json(value: Any) -> str:
    """A Python value as JSON text, canonical where its keys are text.

    Raises:
        TypeError: A value that JSON does not have.
        ValueError: NaN, Infinity, or a value that contains itself.
        RecursionError: Nested too deeply.
    """
    try:
        return _encode(value)
    except TypeError:  # such as keys that cannot be sorted: 1 and "a"
        return _encode_unsorted(value)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key comes twice")
    return values


# json.loads() and json.dumps() build one of these at each call that has options
_decode_any: Final = json.JSONDecoder(parse_constant=_no_constant).decode
_decode_strict: Final = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_repeats).decode
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode
_encode_unsorted: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
