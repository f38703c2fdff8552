"""A bulk write: reads the source, keeps a few upserts in flight, and records what became of each row."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.delivery import Delivery, Part, deliver
from vecbridge.bulk.intake import RawBatch, Validated, raw_batches
from vecbridge.bulk.journal import Header, Journal, Settled
from vecbridge.errors import (
    ConfigError,
    Failure,
    PartialWriteError,
    VecbridgeError,
)
from vecbridge.front.arguments import OnConflict, require_count, require_on_conflict
from vecbridge.names import is_field_name
from vecbridge.query import WriteReport
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.store import Collection

MAX_PART_ROWS: Final = 10_000  # rows that a retry sends again, at most
MAX_NEW_FIELDS: Final = 32  # that one run adds to a collection
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
        skipped: Rows left out because their ids were there already.
        recalled: Rows of batches that an earlier run settled.
    """

    rows: int = 0
    written: int = 0
    failed: int = 0
    retried: int = 0
    duplicates: int = 0
    skipped: int = 0
    recalled: int = 0

    @property
    def done(self) -> int:
        """Rows that are settled: written, failed, replaced or left out."""
        return self.written + self.failed + self.duplicates + self.skipped


def write(
    collection: Collection,
    batches: Iterable[records.Records] | records.Records,
    *,
    on_conflict: OnConflict = "replace",
    grow: bool = False,
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
        batches: Batches as :func:`vecbridge.batch` builds them, tables, DataFrames or lists of dicts, one or
            an iterable of them; read lazily, in the caller's thread.
        on_conflict: What becomes of rows whose ids are there: "replace" what is there, "skip" the row, or
            "error": the row is a dead letter. A row that an earlier attempt of this run may have written is
            sent again as replacing.
        grow: Add columns that the collection does not have as fields, at most 32 a run, of the type of their
            first batch (json if it is mixed). A value that does not fit later is a dead letter. Text in a
            json column is JSON text, as everywhere.
        workers: Upserts at a time, at most; one where the backend gains nothing from more.
        journal: A file that records which batches are settled. The same call after a crash or an error
            continues there: it reads the source again and sends only what is not settled.
        dead_letters: A file to which the rows that cannot be stored are appended, a line of JSON each, with
            the reason; ``vecbridge load`` reads it.
        max_failures: More failed rows than this end the write.
        progress: Called in the caller's thread as rows are settled.
        source: What the journal calls the source; a journal continues only for the same one.

    Returns:
        What became of the rows: read = written + failed + duplicates + skipped, where duplicates are the rows
        that a later row of the same batch replaced. It counts what earlier runs of the journal settled, too;
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
    require_on_conflict(on_conflict)
    if max_failures is not None and max_failures < 0:
        raise ConfigError(f"max_failures={max_failures}: a whole number from 0, or None")
    with ExitStack() as stack:
        opened = dead_letter_file = None
        if journal is not None:
            options: dict[str, Any] = {"dead_letters": dead_letters is not None}
            if on_conflict != "replace":
                options["on_conflict"] = on_conflict
            opened = stack.enter_context(Journal(journal, Header.of(collection, source, options)))
            opened.require_target(collection)
        if dead_letters is not None:
            continuing = opened is not None and opened.continues
            dead_letter_file = stack.enter_context(DeadLetterFile(dead_letters, continuing=continuing))
        policy = Policy(on_conflict, grow, max_failures)
        run = _Run(collection, opened, dead_letter_file, policy, progress, source)
        return run.write(batches, workers if collection.capabilities.parallel_requests > 1 else 1)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a run does with rows that do not simply fit.

    Attributes:
        on_conflict: With those whose ids are there.
        grow: Whether columns that the collection does not have become fields.
        max_failures: Failed rows that end the run, if there are more.
    """

    on_conflict: OnConflict
    grow: bool
    max_failures: int | None


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
    raw: RawBatch
    validated: Validated
    digest: str
    deliveries: list[Delivery]
    unfinished: int

    def settled(self) -> Settled:
        """Its entry in the journal."""
        return Settled(
            batch=self.number,
            rows=self.raw.rows,
            digest=self.digest,
            written=sum(delivery.written for delivery in self.deliveries),
            failed=len(self.failures()),
            retried=sum(delivery.retried for delivery in self.deliveries),
            duplicates=self.validated.duplicates,
            skipped=sum(delivery.skipped for delivery in self.deliveries),
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
        policy: Policy,
        progress: Callable[[Progress], None] | None,
        source: str,
    ) -> None:
        self._collection = collection
        self._journal = journal
        self._dead_letters = dead_letters
        self._policy = policy
        self._fields_left = MAX_NEW_FIELDS
        self._report_progress = progress or _no_progress
        self._source = source
        self._stop = threading.Event()
        self._in_flight: dict[Future[bool], tuple[_Batch, Delivery]] = {}
        self._progress = Progress()
        self._failures: list[Failure] = []

    def write(self, batches: Any, workers: int) -> WriteReport:
        with ThreadPoolExecutor(workers, thread_name_prefix="vecbridge-write") as pool:
            try:
                for number, batch in enumerate(raw_batches(batches)):
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

    def _start(self, number: int, raw: RawBatch, pool: ThreadPoolExecutor, workers: int) -> None:
        """Validates a batch of the source and hands its parts to the workers."""
        first_row = self._progress.rows
        self._count(rows=raw.rows)
        fingerprint = ""
        if self._journal is not None:
            fingerprint = raw.digest()
            settled = self._journal.recall(number, raw.rows, fingerprint)
            if settled is not None:
                self._skip(settled)
                return
        unused = self._grow(raw) if self._policy.grow else ()
        validated = raw.validate(self._collection.spec, unused)
        whole = replace(validated.part, on_conflict=self._policy.on_conflict)
        deliveries = [Delivery(part) for part in self._parts(whole)]
        batch = _Batch(number, first_row, raw, validated, fingerprint, deliveries, len(deliveries))
        if workers > 1:  # a single worker keeps the order by itself
            self._wait_for_conflicts(validated.part)
        for delivery in deliveries:
            sent = pool.submit(deliver, self._collection, delivery, self._stop, grow=self._policy.grow)
            self._in_flight[sent] = batch, delivery
            while len(self._in_flight) > workers:
                self._wait_for_delivery()
        if not deliveries:
            self._settle(batch)

    def _grow(self, raw: RawBatch) -> list[str]:
        """Adds the new columns of a batch to the collection; those that hold nothing but null, so far.

        Nothing is in flight meanwhile: a write that began before would be refused after.
        """
        known = self._collection.spec.column_names
        new = [name for name in raw.names() if name not in known]
        if not new:
            return []
        types = raw.types(new)
        added = {name: types[name] for name in list(types)[: self._fields_left] if is_field_name(name)}
        if added:
            while self._in_flight:
                self._wait_for_delivery()
            self._collection.add_fields(added)
            self._fields_left -= len(added)
        return [name for name in new if name not in types]

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
        self._count(written=delivery.written, retried=delivery.retried, skipped=delivery.skipped)
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
        values = batch.raw.values(failure.row, self._collection.spec)
        return DeadLetter(failure.id, place, failure.error, values)

    def _skip(self, settled: Settled) -> None:
        self._count(
            written=settled.written,
            failed=settled.failed,
            retried=settled.retried,
            duplicates=settled.duplicates,
            skipped=settled.skipped,
            recalled=settled.rows,
        )
        self._require_few_failures()

    def _require_few_failures(self) -> None:
        most = self._policy.max_failures
        if most is not None and self._progress.failed > most:
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
