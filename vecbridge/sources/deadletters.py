"""Dead letters: records that could not be read or written, and why; one line of JSON each."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from vecbridge import timestamps


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be read or written.

    Attributes:
        id: Its id, or the id that it would have had; None if there is none.
        source: Where it comes from, such as ``photos/a.jpg`` or ``rows.jsonl:17``.
        error: What is wrong with it, in a sentence.
        record: Its columns, if they could be read; ``vecbridge load`` reads them from here once mended. A
            json field that is left out is null, and one that is None is JSON null.
    """

    id: str | int | None
    source: str | None
    error: str
    record: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The dead letter as one line of JSON, without the line's end.

        NaN and Inf become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; a timestamp becomes
        ISO 8601 text, bytes ``{"$binary": base64}``; text that is not Unicode is escaped.

        Example:
            >>> DeadLetter("a", "a.jpg", "the file is empty").to_json()
            '{"id": "a", "source": "a.jpg", "error": "the file is empty", "record": null}'
        """
        values = {"id": self.id, "source": self.source, "error": self.error, "record": self.record}
        try:
            text = json.dumps(values, ensure_ascii=False, allow_nan=False, default=as_json)
        except ValueError:
            text = json.dumps(_without_nan(values), ensure_ascii=False, default=as_json)
        return text.encode("utf-8", "backslashreplace").decode()


OnDeadLetter = Callable[[DeadLetter], None]


def as_json(value: Any) -> Any:
    """A value that JSON does not have, as one that it has.

    Timestamps are text as :func:`vecbridge.timestamps.text` writes it, decimals text with every digit, bytes
    ``{"$binary": base64}``.

    Example:
        >>> as_json(b"abc"), as_json(Decimal("1E+2"))
        ({'$binary': 'YWJj'}, '100')
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$binary": base64.b64encode(value).decode()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        try:
            return timestamps.text(timestamps.utc(value))
        except ValueError:  # without a time zone, or finer than microseconds
            return str(value)
    return str(value)


def printable(path: str) -> str:
    r"""A path as text for a message; bytes that are not UTF-8 appear as ``\xff``."""
    try:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return path.encode("utf-8", "backslashreplace").decode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
