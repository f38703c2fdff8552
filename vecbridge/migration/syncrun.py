"""One run of a sync: the source is read once, and what differs is sent.

read a page ── convert ── hash ──┬── as in the baseline ── nothing to do
                                 └── new or changed ── into the journal ── to the target
flush ── ids of the target that the scan did not meet ── ask the source ── into the journal ── delete
flush ── the new state in the place of the old one ── the journal is emptied
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import filters
from vecbridge.bulk.delivery import Delivery, await_delivery, deliver
from vecbridge.bulk.intake import Validated, validate
from vecbridge.bulk.pacing import Pace
from vecbridge.errors import CursorExpiredError, LossRefusedError
from vecbridge.migration import ledger, reading
from vecbridge.migration.baseline import Baseline, Mask, SyncJournal, of_keys, sorted_entries
from vecbridge.migration.conversion import Converter, parse_template
from vecbridge.migration.deletions import (
    Candidates,
    SourceIds,
    retried,
    target_ids,
    target_namespaces,
)
from vecbridge.migration.ledger import Ledger
from vecbridge.migration.plans import Plan
from vecbridge.migration.setaside import Refused, SetAside, unreachable
from vecbridge.migration.sides import Side
from vecbridge.migration.statefile import unsettled
from vecbridge.store import Collection

FEWEST_DELETES: Final = 1_000  # that need no permission
FLUSH_SECONDS: Final = 3_600.0
_ROUNDS: Final = 4  # of a namespace: the first, and those after its cursor expired


@dataclass(frozen=True, slots=True)
class Synced:
    """How far a sync has come.

    Attributes:
        rows: Rows of the source that were read.
        inserted: Rows that the target did not have; in a dry run, that would be sent.
        updated: Rows that the target had otherwise.
        deleted: Rows that the source no longer has.
        unchanged: Rows that the target has as they are.
        failed: Rows that could not be written, and were set aside.
        kept: Rows that the scan of the source did not meet, and that the source has all the same.
        kept_extra: Rows that only the target has, and that stay.
    """

    rows: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    kept: int = 0
    kept_extra: int = 0

    def plus(self, **counts: int) -> Synced:
        """With more of some."""
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})


@dataclass(frozen=True, slots=True)
class Policy:
    """What a sync may do.

    Attributes:
        dry_run: Nothing at all, but count.
        delete_extra: Delete rows that never came from the source.
        max_deletes: Delete so many rows; None is a tenth of those at the target, and at least a thousand.
        workers: Upserts at a time, at most.
    """

    dry_run: bool
    delete_extra: bool
    max_deletes: int | None
    workers: int


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """Rows of one page on their way to the target."""

    namespace: str
    source: Collection
    converter: Converter
    converted: pa.RecordBatch
    entries: ledger.Entries
    known: Mask
    validated: Validated
    delivery: Delivery
    done: Future[bool]


@dataclass(slots=True, eq=False)
class SyncRun:
    """Brings the target to what the source holds.

    Attributes:
        plan: What rows become.
        source: Where they are.
        target: Where they go.
        key: The hash key of all entries.
        baseline: What is at the target already.
        of_state: Whether the baseline is that of a state, so that all of it came from the source.
        seen: Takes an entry of each row that is at the target afterwards: the new state.
        journal: Records keys before their rows are touched; None without a state.
        aside: Takes rows that cannot be kept.
        pace: A limit to the rows a second.
        policy: What may be done.
        directory: For temporary files.
        progress: Is called with the counts so far, in the caller's thread.
        stop: Ends the pauses of the workers.
    """

    plan: Plan
    source: Side
    target: Side
    key: bytes
    baseline: Baseline
    of_state: bool
    seen: Ledger
    journal: SyncJournal | None
    aside: SetAside
    pace: Pace
    policy: Policy
    directory: Path
    progress: Callable[[Synced], None]
    stop: threading.Event
    counts: Synced = Synced()
    notes: list[str] = field(default_factory=list)
    _sent: deque[_Sent] = field(default_factory=deque)
    _touched: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Sends what differs, then deletes what has vanished.

        Raises:
            LossRefusedError: The source is empty, or more rows would be deleted than may be.
            InvalidRecordError: A row that cannot be kept, and no file for dead letters.
            VecbridgeError: What a side, the journal or the dead letters raise.
        """
        at_once = self.policy.workers if self.target.store.capabilities.parallel_requests > 1 else 1
        namespaces = self.source.namespaces() if self.plan.only is None else [self.plan.only]
        with ThreadPoolExecutor(at_once, thread_name_prefix="vecbridge-sync") as pool:
            try:
                for namespace in namespaces:
                    self._sync_namespace(namespace, pool, at_once)
                while self._sent:
                    self._settle()
            except BaseException:
                self.stop.set()
                raise
        self._flush()
        if not self.counts.rows and len(self.baseline):
            raise LossRefusedError(
                f"{self.plan.source} is empty, and {self.plan.target} has {len(self.baseline):,} rows of it: "
                "if that is right, drop the target",
                self.plan,
            )
        self._delete()
        self._flush()

    # ------------------------------------------------------------------------------------------- rows

    def _sync_namespace(self, namespace: str, pool: ThreadPoolExecutor, at_once: int) -> None:
        for _ in range(_ROUNDS):
            try:
                self._send_pages(namespace, pool, at_once)
                return
            except CursorExpiredError:
                while self._sent:  # a row that is read again must not overtake itself
                    self._settle()
                self.notes.append(f"namespace {namespace!r} was read again: its cursor had expired")
        raise CursorExpiredError(f"{self.plan.source}: its cursors expire faster than it can be read")

    def _send_pages(self, namespace: str, pool: ThreadPoolExecutor, at_once: int) -> None:
        source = self.source.collection(namespace)
        converter = Converter(self.plan, source.stored_spec, source.extra)
        condition = None if self.plan.filter is None else filters.from_dict(self.plan.filter)
        pages = reading.pages(
            source, converter.include, None, filter=condition, stop=self.stop,
            rows=reading.page_rows(self.plan.source_spec, self.plan.size, self.pace.rate),
        )  # fmt: skip
        for page in pages:
            self.pace.wait(page.rows)
            self._compare(namespace, source, converter, page, pool)
            while len(self._sent) > at_once:
                self._settle()
            self.progress(self.counts)

    def _compare(
        self, namespace: str, source: Collection, converter: Converter, page: reading.SourcePage,
        pool: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        """Sends the rows of a page that differ from the baseline."""
        converted = converter.convert(page.batch, namespace)
        if not self.plan.reaches(namespace):
            self._set_page_aside(namespace, source, converter, page, converted)
            return
        into = self.plan.target_namespace(namespace)
        entries = ledger.entries(converted, into, key=self.key)
        known, same = self.baseline.look_up(entries)
        self.seen.add(entries)
        self.counts = self.counts.plus(rows=page.rows, unchanged=int(same.sum()))
        if page.unfit:
            self._set_unfit_aside(namespace, source, converter, page)
        changed = np.flatnonzero(~same)
        if not len(changed):
            return
        entries, known = entries[changed], known[changed]
        if self.policy.dry_run:
            self._count_sent(known)
            return
        if self.journal is not None:
            self.journal.record(entries["key"])
        target = self.target.collection(into)
        rows = converted if len(changed) == converted.num_rows else converted.take(pa.array(changed))
        validated = validate(rows, target.stored_spec)
        delivery = Delivery(validated.part)
        done = pool.submit(deliver, target, delivery, self.stop)
        self._touched.add(into)
        self._sent.append(
            _Sent(namespace, source, converter, rows, entries, known, validated, delivery, done)
        )

    def _settle(self) -> None:
        """Waits until the oldest rows are written, and sets aside those that cannot be."""
        sent = self._sent.popleft()
        await_delivery(sent.done, (later.done for later in self._sent))
        failures = sorted([*sent.validated.failures, *sent.delivery.failures], key=lambda each: each.row)
        failed = np.array([failure.row for failure in failures], np.int64)
        self.seen.add(unsettled(sent.entries[failed]))  # tried again by the next sync
        self.counts = self.counts.plus(failed=len(failures))
        self._count_sent(np.delete(sent.known, failed))
        self.aside.take(Refused(sent.namespace, sent.source, sent.converter, sent.converted, failures, ()))

    def _count_sent(self, known: Mask) -> None:
        updated = int(known.sum())
        self.counts = self.counts.plus(updated=updated, inserted=len(known) - updated)

    def _set_unfit_aside(
        self, namespace: str, source: Collection, converter: Converter, page: reading.SourcePage
    ) -> None:
        """Rows that a batch cannot hold: what the target has of them stays, and they are dead letters."""
        self.counts = self.counts.plus(failed=len(page.unfit))
        ids: list[Any] = list(page.unfit)
        if self.plan.id_template is not None:
            ids = [parse_template(self.plan.id_template)(namespace, id) for id in ids]
        type = pa.string() if self.plan.spec.id_type == "string" else pa.int64()
        into = self.plan.target_namespace(namespace)
        self.seen.add(of_keys(ledger.keys(pa.array(ids, type), into, key=self.key)))
        if not self.policy.dry_run:
            self.aside.take(Refused(namespace, source, converter, page.batch, (), page.failures))

    def _set_page_aside(
        self, namespace: str, source: Collection, converter: Converter, page: reading.SourcePage,
        converted: pa.RecordBatch,
    ) -> None:  # fmt: skip
        """Rows of a namespace that the target cannot have."""
        self.counts = self.counts.plus(rows=page.rows, failed=page.rows)
        if not self.policy.dry_run:
            failures = unreachable(self.plan, namespace, converted)
            self.aside.take(Refused(namespace, source, converter, converted, failures, page.failures))

    def _flush(self) -> None:
        """Waits until the target shows what it acknowledged."""
        for namespace in sorted(self._touched):
            self.target.collection(namespace).flush(FLUSH_SECONDS)
        self._touched.clear()

    # ---------------------------------------------------------------------------------------- deletes

    def _delete(self) -> None:
        """Deletes rows of the target that the source no longer has."""
        seen = Baseline(sorted_entries(self.seen, self.directory / "seen"))
        vanished = 0
        for keys in self.baseline.parts():
            absent = keys[~seen.known(keys)]
            ours = int(self._ours(absent).sum())
            vanished += ours
            self.counts = self.counts.plus(kept_extra=len(absent) - ours)
        if not vanished and not (self.policy.delete_extra and self.of_state):
            return
        asked = SourceIds(self.plan, self.source, self.stop)
        for candidates in self._candidates(seen):
            there = asked.has(candidates)
            kept, gone = candidates.take(there), candidates.take(~there)
            self.seen.add(of_keys(kept.keys))  # sent by the next sync, or found to have vanished
            self.counts = self.counts.plus(kept=len(kept.keys), deleted=len(gone.keys))
            if len(gone.keys) and not self.policy.dry_run:
                self._delete_rows(gone)
            self.progress(self.counts)

    def _candidates(self, seen: Baseline) -> list[Candidates]:
        """Rows of the target that were not seen at the source and may be deleted.

        Raises:
            LossRefusedError: They are too many.
        """
        most = self.policy.max_deletes
        if most is None:
            most = max(FEWEST_DELETES, len(self.baseline) // 10)
        found: list[Candidates] = []
        number = 0
        for namespace in target_namespaces(self.plan, self.target):
            for ids in target_ids(namespace, self.target, key=self.key, stop=self.stop):
                candidates = ids.take(self._ours(ids.keys) & ~seen.known(ids.keys))
                number += len(candidates.keys)
                if len(candidates.keys) and number <= most:
                    found.append(candidates)
        if number > most:
            raise LossRefusedError(
                f"{number:,} rows of {self.plan.target} are no longer in {self.plan.source}, and at most "
                f"{most:,} are deleted: max_deletes={number} allows it",
                self.plan,
            )
        return found

    def _ours(self, keys: ledger.Keys) -> Mask:
        """Which rows of the target may be deleted, if the source does not have them."""
        if self.policy.delete_extra:
            return np.ones(len(keys), np.bool_)
        return self.baseline.known(keys) if self.of_state else self.baseline.unsettled(keys)

    def _delete_rows(self, gone: Candidates) -> None:
        if self.journal is not None:
            self.journal.record(gone.keys)
        target = self.target.collection(gone.namespace)
        retried(lambda: target.delete(gone.ids.to_pylist()), self.stop)
        self._touched.add(gone.namespace)
