"""A log of verdicts: which model said what of which content, and never the content."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from vecbridge import timestamps
from vecbridge.apps.policy import Kind, Verdict
from vecbridge.bulk.appendfile import AppendFile
from vecbridge.closing import Closing
from vecbridge.errors import JournalError

_HEADER: Final = b'{"vecbridge_audit": 1}\n'


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One verdict.

    Attributes:
        sha256: Of the item's content; None of a file that could not be read.
        kind: Whether the item is a picture or a text.
        verdict: What was decided.
        category: The category that decided; None where none did.
        scores: By category, as the thresholds met them; empty where there are none.
        error: The name of the exception because of which there are none. Never its message, which may quote
            the item or its path.
        model: What gave the scores, with its revision.
        policy: SHA-256 of the policy.
        calibration: SHA-256 of the calibration; None where scores are the model's own.
    """

    sha256: str | None
    kind: Kind
    verdict: Verdict
    category: str | None
    scores: Mapping[str, float]
    error: str | None
    model: str
    policy: str
    calibration: str | None


class AuditLog(Closing):
    """A file of JSON lines that is only ever appended to; one process writes to it at a time.

    An entry is on the disk when :meth:`append` returns. What a crash cut short is removed by the next append.

    Args:
        path: The file; it is created where there is none.

    Raises:
        JournalError: Another process writes to it, or it is a file of another kind, which is not touched.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = AppendFile(path, JournalError)
        try:
            first = next(self._file.lines(), None)
            # the beginning of a header is what a crash at the first append leaves
            if first is None and _HEADER.startswith(self._file.torn):
                self._file.append(_HEADER)
            elif first is None or first + b"\n" != _HEADER:
                raise JournalError(f"{self._file.path} is no audit log: nothing was written to it")
        except BaseException:
            self._file.close()
            raise

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Writes entries, with the time.

        Raises:
            JournalError: The file cannot be written, or is closed.
            StorageFullError: The disk is full.
        """
        time = timestamps.text(datetime.now(UTC))
        lines = [json.dumps({"time": time, **asdict(entry)}, allow_nan=False) for entry in entries]
        if lines:
            self._file.append("".join(f"{line}\n" for line in lines).encode())

    def entries(self) -> Iterator[dict[str, Any]]:
        """What the file holds, oldest first.

        Raises:
            JournalError: A line is no JSON object.
        """
        for number, line in enumerate(self._file.lines(), 1):
            if number == 1:
                continue
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                raise JournalError(f"{self._file.path}:{number}: no entry of an audit log")
            yield found

    def close(self) -> None:
        """Lets other processes write to the file."""
        self._file.close()
