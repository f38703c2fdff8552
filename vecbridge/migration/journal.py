"""The journal of a copy: which pages the target has acknowledged, so that a copy that was cut off goes on.

A line of JSON each, in the order in which things happened::

    {"vecbridge_migration": 1, "source": …, "target": …, "plan": …, "transform": …, "state": …}
    {"target_identity": "…"}                                          once the target is there
    {"namespace": "eu", "starts": [null, "…"]}                        where the parts of its scan begin
    {"namespace": "eu", "part": 0, "cursor": "…", "rows": 10000, "written": 9999, "failed": 1, …}
    {"namespace": "eu", "part": 0, "ended": true}
    {"finished": "2026-11-27T10:00:00Z"}

A page is noted after its rows are acknowledged or dead letters, and the pages of a part in their order, so
that its last cursor is the place from which it goes on.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from vecbridge.bulk.appendfile import AppendFile
from vecbridge.closing import Closing
from vecbridge.errors import ConfigError, JournalError
from vecbridge.migration.planning import Transform
from vecbridge.migration.plans import Plan

FORMAT: Final = "vecbridge_migration"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of rows; adds up.

    Attributes:
        rows: Rows read at the source.
        written: Rows acknowledged by the target.
        failed: Rows that became dead letters.
        duplicates: Rows that a later row of the same page and id replaced.
        retried: Attempts to write beyond the first.
    """

    rows: int = 0
    written: int = 0
    failed: int = 0
    duplicates: int = 0
    retried: int = 0

    def __add__(self, other: Copied) -> Copied:
        return Copied(
            self.rows + other.rows, self.written + other.written, self.failed + other.failed,
            self.duplicates + other.duplicates, self.retried + other.retried,
        )  # fmt: skip


@dataclass(slots=True)
class PartState:
    """How far one part of a namespace has come.

    Attributes:
        start: The cursor from which it begins; None is the start of the namespace.
        cursor: Where it goes on.
        copied: What became of its rows.
        ended: Whether all of it is copied.
    """

    start: str | None
    cursor: str | None
    copied: Copied = field(default_factory=Copied)
    ended: bool = False


class CopyJournal(Closing):
    """The journal of one copy; in memory alone where it has no path. Thread-safe.

    Args:
        path: The file; it begins a copy where there is none, and continues it where there is one.

    Attributes:
        plan: The plan that an earlier run has pinned; None for a new journal.
        target_identity: The target that it made; None if it did not come so far.
        finished: When it ended; None if it did not.
        position: Behind the rows in the state file that an earlier run has noted.
        parts: By namespace, its parts.

    Raises:
        JournalError: Something else than such a journal, a damaged one, or one in use.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.plan: Plan | None = None
        self.target_identity: str | None = None
        self.finished: datetime | None = None
        self.position = 0
        self.parts: dict[str, list[PartState]] = {}
        self._header: dict[str, Any] = {}
        self._mutex = threading.Lock()
        self._file = None if path is None else AppendFile(path, JournalError)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    @property
    def continues(self) -> bool:
        """Whether there is a copy to continue."""
        return self.plan is not None

    @property
    def copied(self) -> Copied:
        """What became of all rows so far."""
        total = Copied()
        for parts in self.parts.values():
            for part in parts:
                total += part.copied
        return total

    def begin(self, plan: Plan, transform: Transform, state: str | None = None) -> None:
        """Pins the plan of a new journal.

        Args:
            plan: What the copy goes by.
            transform: What the user has asked for beside a plan of their own.
            state: The state file that the copy makes.
        """
        self.plan = plan
        self._header = {
            FORMAT: VERSION, "source": plan.source, "target": plan.target, "plan": plan.to_dict(),
            "transform": transform.to_dict(), "state": state,
        }  # fmt: skip
        self._append(self._header)

    def require_same(
        self, source: str, target: str, plan: Plan, transform: Transform | None, state: str | None = None
    ) -> None:
        """Refuses another copy than the one that was begun.

        Args:
            source: URL of the source now.
            target: URL of the target now.
            plan: The plan now.
            transform: What the user asks for now; None where they give a plan.
            state: The state file now.

        Raises:
            JournalError: Names what differs.
        """
        for name, now in (("source", source), ("target", target)):
            if self._header.get(name) != now:
                raise self.error(f"it is of the {name} {self._header.get(name)}, not {now}")
        if self.plan is not None and self.plan.digest() != plan.digest():
            raise self.error("it is of another plan, by which rows become others")
        begun: dict[str, Any] = {"state": self._header.get("state")}
        asked: dict[str, Any] = {"state": state}
        if transform is not None:
            begun |= self._header.get("transform", {})
            asked |= transform.to_dict()
        different = [name for name in {**begun, **asked} if begun.get(name) != asked.get(name)]
        if different:
            shown = "; ".join(f"{name} {begun.get(name)!r}, not {asked.get(name)!r}" for name in different)
            raise self.error(f"it was begun with {shown}")

    def note_target(self, identity: str) -> None:
        """Records which collection is the target."""
        self.target_identity = identity
        self._append({"target_identity": identity})

    def note_starts(self, namespace: str, starts: Sequence[str | None]) -> None:
        """Records where the parts of a namespace begin; what was copied of it before counts no more."""
        with self._mutex:
            self.parts[namespace] = [PartState(start, start) for start in starts]
            self._append({"namespace": namespace, "starts": list(starts)})

    def note_restart(self, namespace: str, part: int) -> None:
        """Records that a part begins anew at its start; what was copied of it before counts no more."""
        with self._mutex:
            state = self.parts[namespace][part]
            self.parts[namespace][part] = PartState(state.start, state.start)
            self._append({"namespace": namespace, "part": part, "restart": True})

    def note_page(
        self, namespace: str, part: int, cursor: str, copied: Copied, position: int | None = None
    ) -> None:
        """Records a page of which every row is acknowledged or a dead letter.

        Args:
            namespace: Of the source.
            part: Which part of it.
            cursor: Where the next page starts.
            copied: What became of the rows.
            position: Behind the rows in the state file, if there is one.
        """
        line = {"namespace": namespace, "part": part, "cursor": cursor, **asdict(copied)}
        if position is not None:
            line["position"] = position
        with self._mutex:
            state = self.parts[namespace][part]
            state.cursor, state.copied = cursor, state.copied + copied
            self._append(line)

    def note_end(self, namespace: str, part: int) -> None:
        """Records that a part is copied."""
        with self._mutex:
            self.parts[namespace][part].ended = True
            self._append({"namespace": namespace, "part": part, "ended": True})

    def finish(self) -> datetime:
        """Records that all is copied; the time is returned."""
        self.finished = datetime.now(UTC).replace(microsecond=0)
        self._append({"finished": self.finished.isoformat().replace("+00:00", "Z")})
        return self.finished

    def error(self, what: str) -> JournalError:
        """An error that names the file and the way out."""
        path = "" if self._file is None else f"{self._file.path}: "
        return JournalError(f"{path}{what}: name another journal, or remove this one to copy from the start")

    def discard(self) -> None:
        """Removes the journal of a copy that has left nothing behind."""
        if self._file is not None and self._file.held:
            with suppress(OSError):
                self._file.path.unlink()

    def close(self) -> None:
        """Gives the lock back; a file that is still empty, because nothing was begun, is removed."""
        if self._file is None:
            return
        with suppress(OSError):  # while it is locked: nobody else can have begun there
            if self._file.held and not self._file.path.stat().st_size:
                self._file.path.unlink()
        self._file.close()

    def _append(self, values: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.append((json.dumps(values, ensure_ascii=True, separators=(",", ":")) + "\n").encode())

    def _read(self) -> None:
        if self._file is None:
            return
        for number, text in enumerate(self._file.lines()):
            try:
                self._take(number, json.loads(text))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, ConfigError) as exc:
                what = "no journal of a migration" if number == 0 else f"line {number + 1} is damaged"
                raise self.error(f"{what} ({exc})") from exc
        start = f'{{"{FORMAT}'.encode()
        if self.plan is None and not start.startswith(self._file.torn[: len(start)]):
            raise self.error("no journal of a migration")

    def _take(self, number: int, values: dict[str, Any]) -> None:
        """Reads one line."""
        if number == 0:
            if values[FORMAT] != VERSION:
                raise ValueError(f"format {values[FORMAT]}, and this vecbridge reads format {VERSION}")
            self._header, self.plan = values, Plan.from_dict(values["plan"])
        elif "target_identity" in values:
            self.target_identity = values["target_identity"]
        elif "finished" in values:
            self.finished = datetime.fromisoformat(values["finished"])
        elif "starts" in values:
            self.parts[values["namespace"]] = [PartState(start, start) for start in values["starts"]]
        else:
            parts, number = self.parts[values.pop("namespace")], values.pop("part")
            part = parts[number]
            if values.get("restart"):
                parts[number] = PartState(part.start, part.start)
            elif values.get("ended"):
                part.ended = True
            else:
                part.cursor = values.pop("cursor")
                self.position = values.pop("position", self.position)
                part.copied += Copied(**values)
