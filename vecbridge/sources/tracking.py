"""What a row was made from, as its two reserved columns say it; see :mod:`vecbridge.reserved`.

``_vb_source`` is the root and the path below it, ``/me/photos//2019/a.jpg``: two slashes, which no path has,
stand between them, so that everything below a folder is a range of texts. ``_vb_digest`` is size, time in
nanoseconds, SHA-256, and what else the row depends on: ``5120 1700000000123456789 9f86d0… fields=1b4f0e98``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vecbridge.filters import And, Cmp, Filter, In, Or
from vecbridge.names import SOURCE
from vecbridge.sources.reading import FileState

_DIGEST: Final = re.compile(r"(\d+) (-?\d+) ([0-9a-f]{64})((?: (?:lines=\d+|fields=[0-9a-f]+))?)")
_BETWEEN: Final = "//"
_AFTER_SLASH: Final = "0"  # the character after "/": a range ends before it
_MOST_ROOTS: Final = 100  # that a filter names; more are compared here


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a picture, or a line of a text, was when its row was written.

    Attributes:
        state: Size and time of its file.
        sha256: Of the file, or of the line in UTF-8; 64 hexadecimal digits.
        detail: ``lines=N`` of a line, the lines of its file; ``fields=DIGEST`` where a sidecar gave fields.
    """

    state: FileState
    sha256: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.state.size} {self.state.modified} {self.sha256} {self.detail}".rstrip()

    @classmethod
    def of(cls, text: str | None) -> Stamp | None:
        """Reads what ``str()`` wrote; None of anything else, so that its row is written again.

        Example:
            >>> stamp = Stamp(FileState(5120, 1700000000123456789), "0" * 64, "lines=3")
            >>> Stamp.of(str(stamp)) == stamp, Stamp.of("other")
            (True, None)
        """
        match = None if text is None else _DIGEST.fullmatch(text)
        if match is None:
            return None
        return cls(FileState(int(match[1]), int(match[2])), match[3], match[4].strip())


def fields_detail(metadata: Mapping[str, Any]) -> str:
    """The detail of a picture's stamp: a digest of what sidecars say of it, "" if that is nothing."""
    if not metadata:
        return ""
    text = json.dumps(metadata, sort_keys=True, default=str)
    return f"fields={hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def lines_detail(lines: int) -> str:
    """The detail of a line's stamp."""
    return f"lines={lines}"


def source_text(root: str, relative: str) -> str:
    """The value of ``_vb_source``.

    Example:
        >>> source_text("/photos", "2019/a.jpg"), source_text("/", "a.jpg")
        ('/photos//2019/a.jpg', '//a.jpg')
    """
    return f"{root.rstrip('/')}{_BETWEEN}{relative}"


def path_of(source: str) -> str:
    """The path that a value of ``_vb_source`` names.

    Example:
        >>> path_of("/photos//2019/a.jpg"), path_of("//a.jpg")
        ('/photos/2019/a.jpg', '/a.jpg')
    """
    root, _, relative = source.rpartition(_BETWEEN)
    return f"{root}/{relative}"


class Roots:
    """The folders and files that were given.

    Args:
        folders: Absolute paths of folders.
        files: Absolute paths of files.
    """

    def __init__(self, folders: Iterable[str], files: Iterable[str]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self._below = {each.rstrip("/") for each in self.folders}
        self._files = set(files)

    def folder_of(self, path: str) -> str | None:
        """The given folder that a path is below; None if there is none."""
        end = len(path)
        while (end := path.rfind("/", 0, end)) >= 0:
            if path[:end] in self._below:
                return path[:end] or "/"
        return None

    def __contains__(self, path: str) -> bool:
        return path in self._files or self.folder_of(path) is not None

    def filter(self) -> Filter | None:
        """Rows of the roots, and hardly any other; None where there are too many roots to name them."""
        if not 1 <= len(self._below) + len(self._files) <= _MOST_ROOTS:
            return None
        starts = [start for folder in sorted(self._below) for start in (f"{folder}/", *_splits(f"{folder}/"))]
        parts: list[Filter] = [
            And((Cmp(SOURCE, ">=", start), Cmp(SOURCE, "<", start[:-1] + _AFTER_SLASH))) for start in starts
        ]
        if self._files:
            parts.append(In(SOURCE, tuple(text for path in sorted(self._files) for text in _splits(path))))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _splits(path: str) -> list[str]:
    """A path with two slashes in the place of each of its slashes in turn, but of one at its end."""
    places = [place for place, letter in enumerate(path[:-1]) if letter == "/"]
    return [f"{path[:place]}{_BETWEEN}{path[place + 1 :]}" for place in places]
