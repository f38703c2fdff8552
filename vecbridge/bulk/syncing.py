"""What ``index --sync`` has to do: which pictures and lines are new, changed, the same, or gone.

A row tells what it was made from (:mod:`vecbridge.sources.tracking`). The rows below the given roots are read
once, then every file is compared with its rows::

    size and time as in the row ───────────────> same: not read
    other, and the same SHA-256 ───────────────> touched: the row gets the new size, time and fields
    another SHA-256, or no row ────────────────> changed, new: embedded
    a row that no file claims ── file there ───> kept
                              └─ not there ────> gone: removed once everything is written

About 1 kB of memory is held for each row.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

from vecbridge.errors import InvalidRecordError
from vecbridge.sources import digests
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import CONTENT_ID_DIGITS, FoundFile, ImageSource, Item
from vecbridge.sources.reading import FileState, digest_file
from vecbridge.sources.texts import TextItem
from vecbridge.sources.tracking import Roots, Stamp, fields_detail, lines_detail

FILES: Final = 1000  # that are compared together
MOST_REMOVED: Final = 0.2  # of the rows below the roots, unless the user agrees
Verdict = Literal["new", "changed", "touched", "same"]


@dataclass(frozen=True, slots=True)
class TrackedRow:
    """What a row says that it was made from.

    Attributes:
        id: Its id.
        path: The file.
        stamp: What the file was; None where that cannot be read.
    """

    id: str
    path: str
    stamp: Stamp | None


class TrackedRows:
    """The rows below the roots, by id and by path."""

    def __init__(self, rows: Iterable[TrackedRow] = ()) -> None:
        self.by_id: dict[str, TrackedRow] = {}
        self._by_path: dict[str, list[TrackedRow]] = {}
        for row in rows:
            self.by_id[row.id] = row
            self._by_path.setdefault(row.path, []).append(row)

    def of(self, path: str) -> Sequence[TrackedRow]:
        """The rows of a file."""
        return self._by_path.get(path, ())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row as it would be written now.

    Attributes:
        file: Its file.
        id: Its id.
        state: Size and time of the file.
        detail: As of :class:`~vecbridge.sources.tracking.Stamp`.
        sha256: Of the file or the line; None where the file was not read yet.
        line: Number of the line; None of a picture.
    """

    file: FoundFile
    id: str
    state: FileState
    detail: str
    sha256: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Touched:
    """A row whose content is the same, and what it says of its file is not."""

    candidate: Candidate
    stamp: Stamp


@dataclass(slots=True)
class SyncPlan:
    """What is to be done.

    Attributes:
        new: Items without a row.
        changed: Items of another content than their row.
        same: Items whose row is as it should be.
        touched: Rows to be rewritten without embedding.
        gone: Rows to be removed.
        kept: Rows of files that are there and were not read: unreadable, hidden, of a kind that is left out.
        rows: Rows below the roots.
        replaced: Files that are there and that rows to be removed are not made from any more.
        emptied: Folders that were given, in which there is nothing, and the number of rows that would go.
        unreadable: Files, lines and folders that could not be read.
        work: What is to be embedded: a file with the ids of its items (None is all), or a dead letter.
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    touched: list[Touched] = field(default_factory=list)
    gone: list[TrackedRow] = field(default_factory=list)
    kept: int = 0
    rows: int = 0
    replaced: set[str] = field(default_factory=set)
    emptied: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    work: list[tuple[FoundFile, frozenset[str] | None] | DeadLetter] = field(default_factory=list)

    @property
    def embedded(self) -> int:
        """Items that are embedded."""
        return self.new + self.changed

    def doubts(self) -> list[str]:
        """Why the user is to be asked before rows are removed: a sentence each."""
        found = [
            f"there is nothing in {folder}, and {rows:,} of the records to be removed are of files in it"
            for folder, rows in self.emptied.items()
        ]
        if len(self.gone) > MOST_REMOVED * self.rows:
            found.append(f"{len(self.gone):,} of {self.rows:,} records would be removed")
        return found

    def items(self, source: ImageSource) -> Iterator[Item | DeadLetter]:
        """The items to be embedded, and the dead letters."""
        told: set[tuple[object, ...]] = set()
        for work in self.work:
            for item in [work] if isinstance(work, DeadLetter) else source.items(work[0]):
                if isinstance(item, DeadLetter):
                    known = (item.id, item.source, item.error)
                    if known not in told:  # of a line: when it was compared, and again here
                        told.add(known)
                        yield item
                elif isinstance(work, DeadLetter) or work[1] is None or item.id in work[1]:
                    yield item


Lookup = Callable[[Sequence[str]], Mapping[str, TrackedRow]]


def plan_sync(
    source: ImageSource, rows: TrackedRows, roots: Roots, *, elsewhere: Lookup, checksum: bool = False
) -> SyncPlan:
    """Compares files with rows; reads no picture whose size and time are those in its row.

    Args:
        source: The files.
        rows: The rows of files below the roots.
        roots: What was given.
        elsewhere: Finds rows of other roots by id: a folder that was moved is not embedded again.
        checksum: Read every file.
    """
    return _Planner(source, rows, roots, elsewhere, checksum=checksum).run()


class _Planner:
    def __init__(
        self, source: ImageSource, rows: TrackedRows, roots: Roots, elsewhere: Lookup, *, checksum: bool
    ) -> None:
        self._source, self._rows, self._roots = source, rows, roots
        self._elsewhere, self._checksum = elsewhere, checksum
        self._plan = SyncPlan(rows=len(rows.by_id))
        self._ids: set[str] = set()  # of rows that stay
        self._settled: set[str] = set()  # paths of files whose every item is known
        self._filled: set[str] = set()  # given folders in which there is something
        self._copies: list[tuple[TrackedRow, Touched]] = []

    def run(self) -> SyncPlan:
        files = iter(self._source.files())
        while some := list(islice(files, FILES)):
            candidates: list[Candidate] = []
            for found in some:
                if isinstance(found, DeadLetter):
                    self._refuse(found)
                else:
                    candidates += self._candidates(found)
            self._judge(candidates)
        for row, touched in self._copies:  # one row of two files of the same content
            if row.path in self._settled:
                self._plan.same += 1
            else:
                self._plan.touched.append(touched)
        self._find_gone()
        return self._plan

    def _candidates(self, found: FoundFile) -> list[Candidate]:
        """The rows of a file that have to be compared; none if it is the same, or cannot be read."""
        if (folder := self._roots.folder_of(found.path)) is not None:
            self._filled.add(folder)
        known = self._rows.of(found.path)
        try:
            state = FileState.of(found.path)
            if not self._checksum and known and self._is_unchanged(found, known, state):
                self._ids |= {row.id for row in known}
                self._settled.add(found.path)
                self._plan.same += len(known)
                return []
            return self._lines(found) if found.is_text else [self._picture(found, state)]
        except (OSError, ValueError, KeyError, InvalidRecordError):  # whoever reads it will say so
            self._refuse((found, None))
            return []

    def _refuse(self, unreadable: tuple[FoundFile, None] | DeadLetter) -> None:
        self._plan.unreadable += 1
        self._plan.work.append(unreadable)

    def _is_unchanged(self, found: FoundFile, known: Sequence[TrackedRow], state: FileState) -> bool:
        stamps = [row.stamp for row in known]
        if any(stamp is None or stamp.state != state for stamp in stamps):
            return False
        start = self._source.id_of(found)
        if found.is_text:
            complete = {stamp.detail for stamp in stamps if stamp} == {lines_detail(len(known))}
            return complete and all(start is None or row.id.startswith(f"{start}#") for row in known)
        detail = self._detail(found, known[0])
        return len(known) == 1 and stamps[0] is not None and stamps[0].detail == detail and (
            start in (None, known[0].id)
        )  # fmt: skip

    def _detail(self, found: FoundFile, row: TrackedRow | None) -> str:
        """The detail of a picture; a sidecar that cannot be read takes nothing from the row."""
        detail = fields_detail(self._source.metadata(found))
        if not detail and row is not None and row.stamp and not self._source.sidecars_complete:
            return row.stamp.detail
        return detail

    def _picture(self, found: FoundFile, state: FileState) -> Candidate:
        id, digest = self._source.id_of(found), None
        if id is None:
            state, digest = digest_file(found.path)
            id = digest[:CONTENT_ID_DIGITS]
        return Candidate(found, id, state, self._detail(found, self._rows.by_id.get(id)), digest)

    def _lines(self, found: FoundFile) -> list[Candidate]:
        candidates, settled = [], True
        for item in self._source.items(found):
            if isinstance(item, DeadLetter):
                self._refuse(item)
                self._ids.add(str(item.id))  # a line that cannot be read is not gone
                settled = settled and item.source != found.path
            elif isinstance(item, TextItem) and item.state is not None:
                digest, detail = digests.of_text(item.text), lines_detail(item.lines)
                candidates.append(Candidate(found, item.id, item.state, detail, digest, item.line))
        if settled:
            self._settled.add(found.path)
        return candidates

    def _judge(self, candidates: Sequence[Candidate]) -> None:
        """Finds out what becomes of each."""
        absent = [each.id for each in candidates if each.id not in self._rows.by_id]
        moved = self._elsewhere(absent) if absent else {}
        wanted: dict[FoundFile, set[str]] = {}
        for each in candidates:
            row = self._rows.by_id.get(each.id) or moved.get(each.id)
            try:
                result, stamp = _compared(each, row)
            except InvalidRecordError:  # whoever reads it will say so
                self._refuse((each.file, None))
                continue
            self._ids.add(each.id)
            if each.line is None:
                self._settled.add(each.file.path)
            match result:
                case "same":
                    self._plan.same += 1
                case "touched" if row is not None and stamp is not None:
                    self._touch(row, Touched(each, stamp))
                case _:
                    self._plan.new += result == "new"
                    self._plan.changed += result != "new"
                    wanted.setdefault(each.file, set()).add(each.id)
        for file, ids in wanted.items():
            self._plan.work.append((file, frozenset(ids) if file.is_text else None))

    def _touch(self, row: TrackedRow, touched: Touched) -> None:
        if row.path == touched.candidate.file.path or row.id not in self._rows.by_id:
            self._plan.touched.append(touched)
        else:
            self._copies.append((row, touched))

    def _find_gone(self) -> None:
        """The rows that no file claims, and whose file is not there any more."""
        for row in self._rows.by_id.values():
            if row.id in self._ids:
                continue
            if row.path in self._settled:
                self._plan.replaced.add(row.path)
            elif is_there(row.path):
                self._plan.kept += 1
                continue
            self._plan.gone.append(row)
        for row in self._plan.gone:
            folder = self._roots.folder_of(row.path)
            if folder is not None and folder not in self._filled:
                self._plan.emptied[folder] = self._plan.emptied.get(folder, 0) + 1


def _compared(candidate: Candidate, row: TrackedRow | None) -> tuple[Verdict, Stamp | None]:
    """What becomes of a candidate; its file is read only where a row of another time has its id.

    Raises:
        InvalidRecordError: The file cannot be read.
    """
    if row is None:
        return "new", None
    state, digest = candidate.state, candidate.sha256
    if digest is None:
        state, digest = digest_file(candidate.file.path)
    stamp = Stamp(state, digest, candidate.detail)
    return verdict(row, candidate.file.path, stamp), stamp


def verdict(row: TrackedRow | None, path: str, stamp: Stamp) -> Verdict:
    """What becomes of an item.

    Args:
        row: The row of its id; None if there is none.
        path: Its file.
        stamp: What the file is now.

    Example:
        >>> stamp = Stamp(FileState(5, 100), "0" * 64)
        >>> row = TrackedRow("a.jpg", "/photos/a.jpg", stamp)
        >>> verdict(row, row.path, stamp), verdict(row, row.path, Stamp(FileState(5, 200), "0" * 64))
        ('same', 'touched')
        >>> verdict(row, row.path, Stamp(FileState(5, 200), "1" * 64)), verdict(None, row.path, stamp)
        ('changed', 'new')
    """
    if row is None:
        return "new"
    if row.stamp is None or row.stamp.sha256 != stamp.sha256:
        return "changed"
    return "same" if row.stamp == stamp and row.path == path else "touched"


def is_there(path: str) -> bool:
    """Whether a file is there, or may be: what cannot be looked at is not gone; a folder is no file."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
