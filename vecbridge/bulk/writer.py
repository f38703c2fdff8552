"""The writer itself: what it takes from the source, what it has in flight, what it notes down."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.bulk.delivery import Part, Request, deliver
from vecbridge.bulk.intake import Sifted, record_batches, sift
from vecbridge.bulk.journal import Header, Journal, Settled, digest
from vecbridge.bulk.letterbox import Letterbox, record
from vecbridge.errors import (
    ConfigError,
    Failure,
    PartialWriteError,
    VecbridgeError,
)
from vecbridge.front.arguments import require_count
from vecbridge.query import WriteReport
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.store import Collection

MAX_PART_ROWS: Final = 10_000  # what a retry sends again, at most
KEPT_FAILURES: Final = 100

StrPath: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bulk write has come; counts include what earlier runs of its journal settled.

    Attributes:
        rows: Rows taken from the source.
        written: Rows acknowledged.
        failed: Rows set aside.
        retried: Attempts beyond the first.
        duplicates: Rows that a later row of their batch replaced.
        skipped: Rows of batches that an earlier run settled.
    """

    rows: int = 0
    written: int = 0
    failed: int = 0
    retried: int = 0
    duplicates: int = 0
    skipped: int = 0

    @property
    def done(self) -> int:
        """Rows of which is known what became of them."""
        return self.written + self.failed + self.duplicates


def write(
    collection: Collection,
    batches: Iterable[pa.RecordBatch | pa.Table],
    *,
    workers: int = 4,
    journal: StrPath | None = None,
    dead_letters: StrPath | None = None,
    max_failures: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    source: str = "",
) -> WriteReport:
    """Writes many batches: in parallel where that is faster, and holding a few of them at a time.

    What may succeed later is sent again, with growing pauses. Rows that cannot be stored are set aside, and
    the others are written. Of rows with the same id the last wins, whatever the number of workers.

    Args:
        collection: Where they go.
        batches: As :func:`vecbridge.batch` builds them, or tables; read lazily, in the caller's thread.
        workers: Requests at a time, at most; one where the backend gains nothing from more.
        journal: A file that notes which batches are settled. The same call after a crash or an error
            continues there: it reads the source again and sends only what is not settled.
        dead_letters: A file to which the rows set aside are appended, a line of JSON each, with the reason;
            ``vecbridge load`` reads it.
        max_failures: More rows set aside than this end the write.
        progress: Called in the caller's thread as rows are settled.
        source: What the journal calls the source; a journal continues only for the same one.

    Returns:
        What became of the rows: read = written + failed + duplicates, where duplicates are the rows that a
        later row of the same batch replaced. It counts what earlier runs of the journal settled, too;
        ``failures`` has the first hundred that this one met, with positions in the source.

    Raises:
        ConfigError: An argument that cannot be right, or a dead-letter file that cannot be used.
        JournalError: The journal is another run's or a finished one, or the source has changed.
        EmbedderMismatchError: Vectors from another model than the collection's.
        PartialWriteError: More than ``max_failures`` rows were set aside; carries the report.
        StorageFullError: No room for the rows, the journal or the dead letters.
        BackendError: The backend refuses every request, or retries ran out. What was acknowledged until then
            stays, and the journal knows it.

    Example:
        >>> import numpy as np
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> batches = (vb.batch(spec, id=[str(n)], vector=np.ones((1, 2))) for n in range(3))
        >>> with vb.connect("memory://") as store:
        ...     vb.write(store.create(spec), batches).written
        3
    """
    require_count("workers", workers)
    if max_failures is not None and max_failures < 0:
        raise ConfigError(f"max_failures={max_failures}: a whole number from 0, or None")
    with ExitStack() as stack:
        log = letterbox = None
        if journal is not None:
            options = {"dead_letters": dead_letters is not None}
            log = stack.enter_context(Journal(journal, Header.of(collection, source, options)))
            log.require_target(collection)
        if dead_letters is not None:
            letterbox = stack.enter_context(
                Letterbox(dead_letters, continuing=log is not None and log.continues)
            )
        run = _Run(collection, log, letterbox, max_failures, progress, source)
        return run.write(batches, workers if collection.capabilities.parallel_requests > 1 else 1)


@dataclass(slots=True, eq=False)
class _Batch:
    """A batch of the source until it is settled.

    Attributes:
        number: Its number in the source.
        first_row: Position of its first row in the source.
        raw: As it came.
        sifted: As it was checked.
        digest: Of its content; "" without a journal.
        requests: What is sent of it.
        waiting: How many of them are not done.
    """

    number: int
    first_row: int
    raw: pa.RecordBatch
    sifted: Sifted
    digest: str
    requests: list[Request]
    waiting: int

    def settled(self) -> Settled:
        return Settled(
            batch=self.number,
            rows=self.raw.num_rows,
            digest=self.digest,
            written=sum(each.written for each in self.requests),
            failed=len(self.sifted.failures) + sum(len(each.failures) for each in self.requests),
            retried=sum(each.retried for each in self.requests),
            duplicates=self.sifted.duplicates,
        )

    def failures(self) -> list[Failure]:
        """The rows set aside, by position in the batch."""
        refused = [failure for each in self.requests for failure in each.failures]
        return sorted([*self.sifted.failures, *refused], key=lambda failure: failure.row)

    def overlaps(self, ids: pa.Array) -> bool:
        """Whether one of these ids is on its way here."""
        return bool(pc.any(pc.is_in(ids, value_set=self.sifted.part.ids)).as_py())


def _show_nothing(progress: Progress) -> None:
    """What a write does whose progress nobody follows."""


class _Run:
    """One call of :func:`write`. Workers only send; everything else happens in the caller's thread."""

    def __init__(
        self,
        collection: Collection,
        journal: Journal | None,
        letterbox: Letterbox | None,
        max_failures: int | None,
        progress: Callable[[Progress], None] | None,
        source: str,
    ) -> None:
        self._collection = collection
        self._journal = journal
        self._letterbox = letterbox
        self._max_failures = max_failures
        self._show = progress or _show_nothing
        self._source = source
        self._stop = threading.Event()
        self._pending: dict[Future[bool], tuple[_Batch, Request]] = {}
        self._progress = Progress()
        self._failures: list[Failure] = []

    def write(self, batches: Iterable[pa.RecordBatch | pa.Table], workers: int) -> WriteReport:
        with ThreadPoolExecutor(workers, thread_name_prefix="vecbridge-write") as pool:
            try:
                for number, batch in enumerate(record_batches(batches)):
                    self._take_in(number, batch, pool, workers)
                    self._show(self._progress)
                while self._pending:
                    self._collect()
            except BaseException as exc:
                if not isinstance(exc, Exception):  # Ctrl-C: what waits for another attempt is left
                    self._stop.set()
                self._wind_up()
                exc.add_note(f"{self._progress.written} rows were acknowledged until then")
                raise
        if self._journal is not None:
            self._journal.finish()
        return self._report()

    def _take_in(self, number: int, raw: pa.RecordBatch, pool: ThreadPoolExecutor, workers: int) -> None:
        first_row = self._progress.rows
        self._count(rows=raw.num_rows)
        fingerprint = ""
        if self._journal is not None:
            fingerprint = digest(raw)
            known = self._journal.recall(number, raw.num_rows, fingerprint)
            if known is not None:
                self._skip(known)
                return
        sifted = sift(raw, self._collection.spec)
        requests = [Request(part) for part in self._parts(sifted.part)]
        batch = _Batch(number, first_row, raw, sifted, fingerprint, requests, len(requests))
        if workers > 1:  # a single worker keeps the order by itself
            self._let_pass(sifted.part)
        for request in requests:
            self._pending[pool.submit(deliver, self._collection, request, self._stop)] = (batch, request)
            while len(self._pending) > workers:
                self._collect()
        if not requests:
            self._settle(batch)

    def _parts(self, part: Part) -> Iterator[Part]:
        """What one upsert takes: as many requests as the store has in flight at a time."""
        limits = self._collection.capabilities
        at_once = limits.parallel_requests
        rows = records.ranges(
            part.checked.batch,
            max_rows=min(limits.request_rows * at_once, MAX_PART_ROWS),
            max_bytes=None if limits.request_bytes is None else limits.request_bytes * at_once,
        )
        return (part.slice(each.start, len(each)) for each in rows)

    def _let_pass(self, part: Part) -> None:
        """Waits for batches on their way that share an id with this one: the later row must arrive later."""
        while any(batch.overlaps(part.ids) for batch in {batch for batch, _ in self._pending.values()}):
            self._collect()

    def _collect(self) -> None:
        """Waits for a request, and settles the batch that is complete with it."""
        done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
        for future in [each for each in self._pending if each in done]:  # in the order of the source
            future.result()
            self._complete(future)
            self._show(self._progress)

    def _complete(self, future: Future[bool]) -> None:
        batch, request = self._pending.pop(future)
        self._count(written=request.written, retried=request.retried)
        if future.exception() is not None or not future.result():
            return
        self._count(failed=len(request.failures))
        batch.waiting -= 1
        if not batch.waiting:
            self._settle(batch)

    def _settle(self, batch: _Batch) -> None:
        """Puts the dead letters of a batch on the disk, then its line of the journal."""
        self._count(failed=len(batch.sifted.failures), duplicates=batch.sifted.duplicates)
        failures = batch.failures()
        room = KEPT_FAILURES - len(self._failures)
        self._failures += [replace(each, row=batch.first_row + each.row) for each in failures[:room]]
        if self._letterbox is not None:
            self._letterbox.post(self._letter(batch, each) for each in failures)
        if self._journal is not None:
            self._journal.settle(batch.settled())
        self._require_few_failures()

    def _letter(self, batch: _Batch, failure: Failure) -> DeadLetter:
        place = f"row {batch.first_row + failure.row}" + (f" of {self._source}" if self._source else "")
        columns = record(batch.raw, failure.row, self._collection.spec)
        return DeadLetter(failure.id, place, failure.error, columns)

    def _skip(self, known: Settled) -> None:
        self._count(
            written=known.written,
            failed=known.failed,
            retried=known.retried,
            duplicates=known.duplicates,
            skipped=known.rows,
        )
        self._require_few_failures()

    def _require_few_failures(self) -> None:
        if self._max_failures is not None and self._progress.failed > self._max_failures:
            raise PartialWriteError(self._report())

    def _wind_up(self) -> None:
        """Waits for the requests under way, and notes what they have settled."""
        wait(self._pending)
        for future in list(self._pending):
            with suppress(VecbridgeError):  # such as a full disk: the error under way says so already
                self._complete(future)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._progress, name) + number for name, number in more.items()}
        self._progress = replace(self._progress, **counts)

    def _report(self) -> WriteReport:
        now = self._progress
        failures = tuple(sorted(self._failures, key=lambda failure: failure.row))
        return WriteReport(now.written, now.failed, now.retried, now.duplicates, failures)
