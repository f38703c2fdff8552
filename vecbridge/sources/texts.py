"""Text files: each line is a record of its own, because CLIP reads 77 tokens and no more."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.lines import not_utf8, read_lines
from vecbridge.sources.reading import FileState

MAX_TEXT_LINE: Final = 64 * 2**10
_BINARY: Final = "not text, but control characters: a binary file, or UTF-16 without its mark"


@dataclass(frozen=True, slots=True)
class TextItem:
    """One line of a text file.

    Attributes:
        id: ``notes.txt#12``: the file's id and the number of the line.
        path: The file.
        line: Number of the line, counted from 1.
        text: What it says.
        root: The folder that ids are measured from; absolute, "" where nobody said.
        relative: The path of the file below the root.
        state: Of the file, before it was read; None where nobody looked.
        lines: How many items the file has.
    """

    id: str
    path: str
    line: int
    text: str
    root: str = ""
    relative: str = ""
    state: FileState | None = None
    lines: int = 0


def text_items(path: str, id: str, *, root: str = "", relative: str = "") -> Iterator[TextItem | DeadLetter]:
    """The lines of a file in UTF-8, or UTF-16 with its mark, that are not blank.

    Args:
        path: The file.
        id: The file's id.
        root: The folder that ids are measured from.
        relative: The path of the file below it.

    Yields:
        A text item a line; a dead letter where a line is neither, has a NUL (as UTF-16 without its mark and
        binary files have), nothing but control characters, or more than 64 KiB, or where the file cannot be
        read.
    """
    try:
        for line in read_lines(path, max_bytes=MAX_TEXT_LINE):
            key, origin = f"{id}#{line.number}", f"{path}:{line.number}"
            if line.data is None:
                yield DeadLetter(key, origin, f"the line is longer than {MAX_TEXT_LINE} bytes")
                continue
            try:
                text = line.data.decode()
            except UnicodeDecodeError as exc:
                yield DeadLetter(key, origin, not_utf8(exc))
                continue
            if _is_binary(text):
                yield DeadLetter(key, origin, _BINARY)
            else:
                yield TextItem(key, path, line.number, text.strip(), root, relative)
    except OSError as exc:
        yield DeadLetter(id, path, f"the file cannot be read: {exc.strerror}")


def _is_binary(text: str) -> bool:
    return "\0" in text or all(unicodedata.category(letter) == "Cc" for letter in text)
