"""Lines of text files, streamed and bounded, and strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

MAX_JSON_LINE: Final = 16 * 2**20  # a vector of 65,536 dimensions takes 1.4 MB as text
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Attributes:
        number: Counted from 1.
        offset: Where it begins, in bytes.
        data: Its bytes without the line's end; None where it is longer than allowed.
    """

    number: int
    offset: int
    data: bytes | None


def read_lines(path: str | Path, *, max_bytes: int = MAX_JSON_LINE) -> Iterator[Line]:
    """Streams the lines of a file; blank ones and a byte order mark are left out.

    Args:
        path: The file.
        max_bytes: A longer line is passed over, not held.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        number, offset = 0, 0
        while data := file.readline(max_bytes + 1):
            number, start = number + 1, offset
            offset += len(data)
            too_long = len(data) > max_bytes and not data.endswith(b"\n")
            if too_long:
                offset += _pass_over(file, max_bytes)
                yield Line(number, start, None)
            else:
                text = data.removeprefix(_BOM) if number == 1 else data
                if text.strip():
                    yield Line(number, start, text.rstrip(b"\r\n"))


def read_line(path: str | Path, offset: int) -> bytes:
    """The line that begins at an offset which :func:`read_lines` told."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        return file.readline(MAX_JSON_LINE).removeprefix(_BOM)


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object from one line.

    Raises:
        ValueError: Not UTF-8, not JSON (NaN and Infinity are none), not an object, a key twice, a number
            beyond float64, half a surrogate pair.
    """
    try:
        text = data.decode()
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_without_repeats
        )
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def _pass_over(file: IO[bytes], max_bytes: int) -> int:
    """Reads to the end of the line; how many bytes that was."""
    passed = 0
    while data := file.readline(max_bytes):
        passed += len(data)
        if data.endswith(b"\n"):
            break
    return passed


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond float64")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key comes twice")
    return values
