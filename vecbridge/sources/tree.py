"""Walking a folder in a fixed order, never out of it, never in circles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Kind = Literal["file", "folder", "left out"]
OUTSIDE: Final = "is a link out of the folder; pass follow_links=True to read it"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something found in a folder.

    Attributes:
        path: The folder's path, ``/`` and the relative one.
        relative: Path below the folder, with ``/``.
        kind: "file"; "folder", before what is in it; "left out" is hidden, or reached by another path.
        problem: Why it is not to be read.
    """

    path: str
    relative: str
    kind: Kind
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Level:
    entries: Iterator[os.DirEntry[str]]
    prefix: str
    identity: tuple[int, int]


class Walk:
    """The files of a folder and the folders in it, sorted by name at each level.

    Names of one folder at a time are held in memory, not those of the whole tree.

    Args:
        root: The folder.
        follow_links: Also read links that lead out of the folder. Links to files inside it are always read;
            links to folders inside it are left out, since their files come under their own path.
        hidden: Also read names that begin with a dot.
    """

    def __init__(self, root: str, *, follow_links: bool = False, hidden: bool = False) -> None:
        self._root = root
        self._inside = Path(root).resolve()
        self._follow = follow_links
        self._hidden = hidden

    def __iter__(self) -> Iterator[Entry]:
        levels: list[_Level] = []
        yield from self._enter(levels, "")
        while levels:
            level = levels[-1]
            child = next(level.entries, None)
            if child is None:
                levels.pop()
                continue
            relative = level.prefix + child.name
            if child.name.startswith(".") and not self._hidden:
                yield Entry(child.path, relative, "left out")
                continue
            entry = self._classified(child, relative, levels)
            yield entry
            if entry.kind == "folder" and entry.problem is None:
                yield from self._enter(levels, relative)

    def _enter(self, levels: list[_Level], relative: str) -> Iterator[Entry]:
        path = f"{self._root}/{relative}" if relative else self._root
        try:
            status = Path(path).stat()
            with os.scandir(path) as found:
                entries = sorted(found, key=_name)
        except OSError as exc:
            yield Entry(path, relative, "folder", f"the folder cannot be read: {exc.strerror}")
            return
        prefix = f"{relative}/" if relative else ""
        levels.append(_Level(iter(entries), prefix, (status.st_dev, status.st_ino)))

    def _classified(self, child: os.DirEntry[str], relative: str, levels: list[_Level]) -> Entry:
        try:
            if child.is_symlink():
                return self._link(child, relative, levels)
            if child.is_dir(follow_symlinks=False):
                return Entry(child.path, relative, "folder")
            problem = None if child.is_file(follow_symlinks=False) else "is not a regular file"
        except OSError as exc:
            problem = f"cannot be read: {exc.strerror}"
        return Entry(child.path, relative, "file", problem)

    def _link(self, child: os.DirEntry[str], relative: str, levels: list[_Level]) -> Entry:
        try:
            target = Path(child.path).resolve(strict=True)
            status = target.stat()
        except (OSError, RuntimeError) as exc:  # RuntimeError: a link to itself, before Python 3.13
            reason = exc.strerror if isinstance(exc, OSError) else "a loop"
            return Entry(child.path, relative, "file", f"is a link that leads nowhere: {reason}")
        folder = target.is_dir()
        if target.is_relative_to(self._inside):
            return Entry(child.path, relative, "left out") if folder else _file(child, relative, target)
        if not self._follow:
            return Entry(child.path, relative, "folder" if folder else "file", OUTSIDE)
        if not folder:
            return _file(child, relative, target)
        if (status.st_dev, status.st_ino) in {level.identity for level in levels}:
            return Entry(child.path, relative, "folder", "is a link to a folder above it")
        return Entry(child.path, relative, "folder")


def _file(child: os.DirEntry[str], relative: str, target: Path) -> Entry:
    return Entry(child.path, relative, "file", None if target.is_file() else "is not a regular file")


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
