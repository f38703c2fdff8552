"""JSON files that are no JSON lines: one array of records, or records printed over several lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from vecbridge.sources.lines import MAX_JSON_LINE, Line, not_json, read_line, read_lines

_CHUNK: Final = 2**20
_BLANK: Final = re.compile(r"[ \t\r\n]*")
# Finds where a value ends; float reads integers of any length, and int none of more than 4300 digits.
_DECODE: Final = json.JSONDecoder(object_pairs_hook=lambda _: None, parse_int=float).raw_decode


def is_one_document(path: str | Path) -> bool:
    """Whether a file is a JSON array, or has records that are printed over several lines.

    A file whose first line is a whole array and which has other lines is taken for JSON lines, the first of
    them a bad one.

    Raises:
        OSError: The file cannot be read.
    """
    lines = read_lines(path)
    first, second = next(lines, None), next(lines, None)
    if first is None:
        return False
    start = (read_line(path, first.offset) if first.data is None else first.data).strip()
    if start.startswith(b"["):
        return second is None or not _is_json(start)
    follows = b"" if second is None else (second.data or b"").strip()
    return bool(follows) and not follows.startswith(b"{") and start.startswith(b"{") and _goes_on(start)


def read_elements(path: str | Path) -> Iterator[Line]:
    """Streams the elements of an array, or values that follow one another, as lines numbered from 1.

    Args:
        path: The file: UTF-8, or UTF-16 with a byte order mark.

    Yields:
        Each element's text; its number, and as offset that of its first character.

    Raises:
        OSError: The file cannot be read.
        ValueError: Not JSON from here on, or a value that is too long to be a record.
    """
    with Path(path).open(encoding=_encoding(path), newline="") as file:
        text = _Text(file)
        is_array = text.skip("[")
        number = 0
        while not text.at_end() and not (is_array and text.skip("]")):
            if number and is_array and not text.skip(","):
                raise ValueError(f"no comma after element {number}")
            number += 1
            offset = text.offset
            yield Line(number, offset, text.value().encode())
        if is_array and not text.closed:
            raise ValueError("the array does not end")
        if not text.at_end():
            raise ValueError("something follows the array")


class _Text:
    """The text of a file, of which a value and a chunk are held."""

    def __init__(self, file: IO[str]) -> None:
        self.closed = False
        self._file = file
        self._text = ""
        self._at = 0
        self._before = 0  # characters of the file before the text that is held
        self._ended = False

    @property
    def offset(self) -> int:
        """Characters of the file that are passed."""
        return self._before + self._at

    def skip(self, mark: str) -> bool:
        """Passes over blanks, and over one character if it is the wanted one."""
        if self.at_end() or self._text[self._at] != mark:
            return False
        self.closed |= mark == "]"
        self._at += 1
        return True

    def at_end(self) -> bool:
        """Passes over blanks; whether nothing follows them."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return False
            if self._ended:
                return True
            self._read()

    def value(self) -> str:
        """The next JSON value as it is written.

        Raises:
            ValueError: There is none, or it is too long.
        """
        self.at_end()
        while True:
            try:
                _, end = _DECODE(self._text, self._at)
            except RecursionError as exc:
                raise ValueError("nested too deeply") from exc
            except json.JSONDecodeError as exc:
                if self._ended:
                    raise ValueError(not_json(exc, before=self._before)) from exc
                end = len(self._text)
            if end < len(self._text) or self._ended:
                found = self._text[self._at : end]
                self._at = end
                return found
            if len(self._text) - self._at > MAX_JSON_LINE:
                raise ValueError(f"no JSON value of at most {MAX_JSON_LINE:,} characters")
            self._read()

    def _read(self) -> None:
        self._before += self._at
        held = self._text[self._at :]
        # as much again as is held, so that a long value is not decoded once for each chunk
        data = self._file.read(max(_CHUNK, len(held)))
        self._ended = not data
        self._text, self._at = held + data, 0


def _encoding(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _goes_on(data: bytes) -> bool:
    """Whether JSON is right up to its end, and lacks the rest."""
    try:
        text = data.decode()
        json.loads(text)
    except json.JSONDecodeError as exc:
        return exc.pos >= len(text)
    except (ValueError, RecursionError):
        return False
    return False


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
