"""The dead letters of one task, in a file that a retry of the task replaces."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from vecbridge.bulk.deadletters import DeadLetterFile


class TaskLetters:
    """Dead letters of one attempt at a task; they appear under the task's name once the attempt has ended.

    So an attempt that was killed leaves none, and a retry does not double them::

        .run-000007.3fe1.part ── the attempt succeeds ──> run-000007.jsonl
                              └─ it fails ──────────────> removed; that of a killed one stays, unread

    Args:
        directory: One for all tasks of a run, on a disk that all nodes share; None drops the letters.
        name: Of the task.
    """

    def __init__(self, directory: str | None, name: str) -> None:
        self.file: DeadLetterFile | None = None
        if directory is None:
            return
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._final = folder / f"{name}.jsonl"
        self._part = folder / f".{name}.{uuid.uuid4().hex[:8]}.part"
        self.file = DeadLetterFile(self._part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is None:
            return
        self.file.close()  # removes it where it is empty
        if kind is not None:
            self._part.unlink(missing_ok=True)
        elif self._part.exists():
            self._part.replace(self._final)
        else:
            self._final.unlink(missing_ok=True)
