"""Lines of text files, streamed and bounded, and strict JSON."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

MAX_JSON_LINE: Final = 16 * 2**20  # a vector of 65,536 dimensions takes 1.4 MB as text
MARKS: Final[dict[bytes, str]] = {  # what stands first in a file in an encoding that says so
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")  # letters and marks that show nothing


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
    """Streams the lines of a file in UTF-8 or, if its byte order mark says so, UTF-16.

    Blank lines and the mark are left out. What :func:`is_blank` takes for blank is.

    Args:
        path: The file.
        max_bytes: A longer line is passed over, not held.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        reader = LineReader(file)
        number = 0
        while data := reader.line(max_bytes + 1):
            number, start = number + 1, reader.offset
            reader.offset += len(data)
            if len(data) > max_bytes and not reader.ends(data):
                reader.pass_over(max_bytes)
                yield Line(number, start, None)
                continue
            text = reader.utf8(data, first=number == 1)
            if not _is_blank_line(text):
                yield Line(number, start, text.rstrip(b"\r\n"))


def read_line(path: str | Path, offset: int) -> bytes:
    """The line that begins at an offset which :func:`read_lines` told, in UTF-8."""
    with Path(path).open("rb") as file:
        reader = LineReader(file)
        file.seek(offset)
        return reader.utf8(reader.line(MAX_JSON_LINE), first=offset == 0)


def is_blank(text: str) -> bool:
    """Whether nobody would see anything of a text: white space, zero-width characters, marks of direction.

    Example:
        >>> is_blank("\u3000\u200b "), is_blank("a")
        (True, False)
    """
    return all(
        letter.isspace()
        or letter in _INVISIBLE
        or "\ufe00" <= letter <= "\ufe0f"  # variation selectors
        or unicodedata.category(letter) in ("Cf", "Zs", "Zl", "Zp")
        for letter in text
    )


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
    except UnicodeDecodeError as exc:
        raise ValueError(not_utf8(exc)) from exc
    except json.JSONDecodeError as exc:
        raise ValueError(not_json(exc)) from exc
    except ValueError as exc:
        if "digits" in str(exc):  # Python's limit for integers, whose sentence names a setting of Python
            raise ValueError("a number with too many digits") from exc
        raise
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise ValueError("half of a surrogate pair, which is no character") from exc
    return value


def not_utf8(error: UnicodeDecodeError) -> str:
    """Says of a line that its bytes are no text."""
    return f"not UTF-8, nor UTF-16 with its mark: {error.reason} at byte {error.start}"


def not_json(error: json.JSONDecodeError, *, before: int = 0) -> str:
    """Says where JSON stops being JSON; Python's own sentence differs by version, and counts lines anew.

    Args:
        error: What Python says.
        before: Characters that stand before the text that Python was given.
    """
    text, place = error.doc, error.pos
    if "\0" in text:
        return "not JSON, but with NUL characters, as of UTF-16 without its mark or of a power cut"
    if text[place : place + 1] == ",":  # before a bracket: Python 3.13 points to the comma, others behind it
        behind = place + 1 + len(text[place + 1 :]) - len(text[place + 1 :].lstrip())
        place = behind if text[behind : behind + 1] in ("]", "}") else place
    if place >= len(text) or error.msg.startswith("Unterminated string"):
        return "the JSON ends too early"
    return f"not JSON from character {before + place + 1} on"


class LineReader:
    """Reads the lines of a file as bytes, in the encoding that its mark tells.

    Attributes:
        offset: Where the next line begins, in bytes; the caller adds to it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        head = file.read(3)
        file.seek(0)
        self.offset = 0
        self._file = file
        self._encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
        self._end = "\n".encode(self._encoding)

    def line(self, size: int) -> bytes:
        """The bytes up to the end of the line, at most about ``size``; none at the end of the file."""
        if len(self._end) == 1:
            return self._file.readline(size)
        data = bytearray()
        while len(data) < size and (piece := self._file.readline(size - len(data))):
            data += piece
            if len(data) % 2:  # 0x0A may be one half of another character
                data += self._file.read(1)
            if self.ends(data):
                break
        return bytes(data)

    def ends(self, data: bytes | bytearray) -> bool:
        """Whether a line's end is there; in UTF-16 the two bytes of it begin at an even place."""
        return data.endswith(self._end) and not len(data) % len(self._end)

    def pass_over(self, size: int) -> None:
        """Reads to the end of the line."""
        while data := self.line(size):
            self.offset += len(data)
            if self.ends(data):
                break

    def utf8(self, data: bytes, *, first: bool) -> bytes:
        """A line in UTF-8, without the mark; what is no UTF-16 becomes what is no UTF-8."""
        if len(self._end) > 1:
            odd = b"\xff" if len(data) % 2 else b""
            text = data[: len(data) - len(odd)].decode(self._encoding, "surrogatepass")
            data = text.encode("utf-8", "surrogatepass") + odd
        return data.removeprefix(b"\xef\xbb\xbf") if first else data


def _is_blank_line(data: bytes) -> bool:
    text = data.strip()
    if not text or 0x20 < text[0] < 0x7F:  # nearly every line is decided by its first byte
        return not text
    try:
        return is_blank(text.decode())
    except UnicodeDecodeError:
        return False


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
