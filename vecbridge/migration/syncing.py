"""Keeps a copy up to date: sends what changed at the source since the last time."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from vecbridge import filters
from vecbridge.agreement import require_agreement
from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.pacing import Pace
from vecbridge.errors import ConfigError, Failure, JournalError, NotFoundError, SchemaError
from vecbridge.filters import AnyFilter
from vecbridge.front.arguments import require_count
from vecbridge.migration import ledger, planning, reading
from vecbridge.migration.baseline import Baseline, SyncJournal, of_keys, sorted_entries, with_unsettled
from vecbridge.migration.deletions import target_namespaces
from vecbridge.migration.naming import collection_name
from vecbridge.migration.planning import Transform
from vecbridge.migration.plans import Plan
from vecbridge.migration.setaside import SetAside
from vecbridge.migration.sides import Side
from vecbridge.migration.statefile import State, StateHeader, scratch, write_state
from vecbridge.migration.syncrun import Policy, Synced, SyncRun
from vecbridge.urls import StoreURL

StrPath: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, or, in a dry run, would do.

    Attributes:
        plan: What it went by.
        rows: Rows of the source that were read.
        inserted: Rows that the target did not have.
        updated: Rows that the target had otherwise.
        deleted: Rows that the source no longer has.
        unchanged: Rows that the target had as they are.
        failed: Rows that could not be written and were set aside; the next sync tries them again.
        kept: Rows that the scan of the source did not meet, and that the source has all the same, since they
            were inserted meanwhile.
        kept_extra: Rows that only the target has, and that stay; looked at where there was no state.
        dry_run: Whether nothing was changed.
        compared: "state" if the source was compared with what was sent last time, "target" if with all rows
            of the target.
        seconds: How long it took.
        notes: What else there is to say.
        failures: The first hundred rows that were set aside.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("notes", dim=2)
        >>> with vb.connect("memory:///mine") as mine, vb.connect("memory:///yours") as yours:
        ...     notes, copy = (store.create(spec, if_exists="replace") for store in (mine, yours))
        ...     report = notes.upsert([{"id": "a", "vector": [1, 0]}])
        ...     report = vb.sync("memory:///mine#notes", "memory:///yours#notes", dry_run=True)
        >>> report.inserted, report.changes, report.dry_run
        (1, 1, True)
    """

    plan: Plan
    rows: int
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    failed: int
    kept: int
    kept_extra: int
    dry_run: bool
    compared: str
    seconds: float
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def changes(self) -> int:
        """Rows that were inserted, updated or deleted."""
        return self.inserted + self.updated + self.deleted

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the plan."""
        names = [field.name for field in fields(self) if field.name not in ("plan", "failures")]
        values = {name: getattr(self, name) for name in names}
        sides = {"source": self.plan.source, "target": self.plan.target}
        return sides | values | {"seconds": round(self.seconds, 3), "notes": list(self.notes)}


def sync(
    source: str | StoreURL,
    target: str | StoreURL,
    *,
    state: StrPath | None = None,
    plan: Plan | StrPath | None = None,
    filter: AnyFilter | None = None,
    dry_run: bool = False,
    max_deletes: int | None = None,
    delete_extra: bool = False,
    dead_letters: StrPath | None = None,
    max_rate: float | None = None,
    workers: int = 4,
    progress: Callable[[Synced], None] | None = None,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> SyncReport:
    """Brings a copy to what its source holds now: inserts, updates and deletes.

    The source is read once, and needs no column that says when a row was changed: what each row holds is
    compared with the state file, which has 16 bytes a row. Rows that the source changes meanwhile may or may
    not be in it; the next sync brings them. A run that was cut off is repeated by the same call.

    Args:
        source: URL of a collection; with ``?namespace=`` that one alone is read.
        target: URL of its copy, which must exist; with ``?namespace=`` all rows go there.
        state: A file that says what the target has; written by ``migrate(state=)`` or by an earlier sync.
            Where it does not exist yet, the whole target is read and compared, and the file is made. None
            compares so every time.
        plan: From :func:`vecbridge.plan`, or the file of one; without it, that of the state.
        filter: Only rows that match, where neither a plan nor a state says so already.
        dry_run: Change nothing, not even the state, and count what would be done.
        max_deletes: More rows are not deleted; None is a tenth of the rows, and at least 1,000.
        delete_extra: Delete also rows of the target that never came from the source.
        dead_letters: A file for rows that cannot be kept, with the reason; without one, the sync stops at the
            first such row.
        max_rate: Rows a second that are read, at most.
        workers: Upserts at a time, at most.
        progress: Called with the counts so far.
        source_options: Of the source's store, such as keys and passwords.
        target_options: Of the target's.

    Returns:
        What was done.

    Raises:
        NotFoundError: The source or the target does not exist.
        JournalError: The state is of another migration, or damaged, or another run uses it.
        LossRefusedError: The source is empty, or more rows would be deleted than ``max_deletes``; none was.
        InvalidRecordError: A row that cannot be kept, and no ``dead_letters``.
        StorageFullError: No room for the state, 16 bytes a row and side.
        BackendError: A side refuses every request, or retries ran out.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("items", dim=2)
        >>> with vb.connect("memory:///first") as first, vb.connect("memory:///second") as second:
        ...     items, copy = (store.create(spec, if_exists="replace") for store in (first, second))
        ...     report = items.upsert([{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}])
        ...     report = copy.upsert([{"id": "a", "vector": [0, 1]}])
        ...     report = vb.sync("memory:///first#items", "memory:///second#items")
        >>> report.inserted, report.updated, report.deleted
        (1, 1, 0)
    """
    start = time.monotonic()
    require_count("workers", workers)
    if max_deletes is not None and max_deletes < 0:
        raise ConfigError(f"max_deletes={max_deletes}: a whole number from 0, or None")
    stop = threading.Event()
    pace = Pace(max_rate, stop)
    policy = Policy(dry_run, delete_extra, max_deletes, workers)
    path = None if state is None else Path(state)
    with ExitStack() as stack:
        from_side = stack.enter_context(Side(source, source_options))
        to_side = stack.enter_context(Side(target, target_options, name=collection_name(from_side.name)))
        previous = _read_state(path)
        pinned = _pinned_plan(plan, filter, previous, from_side, to_side)
        header = _header(pinned, from_side, to_side, previous, path)
        journal = _open_journal(stack, path, header, has_state=previous is not None, dry_run=dry_run)
        header = header if journal is None else journal.header
        directory = stack.enter_context(_directory(None if dry_run else path))
        _require_room(pinned, from_side, to_side, directory)
        baseline = _baseline(pinned, to_side, previous, journal, header.key, directory, stop)
        letters = None
        if dead_letters is not None and not dry_run:
            letters = stack.enter_context(DeadLetterFile(dead_letters, continuing=True))
        aside = SetAside(pinned, to_side.store, letters)
        seen = ledger.Ledger(directory / "source")
        run = SyncRun(
            pinned, from_side, to_side, header.key, baseline, previous is not None, seen,
            None if dry_run else journal, aside, pace, policy, directory, progress or _no_progress, stop,
        )  # fmt: skip
        run.run()
        if path is not None and journal is not None and not dry_run:
            write_state(path, replace(header, plan=pinned), seen)
            journal.clear()
        return SyncReport(
            pinned, **asdict(run.counts), dry_run=dry_run, compared="state" if previous else "target",
            seconds=time.monotonic() - start, notes=tuple(run.notes), failures=tuple(aside.failures),
        )  # fmt: skip


def _no_progress(counts: Synced) -> None:
    """Default progress callback: does nothing."""


def _read_state(path: Path | None) -> State | None:
    """The last state; None if there is none yet.

    Raises:
        JournalError: It is damaged, or the copy that makes it is not finished.
    """
    if path is None:
        return None
    partial = path.with_name(path.name + ".partial")
    if partial.exists():
        raise JournalError(f"{partial}: the copy that makes {path} is not finished: run it again, then sync")
    return State.read(path) if path.exists() else None


def _pinned_plan(
    plan: Plan | StrPath | None, filter: AnyFilter | None, state: State | None, source: Side, target: Side
) -> Plan:
    """The plan that was given, that of the state, or one that is made now.

    Raises:
        NotFoundError: There is no target.
        ConfigError: A filter that is not the one of the plan.
    """
    if source.url == target.url:
        raise ConfigError(f"{target.url} is the source itself: name another collection or namespace")
    if not target.exists():
        raise NotFoundError(f"{target.url} does not exist: vecbridge migrate makes it")
    transform = Transform.of(None, (), filter, None)
    if plan is not None:
        pinned = Plan.load(plan)
    elif state is not None:
        pinned = state.header.plan
    else:
        return planning.build(source, target, transform, sized=False)
    if filter is not None and transform.filter != pinned.filter:
        raise ConfigError("filter: the plan that was made for this copy has another one: leave it out")
    return pinned


def _header(plan: Plan, source: Side, target: Side, state: State | None, path: Path | None) -> StateHeader:
    """What this sync belongs to, with the hash key of the state.

    Raises:
        ConfigError: URLs that are not those of the plan.
        JournalError: The state belongs to another migration.
        SchemaError: The source is not the one of the plan, or the target no longer fits it.
    """
    opened, copy = source.collection(source.namespace or ""), target.collection(target.namespace or "")
    header = StateHeader(plan, opened.identity, copy.identity)
    if state is not None and path is not None:
        header = replace(header, key=state.header.key)
        there = replace(plan, source=source.url, target=target.url)
        state.header.require_same(replace(header, plan=there), path)
    plan.require_sides(source.url, target.url)
    if opened.identity != plan.source_identity:
        raise SchemaError(f"{plan.source} was made anew since the plan was made: make a new plan")
    require_agreement(copy.stored_spec, plan.spec)
    if plan.filter is not None:
        opened.capabilities.resolve_filter(filters.from_dict(plan.filter), opened.stored_spec)
    return header


def _open_journal(
    stack: ExitStack, path: Path | None, header: StateHeader, *, has_state: bool, dry_run: bool
) -> SyncJournal | None:
    """The journal beside the state; for a dry run only if there is one already."""
    if path is None:
        return None
    beside = path.with_name(path.name + ".journal")
    if dry_run and not beside.exists():
        return None
    beside.parent.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(SyncJournal(beside, header, has_state=has_state))


@contextmanager
def _directory(path: Path | None) -> Iterator[Path]:
    """Where temporary files go: beside the state, where there is one to be written."""
    if path is not None:
        with scratch(path) as directory:
            yield directory
    else:
        with tempfile.TemporaryDirectory(prefix="vecbridge-sync-") as name:
            yield Path(name)


def _require_room(plan: Plan, source: Side, target: Side, directory: Path) -> None:
    """Refuses to start where the ledgers find no room: two of each side, while they are sorted."""
    sides = [(source, source.namespaces() if plan.only is None else [plan.only])]
    sides.append((target, target_namespaces(plan, target)))
    rows = sum(side.collection(each).status().rows for side, namespaces in sides for each in namespaces)
    ledger.require_room(directory, 2 * rows)


def _baseline(
    plan: Plan, target: Side, state: State | None, journal: SyncJournal | None, key: bytes, directory: Path,
    stop: threading.Event,
) -> Baseline:  # fmt: skip
    """What the target has, as far as that is certain."""
    entries = state.entries if state is not None else _scanned(plan, target, key, directory, stop)
    touched = journal.touched() if journal is not None else iter(())
    first = next(touched, None)
    if first is None:
        return Baseline(entries)

    def all_touched() -> Iterator[ledger.Keys]:
        yield first
        yield from touched

    return Baseline(with_unsettled(entries, all_touched(), directory))


def _scanned(plan: Plan, target: Side, key: bytes, directory: Path, stop: threading.Event) -> ledger.Entries:
    """The entries of all rows of the target."""
    found = ledger.Ledger(directory / "target")
    columns = plan.spec.column_names[1:]
    type = pa.string() if plan.spec.id_type == "string" else pa.int64()
    for namespace in target_namespaces(plan, target):
        for page in reading.pages(target.collection(namespace), columns, None, stop=stop):
            found.add(ledger.entries(page.batch, namespace, key=key))
            if page.unfit:
                ids = pa.array(list(page.unfit), type)
                found.add(of_keys(ledger.keys(ids, namespace, key=key)))
    return sorted_entries(found, directory / "sorted")
