"""A disk as a power cut would leave it: what was not synced is lost, the names in a directory among it.

Killing a process cannot show a missing fsync, because the kernel keeps what was written. So a spy notes what
was synced, and when.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Content = tuple[int, int]


class Disk:
    """Notes every sync, rename and removal of this process from now on.

    Args:
        patch: Undoes it.

    Attributes:
        hasty: Renames of a file, or of a directory with one, whose content was not synced; removals in a
            directory with a rename that was not synced.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.hasty: list[str] = []
        self._contents: dict[int, Content] = {}  # by inode: size and time of change when it was synced
        self._names: dict[int, dict[str, int]] = {}  # by inode of a directory: the inodes of its names
        self._renamed: dict[Path, str] = {}  # by directory: a rename in it that was not synced yet
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._after(getattr(os, name), self._synced))
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._before(getattr(os, name), self._moves))
        for name in ("unlink", "remove"):
            patch.setattr(os, name, self._before(getattr(os, name), self._removes))

    def keeps(self, path: Path) -> bool:
        """Whether a file would be there after a power cut, with all that it holds."""
        status = path.stat()
        named = self._names.get(path.parent.stat().st_ino, {}).get(path.name)
        return named == status.st_ino and self._contents.get(status.st_ino) == _content(status)

    def kept_bytes(self, path: Path) -> int:
        """How much of a file, which others go on writing, would be there after a power cut."""
        inode = path.stat().st_ino
        named = self._names.get(path.parent.stat().st_ino, {}).get(path.name)
        return self._contents.get(inode, (0, 0))[0] if named == inode else 0

    def loses(self, root: Path) -> list[str]:
        """What a power cut would take of the files below a directory, but for locks and hidden files."""
        return sorted(
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file()
            and path.name != "lock"
            and not path.name.startswith(".")
            and not self.keeps(path)
        )

    def _synced(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._contents[status.st_ino] = _content(status)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(descriptor) as entries:
                self._names[status.st_ino] = {entry.name: entry.inode() for entry in entries}
            self._renamed = {
                path: what for path, what in self._renamed.items() if path.stat().st_ino != status.st_ino
            }

    def _moves(self, source: Any, target: Any, **_: Any) -> None:
        old, new = Path(source), Path(target)
        for path in [old] if old.is_file() else [each for each in old.rglob("*") if each.is_file()]:
            status = path.stat()
            if path.name != "lock" and self._contents.get(status.st_ino) != _content(status):
                self.hasty.append(f"{path.name} was renamed before it was synced")
        self._renamed[new.parent] = f"{old.name} to {new.name}"

    def _removes(self, path: Any, **_: Any) -> None:
        gone = Path(path)
        if gone.exists() and (renamed := self._renamed.get(gone.parent)):
            self.hasty.append(f"{gone.name} was removed before {renamed} was synced")

    def _after(self, real: Callable[..., None], note: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            real(*arguments, **options)
            note(*arguments, **options)

        return call

    def _before(self, real: Callable[..., None], note: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            note(*arguments, **options)
            real(*arguments, **options)

        return call


def _content(status: os.stat_result) -> Content:
    return status.st_size, status.st_mtime_ns
