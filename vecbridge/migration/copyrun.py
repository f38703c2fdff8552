"""One run of a copy: parts of namespaces are read, converted and written, several at a time.

Each part has a thread that reads and converts its pages; the writes of all parts share a pool::

    part 0   read, convert 3 │ 4 │ …            a page is noted in the journal when it is acknowledged and
    pool     write 1 │ write 2                  every page of the part before it is noted: the last cursor
    journal  0 │ 1                              of a part is where it goes on, and nothing before is missing
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from vecbridge import filters
from vecbridge.bulk.delivery import Delivery, StoppedError, await_delivery, deliver
from vecbridge.bulk.intake import Validated, validate
from vecbridge.bulk.pacing import Pace
from vecbridge.errors import CursorExpiredError
from vecbridge.migration import ledger, reading
from vecbridge.migration.conversion import Converter
from vecbridge.migration.journal import Copied, CopyJournal
from vecbridge.migration.ledger import Entries
from vecbridge.migration.pacing import Room
from vecbridge.migration.plans import Plan
from vecbridge.migration.setaside import Refused, SetAside, unreachable
from vecbridge.migration.sides import Side
from vecbridge.migration.statefile import StateWriter, unsettled
from vecbridge.store import Collection

PARTS_AT_ONCE: Final = 8
PARTS: Final = 4  # of a large namespace, where its scan can be split
PAGES_AHEAD: Final = 1  # that a part hands over while the one before is written
ROOM_BYTES: Final = 48 << 20  # of pages in memory, over all parts
LARGE: Final = 50_000  # rows from which a namespace is split
_ROUNDS: Final = 4  # the first, and those in which parts are begun anew after their cursors expired
_FLUSH_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A page on its way to the target."""

    page: reading.SourcePage
    converted: pa.RecordBatch
    validated: Validated
    delivery: Delivery
    done: Future[bool]
    room: int
    entries: Entries | None = None


@dataclass(slots=True, eq=False)
class _Part:
    """A part while it is copied.

    Attributes:
        namespace: Of the source.
        number: Which part of it.
        source: Where its rows are.
        target: Where they go; None where the target cannot have such a namespace.
        converter: What makes the one of the other.
        sent: Pages that are not noted in the journal yet, in the order of the scan.
        broken: A page could not be noted, and hence none after it may be.
    """

    namespace: str
    number: int
    source: Collection
    target: Collection | None
    converter: Converter
    sent: deque[_Sent] = field(default_factory=deque)
    broken: bool = False


class CopyRun:
    """Copies what the journal does not have yet.

    Args:
        plan: What the rows become.
        source: Where they are.
        target: Where they go; exists.
        journal: What earlier runs have copied.
        aside: Takes rows that cannot be kept.
        pace: A limit to the rows a second.
        state: Takes what is sent, for a later sync.
        workers: Pages that are written at a time, at most.
        progress: Is called by one thread at a time, with the sum so far.
        stop: Ends the run.

    Attributes:
        notes: What else there is to say of it.
    """

    def __init__(
        self,
        plan: Plan,
        source: Side,
        target: Side,
        journal: CopyJournal,
        aside: SetAside,
        pace: Pace,
        state: StateWriter | None,
        workers: int,
        progress: Callable[[Copied], None] | None,
        stop: threading.Event,
    ) -> None:
        self._plan, self._source, self._target = plan, source, target
        self._journal, self._aside = journal, aside
        self._pace, self._state, self._stop = pace, state, stop
        self._room = Room(ROOM_BYTES, stop)
        self._writers = workers if target.store.capabilities.parallel_requests > 1 else 1
        self._report_progress = progress
        self._settling = threading.Lock()
        self._filter = None if plan.filter is None else filters.from_dict(plan.filter)
        self._page_rows = reading.page_rows(plan.source_spec, plan.size, pace.rate)
        self.notes: list[str] = []

    def run(self) -> None:
        """Copies, then flushes the target.

        Raises:
            InvalidRecordError: A row that cannot be kept, and no file for dead letters.
            CursorExpiredError: Cursors of the source expire faster than it can be read.
            VecbridgeError: What a side, the journal or the dead letters raise.
        """
        namespaces = self._source.namespaces() if self._plan.only is None else [self._plan.only]
        for _ in range(_ROUNDS):
            expired = self._copy_all(namespaces)
            if not expired:
                break
            for namespace, number in expired:
                self._begin_anew(namespace, number)
        else:
            raise CursorExpiredError(f"{self._plan.source}: its cursors expire faster than it can be read")
        reached = {self._plan.target_namespace(each) for each in namespaces if self._plan.reaches(each)}
        for namespace in sorted(reached):
            self._target.collection(namespace).flush(_FLUSH_SECONDS)

    def _begin_anew(self, namespace: str, number: int) -> None:
        """Sends a part to its start, since its cursor has expired; if that has too, the whole namespace."""
        parts = self._journal.parts[namespace]
        if number >= len(parts):
            return  # another part has sent the whole to its start
        where, state = f"namespace {namespace!r}" if namespace else "the collection", parts[number]
        if len(parts) > 1 and state.cursor != state.start:
            self._journal.note_restart(namespace, number)
            where = f"part {number + 1} of {len(parts)} of {where}"
        elif state.cursor is not None or state.start is not None:
            self._journal.note_starts(namespace, [None])
        self.notes.append(f"{where} was copied from its start again: its cursor had expired")

    def _copy_all(self, namespaces: Iterable[str]) -> list[tuple[str, int]]:
        """Runs every part that has not ended; those whose cursors had expired."""
        for namespace in namespaces:
            if namespace not in self._journal.parts:
                self._journal.note_starts(namespace, self._starts(namespace))
        parts = [
            (namespace, number)
            for namespace in namespaces
            for number, state in enumerate(self._journal.parts[namespace])
            if not state.ended
        ]
        with (
            ThreadPoolExecutor(self._writers, thread_name_prefix="vecbridge-write") as writing,
            ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="vecbridge-read") as pool,
        ):
            running = {pool.submit(self._copy_part, *part, writing): part for part in parts}
            try:
                return self._expired(running)
            finally:
                self._stop_if_unfinished(running)

    def _expired(self, running: dict[Future[bool], tuple[str, int]]) -> list[tuple[str, int]]:
        """Waits for the parts; an error that ended one has priority over those that it stopped."""
        expired: list[tuple[str, int]] = []
        stopped: BaseException | None = None
        for done in as_completed(running):
            try:
                if not done.result():
                    expired.append(running[done])
            except (StoppedError, CancelledError) as exc:
                stopped = exc
            except BaseException:
                self._stop.set()
                raise
        if stopped is not None:
            raise stopped
        return sorted(expired)

    def _stop_if_unfinished(self, running: Iterable[Future[bool]]) -> None:
        """After an error or Ctrl-C: nothing is begun any more."""
        unfinished = [part for part in running if not part.done()]
        if unfinished:
            self._stop.set()
        for part in unfinished:
            part.cancel()

    def _starts(self, namespace: str) -> list[str | None]:
        """Where the parts of a namespace begin."""
        collection = self._source.collection(namespace)
        able = self._source.store.capabilities
        if not able.splits or able.parallel_requests == 1 or self._writers == 1:
            return [None]  # files are read faster than any server writes, and each part takes memory
        planned = next((each.rows for each in self._plan.namespaces if each.source == namespace), 0)
        if (planned or collection.count()) < LARGE:
            return [None]
        return [*collection.split(PARTS)] or [None]

    def _copy_part(self, namespace: str, number: int, writing: ThreadPoolExecutor) -> bool:
        """Copies the rest of one part; False if its cursor has expired."""
        if self._stop.is_set():
            raise StoppedError
        source = self._source.collection(namespace)
        target = None
        if self._plan.reaches(namespace):
            target = self._target.collection(self._plan.target_namespace(namespace))
        converter = Converter(self._plan, source.stored_spec, source.extra)
        part = _Part(namespace, number, source, target, converter)
        try:
            try:
                self._copy_pages(part, writing)
            finally:  # what was acknowledged is noted whatever ended the reading
                while part.sent and not part.broken:
                    self._settle(part)
        except CursorExpiredError:
            return False
        except BaseException:
            self._stop.set()
            raise
        self._journal.note_end(namespace, number)
        return True

    def _copy_pages(self, part: _Part, writing: ThreadPoolExecutor) -> None:
        """Hands over the pages of a part, with those before settled in time."""
        cursor = self._journal.parts[part.namespace][part.number].cursor
        parts = len(self._journal.parts[part.namespace])  # which share the memory of one
        rows, guess = max(1, self._page_rows // parts), reading.PAGE_BYTES // parts
        pages = reading.pages(
            part.source, part.converter.include, cursor, filter=self._filter, rows=rows, stop=self._stop
        )
        try:
            while True:
                self._take_room(part, guess)
                page = None
                try:
                    page = next(pages, None)
                finally:
                    self._room.resize(guess, 0 if page is None else page.size)
                if page is None:
                    return
                guess = max(guess // 2, page.size)
                self._send(part, page, writing)
                while len(part.sent) > PAGES_AHEAD:
                    self._settle(part)
        finally:
            pages.close()

    def _take_room(self, part: _Part, size: int) -> None:
        """Takes room for the next page; gives back what pages on their way hold, rather than wait."""
        while not self._room.try_take(size):
            if not part.sent:
                self._room.take(size)
                return
            self._settle(part)

    def _send(self, part: _Part, page: reading.SourcePage, writing: ThreadPoolExecutor) -> None:
        self._pace.wait(page.rows)
        if self._stop.is_set():
            raise StoppedError
        converted = part.converter.convert(page.batch, part.namespace)
        if part.target is None:
            entries = None if self._state is None else np.empty(0, ledger.ENTRY)
            part.sent.append(_refused(page, converted, self._plan, part.namespace, entries))
            return
        validated = validate(converted, part.target.stored_spec)
        delivery = Delivery(validated.part)
        sent = None
        if self._state is not None:  # a row must be in the state before it can be at the target
            rows, namespace = validated.part.checked.batch, part.target.namespace
            sent = ledger.entries(rows, namespace, key=self._state.key)
            self._state.add(unsettled(sent))
        done = writing.submit(deliver, part.target, delivery, self._stop)
        part.sent.append(_Sent(page, converted, validated, delivery, done, page.size, sent))

    def _settle(self, part: _Part) -> None:
        """Waits until the oldest page is written, sets aside what cannot be, and notes it in the journal."""
        sent = part.sent.popleft()
        try:
            await_delivery(sent.done, (later.done for later in part.sent))
            failures = sorted([*sent.validated.failures, *sent.delivery.failures], key=lambda each: each.row)
            unfit = sent.page.failures
            copied = Copied(
                sent.page.rows, sent.delivery.written, len(failures) + len(unfit), sent.validated.duplicates,
                sent.delivery.retried,
            )  # fmt: skip
            refused = Refused(
                part.namespace, part.source, part.converter, sent.converted, failures, unfit
            )  # fmt: skip
            with self._settling:
                self._aside.take(refused)
                position = self._note_sent(sent)
                self._journal.note_page(part.namespace, part.number, sent.page.cursor, copied, position)
                if self._report_progress is not None:
                    self._report_progress(self._journal.copied)
        except BaseException:
            part.broken = True
            raise
        finally:
            self._room.resize(sent.room, 0)

    def _note_sent(self, sent: _Sent) -> int | None:
        """Records in the state what the target has acknowledged; the position behind it."""
        if self._state is None or sent.entries is None:
            return None
        failed = [failure.row for failure in sent.delivery.failures]
        acknowledged = np.isin(sent.delivery.part.rows, failed, invert=True)
        return self._state.add(sent.entries[acknowledged])


def _refused(
    page: reading.SourcePage, converted: pa.RecordBatch, plan: Plan, namespace: str, entries: Entries | None
) -> _Sent:
    """A page of a namespace that the target cannot have: none of its rows is sent."""
    failures = unreachable(plan, namespace, converted)
    nothing = validate(converted.slice(0, 0), plan.spec)
    done: Future[bool] = Future()
    done.set_result(True)
    validated = Validated(nothing.part, tuple(failures), 0)
    return _Sent(page, converted, validated, Delivery(nothing.part), done, page.size, entries)
