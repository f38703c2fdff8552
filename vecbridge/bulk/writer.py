"""A bulk write: reads the source, keeps a few upserts in flight, and records what became of each row."""

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
from vecbridge.bulk.deadletters import DeadLetterFile, row_values
from vecbridge.bulk.delivery import Delivery, Part, deliver
from vecbridge.bulk.intake import Validated, record_batches, validate
from vecbridge.bulk.journal import Header, Journal, Settled, digest
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

MAX_PART_ROWS: Final = 10_000  # rows that a retry sends again, at most
KEPT_FAILURES: Final = 100

StrPath: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bulk write has come; counts include what earlier runs of its journal settled.

    Attributes:
        rows: Rows taken from the source.
        written: Rows acknowledged.
        failed: Rows that could not be written.
        retried: Upserts beyond the first of each part.
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
        """Rows that are settled: written, failed or replaced."""
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
    """Writes many batches, in parallel where that is faster; a few of them are in memory at a time.

    Transient errors are retried, with growing pauses. Rows that cannot be stored become dead letters, and the
    others are written. Of rows with the same id the last wins, whatever the number of workers.

    Args:
        collection: Where they go.
        batches: As :func:`vecbridge.batch` builds them, or tables; read lazily, in the caller's thread.
        workers: Upserts at a time, at most; one where the backend gains nothing from more.
        journal: A file that records which batches are settled. The same call after a crash or an error
            continues there: it reads the source again and sends only what is not settled.
        dead_letters: A file to which the rows that cannot be stored are appended, a line of JSON each, with
            the reason; ``vecbridge load`` reads it.
        max_failures: More failed rows than this end the write.
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
        PartialWriteError: More than ``max_failures`` rows failed; carries the report.
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
        opened = dead_letter_file = None
        if journal is not None:
            options = {"dead_letters": dead_letters is not None}
            opened = stack.enter_context(Journal(journal, Header.of(collection, source, options)))
            opened.require_target(collection)
        if dead_letters is not None:
            continuing = opened is not None and opened.continues
            dead_letter_file = stack.enter_context(DeadLetterFile(dead_letters, continuing=continuing))
        run = _Run(collection, opened, dead_letter_file, max_failures, progress, source)
        return run.write(batches, workers if collection.capabilities.parallel_requests > 1 else 1)


@dataclass(slots=True, eq=False)
class _Batch:
    """A batch of the source until it is settled.

    Attributes:
        number: Its number in the source.
        first_row: Position of its first row in the source.
        raw: As it came.
        validated: Its good and its bad rows.
        digest: Of its content; "" without a journal.
        deliveries: The parts in which it is written.
        unfinished: How many of them are not delivered yet.
    """

    number: int
    first_row: int
    raw: pa.RecordBatch
    validated: Validated
    digest: str
    deliveries: list[Delivery]
    unfinished: int

    def settled(self) -> Settled:
        """Its entry in the journal."""
        return Settled(
            batch=self.number,
            rows=self.raw.num_rows,
            digest=self.digest,
            written=sum(delivery.written for delivery in self.deliveries),
            failed=len(self.failures()),
            retried=sum(delivery.retried for delivery in self.deliveries),
            duplicates=self.validated.duplicates,
        )

    def failures(self) -> list[Failure]:
        """The rows that could not be written, by position in the batch."""
        refused = [failure for delivery in self.deliveries for failure in delivery.failures]
        return sorted([*self.validated.failures, *refused], key=lambda failure: failure.row)

    def overlaps(self, ids: pa.Array) -> bool:
        """Whether one of these ids is among its own."""
        return bool(pc.any(pc.is_in(ids, value_set=self.validated.part.ids)).as_py())


def _no_progress(progress: Progress) -> None:
    """Default progress callback: does nothing."""


class _Run:
    """One call of :func:`write`. Workers only deliver; everything else happens in the caller's thread."""

    def __init__(
        self,
        collection: Collection,
        journal: Journal | None,
        dead_letters: DeadLetterFile | None,
        max_failures: int | None,
        progress: Callable[[Progress], None] | None,
        source: str,
    ) -> None:
        self._collection = collection
        self._journal = journal
        self._dead_letters = dead_letters
        self._max_failures = max_failures
        self._report_progress = progress or _no_progress
        self._source = source
        self._stop = threading.Event()
        self._in_flight: dict[Future[bool], tuple[_Batch, Delivery]] = {}
        self._progress = Progress()
        self._failures: list[Failure] = []

    def write(self, batches: Iterable[pa.RecordBatch | pa.Table], workers: int) -> WriteReport:
        with ThreadPoolExecutor(workers, thread_name_prefix="vecbridge-write") as pool:
            try:
                for number, batch in enumerate(record_batches(batches)):
                    self._start(number, batch, pool, workers)
                    self._report_progress(self._progress)
                while self._in_flight:
                    self._wait_for_delivery()
            except BaseException as exc:
                if not isinstance(exc, Exception):  # Ctrl-C: no further attempts
                    self._stop.set()
                self._drain()
                exc.add_note(f"{self._progress.written} rows were acknowledged until then")
                raise
        if self._journal is not None:
            self._journal.finish()
        return self._report()

    def _start(self, number: int, raw: pa.RecordBatch, pool: ThreadPoolExecutor, workers: int) -> None:
        """Validates a batch of the source and hands its parts to the workers."""
        first_row = self._progress.rows
        self._count(rows=raw.num_rows)
        fingerprint = ""
        if self._journal is not None:
            fingerprint = digest(raw)
            settled = self._journal.recall(number, raw.num_rows, fingerprint)
            if settled is not None:
                self._skip(settled)
                return
        validated = validate(raw, self._collection.spec)
        deliveries = [Delivery(part) for part in self._parts(validated.part)]
        batch = _Batch(number, first_row, raw, validated, fingerprint, deliveries, len(deliveries))
        if workers > 1:  # a single worker keeps the order by itself
            self._wait_for_conflicts(validated.part)
        for delivery in deliveries:
            self._in_flight[pool.submit(deliver, self._collection, delivery, self._stop)] = (batch, delivery)
            while len(self._in_flight) > workers:
                self._wait_for_delivery()
        if not deliveries:
            self._settle(batch)

    def _parts(self, part: Part) -> Iterator[Part]:
        """Cuts a batch into upserts: each as many requests as the store has in flight at a time."""
        limits = self._collection.capabilities
        at_once = limits.parallel_requests
        ranges = records.ranges(
            part.checked.batch,
            max_rows=min(limits.request_rows * at_once, MAX_PART_ROWS),
            max_bytes=None if limits.request_bytes is None else limits.request_bytes * at_once,
        )
        return (part.slice(rows.start, len(rows)) for rows in ranges)

    def _wait_for_conflicts(self, part: Part) -> None:
        """Waits until no request in flight holds any of these ids, so that the last write wins."""
        while any(batch.overlaps(part.ids) for batch in {batch for batch, _ in self._in_flight.values()}):
            self._wait_for_delivery()

    def _wait_for_delivery(self) -> None:
        """Waits until at least one part is delivered; settles the batches that this completes."""
        done, _ = wait(self._in_flight, return_when=FIRST_COMPLETED)
        for future in [future for future in self._in_flight if future in done]:  # in the order of the source
            future.result()
            self._complete(future)
            self._report_progress(self._progress)

    def _complete(self, future: Future[bool]) -> None:
        batch, delivery = self._in_flight.pop(future)
        self._count(written=delivery.written, retried=delivery.retried)
        if future.exception() is not None or not future.result():
            return
        self._count(failed=len(delivery.failures))
        batch.unfinished -= 1
        if not batch.unfinished:
            self._settle(batch)

    def _settle(self, batch: _Batch) -> None:
        """Appends the dead letters of a batch, then its entry in the journal: a crash must not lose any."""
        self._count(failed=len(batch.validated.failures), duplicates=batch.validated.duplicates)
        failures = batch.failures()
        room = KEPT_FAILURES - len(self._failures)
        self._failures += [replace(failure, row=batch.first_row + failure.row) for failure in failures[:room]]
        if self._dead_letters is not None:
            self._dead_letters.append(self._dead_letter(batch, failure) for failure in failures)
        if self._journal is not None:
            self._journal.settle(batch.settled())
        self._require_few_failures()

    def _dead_letter(self, batch: _Batch, failure: Failure) -> DeadLetter:
        place = f"row {batch.first_row + failure.row}" + (f" of {self._source}" if self._source else "")
        values = row_values(batch.raw, failure.row, self._collection.spec)
        return DeadLetter(failure.id, place, failure.error, values)

    def _skip(self, settled: Settled) -> None:
        self._count(
            written=settled.written,
            failed=settled.failed,
            retried=settled.retried,
            duplicates=settled.duplicates,
            skipped=settled.rows,
        )
        self._require_few_failures()

    def _require_few_failures(self) -> None:
        if self._max_failures is not None and self._progress.failed > self._max_failures:
            raise PartialWriteError(self._report())

    def _drain(self) -> None:
        """After an error: waits for the deliveries in flight, and records what they have settled."""
        wait(self._in_flight)
        for future in list(self._in_flight):
            with suppress(VecbridgeError):  # such as a full disk: the first error says so already
                self._complete(future)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._progress, name) + number for name, number in more.items()}
        self._progress = replace(self._progress, **counts)

    def _report(self) -> WriteReport:
        now = self._progress
        failures = tuple(sorted(self._failures, key=lambda failure: failure.row))
        return WriteReport(now.written, now.failed, now.retried, now.duplicates, now.skipped, failures)
