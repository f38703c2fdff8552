"""One run of a bulk write: reads the source, keeps upserts in flight, records what became of each row."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.bulk.batches import Batch, DeadLetters, Record
from vecbridge.bulk.delivery import Delivery, Part, deliver
from vecbridge.bulk.intake import RawBatch, Validated, raw_batches
from vecbridge.bulk.journal import Settled
from vecbridge.bulk.pacing import Pace
from vecbridge.bulk.places import Places
from vecbridge.bulk.progress import Progress
from vecbridge.bulk.repeats import WrittenIds
from vecbridge.bulk.stages import StageTimes
from vecbridge.bulk.tally import Tally
from vecbridge.bulk.targets import Target
from vecbridge.capabilities import Capabilities
from vecbridge.errors import Failure, VecbridgeError
from vecbridge.front import telemetry
from vecbridge.front.arguments import OnConflict
from vecbridge.front.sending import RequestCap
from vecbridge.names import is_field_name
from vecbridge.query import WriteReport
from vecbridge.schema import CollectionSpec, Field, FieldType
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.store import Collection

UPSERTS: Final = 4  # of full size under way, at least: while one waits for its retry, others fill the line
MAX_PART_ROWS: Final = 10_000  # rows that a retry sends again, at most
MAX_NEW_FIELDS: Final = 32  # that one run adds to a collection


@dataclass(frozen=True, slots=True)
class Policy:
    """What a run does with rows that do not simply fit.

    Attributes:
        on_conflict: With those whose ids are there.
        grow: Whether columns that the collection does not have become fields.
        max_failures: Failed rows that end the run, if there are more.
        max_rate: Rows a second that are sent, at most.
    """

    on_conflict: OnConflict
    grow: bool
    max_failures: int | None
    max_rate: float | None = None


def requests_at_once(able: Capabilities, workers: int | None) -> int:
    """How many requests a run has in flight at a time, at most; one where more gain nothing."""
    return able.requests_at_most if workers is None else min(workers, able.requests_at_most)


class Run:
    """One bulk write: workers only deliver; all else happens in the caller's thread.

    Args:
        target: Where the rows go.
        open_journal: Opens the journal of a collection; None without one.
        letters: Takes the rows that cannot be read or written.
        policy: What becomes of rows that do not simply fit.
        progress: Is called as rows are settled.
        stages: Measures how busy the stages are: "check", "store" and, if it has one, "source".
    """

    def __init__(
        self,
        target: Target,
        open_journal: Callable[[Collection], Record | None],
        letters: DeadLetters,
        policy: Policy,
        progress: Callable[[Progress], None] | None,
        stages: StageTimes,
    ) -> None:
        self._target = target
        self._open_journal = open_journal
        self._letters = letters
        self._policy = policy
        self._fields_left = MAX_NEW_FIELDS
        self._stages = stages
        self._tally = Tally(policy.max_failures, progress, stages)
        self._opened: Collection | None = None
        self._journal: Record | None = None
        self._stop = threading.Event()
        self._pace = Pace(policy.max_rate, self._stop)
        self._places = Places(1)
        self._full_parts = 1  # that are in memory at a time
        self._in_flight: dict[Future[bool], tuple[Batch, Delivery]] = {}
        self._next_row = 0  # of the source's batches
        self._written_ids = WrittenIds()

    def _open(self) -> Collection:
        """Where the rows go, made where it is not there, with its journal."""
        if self._opened is None:
            self._opened = self._target.open()
            self._journal = self._open_journal(self._opened)
            if self._journal is not None and self._journal.continues:
                self._letters.continue_run()
        return self._opened

    @property
    def _spec(self) -> CollectionSpec:
        return self._target.spec if self._opened is None else self._opened.stored_spec

    def write(self, batches: Any, workers: int | None, *, open_first: bool = False) -> WriteReport:
        """Reads and writes everything.

        Args:
            batches: The source; or a function that is called with this run's :meth:`take` and returns it.
            workers: Requests at a time; None is as many as the store takes.
            open_first: Whether the target is opened first, though that changes it.
        """
        able = self._target.capabilities
        count = requests_at_once(able, workers)
        self._places = places = Places(count, self._pace.wait, lambda: self._stages.work("store"))
        self._full_parts = max(UPSERTS, math.ceil(count / able.parallel_requests) + 1)
        with ThreadPoolExecutor(
            places.threads, "vecbridge-write", None if workers is None else RequestCap(count).hold
        ) as pool:
            try:
                if open_first or not self._target.waits:
                    self._open()  # the journal of another run is refused before anything is read
                for number, batch in enumerate(self._followed(raw_batches(self._read(batches)))):
                    self._letters.save()
                    self._start(number, batch, pool)
                    self.collect()
                self._letters.save()
                while self._in_flight:
                    self._wait_for_delivery()
            except BaseException as exc:
                if not isinstance(exc, Exception):  # Ctrl-C: no further attempts
                    self._stop.set()
                self._drain()
                exc.add_note(f"{self._tally.progress.written} rows were acknowledged until then")
                if left := self._abandon():
                    exc.add_note(left)
                raise
        self._tally.show(at_end=True)
        self._abandon()
        if self._journal is not None:
            self._journal.finish()
        return self._tally.report()

    def _read(self, batches: Any) -> Any:
        """The batches of a source; where it is a function, with what it cannot read counted as failed."""
        return batches(self.take) if callable(batches) else batches

    def _followed(self, batches: Iterator[RawBatch]) -> Iterator[RawBatch]:
        """The batches; how long the source takes for them is measured, unless it does so itself."""
        if "source" not in self._stages:
            yield from batches
            return
        while True:
            with self._stages.work("source"):
                batch = next(batches, None)
            if batch is None:
                return
            self._tally.count(bytes=batch.bytes)
            yield batch

    def take(self, letter: DeadLetter) -> None:
        """A record that the source could not read."""
        where = f"{letter.source}: " if letter.source else ""
        self._tally.keep([Failure(self._tally.progress.rows, letter.id, f"{where}{letter.error}")])
        self._tally.count(rows=1, failed=1)
        self._letters.take(letter)
        self._tally.require_few_failures()

    def _start(self, number: int, raw: RawBatch, pool: ThreadPoolExecutor) -> None:
        """Validates a batch of the source and hands its parts to the workers."""
        first_row = self._next_row
        self._next_row += raw.rows
        self._tally.count(rows=raw.rows)
        if self._opened is None:
            validated, _ = self._validate(raw)
            if not len(validated.part):
                self._settle_bad(Batch(number, 0, first_row, raw, validated, "", [], 0))
                return
        collection = self._open()
        fingerprint, first = "", 0
        if self._journal is not None:
            first = self._recall(self._journal, number, raw)
            if first == raw.rows:
                return
            raw = raw.slice(first, raw.rows - first) if first else raw
            fingerprint = self._journal.digest(raw)
        validated, added = self._validate(raw)
        if added and len(validated.part):
            validated = self._grow(raw, validated, added)
        whole = replace(validated.part, on_conflict=self._policy.on_conflict)
        deliveries = list(self._deliveries(whole))
        batch = Batch(
            number, first, first_row + first, raw, validated, fingerprint, deliveries, len(deliveries)
        )
        if not deliveries:
            self._settle_bad(batch)
            return
        self._letters.write(batch, validated.failures, self._spec)
        if self._places.threads > 1:  # a single thread keeps the order by itself
            self._wait_for_conflicts(validated.part)
        for delivery in deliveries:
            sent = pool.submit(telemetry.carried(self._deliver), collection, batch, delivery)
            self._in_flight[sent] = batch, delivery
            self._wait_for_room()

    def _deliver(self, collection: Collection, batch: Batch, delivery: Delivery) -> bool:
        """What a worker does: the dead letters of a part are on the disk before it begins another one."""
        try:
            return deliver(collection, delivery, self._stop, grow=self._policy.grow, places=self._places)
        finally:
            try:
                self._letters.write(batch, delivery.failures, collection.spec)
            except BaseException:
                self._stop.set()
                raise

    def _validate(self, raw: RawBatch) -> tuple[Validated, dict[str, FieldType]]:
        """The good and the bad rows of a batch, and the fields that the collection lacks for the good ones.

        New columns that hold nothing but null, so far, are left out.
        """
        with self._stages.work("check"):
            return self._checked(raw)

    def _checked(self, raw: RawBatch) -> tuple[Validated, dict[str, FieldType]]:
        spec = self._spec
        new = [name for name in raw.names() if name not in spec.column_names] if self._policy.grow else []
        if not new:
            return raw.validate(spec), {}
        types = raw.types(new)
        added = {name: types[name] for name in list(types)[: self._fields_left] if is_field_name(name)}
        grown = spec.grown(Field(name, type) for name, type in added.items()) or spec
        return raw.validate(grown, [name for name in new if name not in types]), added

    def _grow(self, raw: RawBatch, validated: Validated, added: Mapping[str, FieldType]) -> Validated:
        """Adds fields to the collection, now that there is a good row for them.

        Nothing is in flight meanwhile: a write that began before would be refused after.
        """
        while self._in_flight:
            self._wait_for_delivery()
        self._open().add_fields(added)
        self._fields_left -= len(added)
        if validated.part.checked.fits(self._spec):
            return validated
        return self._validate(raw)[0]  # somebody else added fields, too

    def _deliveries(self, part: Part) -> Iterator[Delivery]:
        """Cuts a batch into upserts: each as many requests as the store has in flight at first.

        Several requests a part, so that few of them are sent half empty where encoding changes the size.
        """
        limits = self._target.capabilities
        at_once = limits.parallel_requests
        most_rows = min(limits.request_rows * at_once, MAX_PART_ROWS, self._pace.rows)
        most_bytes = None if limits.request_bytes is None else limits.request_bytes * at_once
        for rows in records.ranges(part.checked.batch, max_rows=most_rows, max_bytes=most_bytes):
            some = part.slice(rows.start, len(rows))
            size = 0.0 if most_bytes is None else some.checked.batch.nbytes / most_bytes
            yield Delivery(some, max(len(rows) / most_rows, size))

    def _wait_for_room(self) -> None:
        """Waits until one more part may be begun: there is a place for it, and not too much is in memory."""
        while True:
            pause = self._places.crowded(len(self._in_flight))
            share = sum(delivery.share for _, delivery in self._in_flight.values())
            if pause is None and share <= self._full_parts:
                return
            self._wait_for_delivery(*([] if pause is None else [pause]))

    def _wait_for_conflicts(self, part: Part) -> None:
        """Waits until no request in flight holds any of these ids, so that the last write wins."""
        while any(batch.overlaps(part.ids) for batch in {batch for batch, _ in self._in_flight.values()}):
            self._wait_for_delivery()

    def _wait_for_delivery(self, *others: Future[None]) -> None:
        """Waits until at least one part is delivered, or another future is done; settles what is complete."""
        awaited: list[Future[Any]] = [*self._in_flight, *others]
        wait(awaited, return_when=FIRST_COMPLETED)
        self.collect()

    def collect(self) -> None:
        """Settles what has been delivered by now, and reports the progress."""
        for future in [future for future in self._in_flight if future.done()]:  # in the order of the source
            future.result()
            self._complete(future)
            self._tally.show()
        self._tally.show()

    def _complete(self, future: Future[bool]) -> None:
        batch, delivery = self._in_flight.pop(future)
        self._tally.count(retried=delivery.retried, skipped=delivery.skipped)
        if future.exception() is not None or not future.result():
            self._tally.count(written=delivery.written)
            return
        repeats = self._repeats(delivery)
        batch.repeats += repeats
        written, refused = delivery.written - repeats, len(delivery.failures)
        self._tally.count(written=written, duplicates=repeats, failed=refused, refused=refused)
        batch.unfinished -= 1
        if not batch.unfinished:
            self._settle(batch)

    def _repeats(self, delivery: Delivery) -> int:
        """Rows that were acknowledged, and whose ids this run had written before; it has all of them now."""
        if self._policy.on_conflict != "replace":
            return 0  # the store has skipped or refused them
        failed = [failure.row for failure in delivery.failures]
        ids = delivery.part.ids
        if failed:
            ids = ids.filter(pa.array(np.isin(delivery.part.rows, failed, invert=True)))
        return self._written_ids.add(ids)

    def _settle_bad(self, batch: Batch) -> None:
        """Settles a batch without a good row."""
        self._letters.write(batch, batch.validated.failures, self._spec)
        self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        """Notes in the journal what became of a batch; its dead letters are on the disk already."""
        self._tally.count(failed=len(batch.validated.failures), duplicates=batch.validated.duplicates)
        failures = batch.failures()
        self._tally.keep([replace(failure, row=batch.first_row + failure.row) for failure in failures])
        if self._journal is not None:
            self._journal.record(batch)
        self._tally.require_few_failures()

    def _recall(self, journal: Record, number: int, raw: RawBatch) -> int:
        """Counts what earlier runs have settled of a batch; how many rows that is, from the first on."""
        known = 0
        for settled in journal.recall(number, raw):
            self._skip(settled, raw.slice(known, settled.rows))
            known += settled.rows
        return known

    def _skip(self, settled: Settled, raw: RawBatch) -> None:
        """Counts a batch that an earlier part of this run has settled."""
        known = raw.validate(self._spec).part.ids if settled.failed else raw.ids()
        self._count_settled(settled, known)

    def recall(self, settled: Settled, ids: pa.Array) -> None:
        """Counts rows of the source that an earlier run has settled, and that are not read again.

        Args:
            settled: What became of them.
            ids: Of those that were written, each once.
        """
        self._tally.count(rows=settled.rows)
        self._count_settled(settled, ids)

    def count_bytes(self, number: int) -> None:
        """Bytes were read."""
        self._tally.count(bytes=number)

    def _count_settled(self, settled: Settled, ids: pa.Array) -> None:
        self._tally.count(
            written=settled.written, failed=settled.failed, retried=settled.retried,
            duplicates=settled.duplicates, skipped=settled.skipped, recalled=settled.rows,
        )  # fmt: skip
        if self._policy.on_conflict == "replace":
            self._written_ids.add(ids)
        self._tally.require_few_failures()

    def _drain(self) -> None:
        """After an error: waits for the deliveries in flight, and records what they have settled."""
        wait(self._in_flight)
        with suppress(VecbridgeError):  # such as a full disk: the first error says so already
            self._letters.save()
        for future in list(self._in_flight):
            with suppress(VecbridgeError):
                self._complete(future)

    def _abandon(self) -> str | None:
        """Has the target removed that this run made, with the journal, if no row was acknowledged.

        Returns:
            What could not be removed, in a sentence.
        """
        if self._opened is None or self._tally.progress.written or self._tally.progress.skipped:
            return None
        left = self._target.abandon()
        if self._target.collection is None and self._journal is not None:
            self._journal.discard()
            self._journal = None
        return left
