"""The copy of a collection to another database: what is checked first, and what is reported at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Names
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.pacing import Pace
from vecbridge.errors import ConfigError, DeadlineError, Failure, LossRefusedError
from vecbridge.filters import AnyFilter
from vecbridge.front.arguments import require_count
from vecbridge.migration import planning
from vecbridge.migration.copyrun import CopyRun
from vecbridge.migration.journal import Copied, CopyJournal
from vecbridge.migration.naming import collection_name
from vecbridge.migration.opening import (
    Into,
    open_state,
    open_target,
    require_apart,
    require_into,
    require_readable,
    require_same_source,
    require_state,
    require_still_there,
    require_usable,
    taken_back,
)
from vecbridge.migration.planning import Transform
from vecbridge.migration.plans import Plan, require_kinds
from vecbridge.migration.preparing import require_pause
from vecbridge.migration.setaside import SetAside
from vecbridge.migration.sides import Side
from vecbridge.urls import StoreURL

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration did.

    Attributes:
        plan: What it went by.
        copied: What became of the rows, those of earlier runs of the journal included.
        resumed: Rows that an earlier run had copied.
        namespaces: Namespaces of the source.
        finished: When it was done.
        already_done: Whether an earlier run had finished it, so that this one did nothing.
        seconds: How long this run took.
        notes: What else there is to say, such as that a cursor had expired.
        failures: The first hundred rows that were set aside by this run.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory:///before") as store:
        ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2), if_exists="replace")
        ...     report = vb.migrate("memory:///before#photos", "memory:///after#photos", into="existing")
        >>> report.rows, report.written, report.failed
        (0, 0, 0)
    """

    plan: Plan
    copied: Copied
    resumed: int
    namespaces: int
    finished: datetime
    already_done: bool = False
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that were read."""
        return self.copied.rows

    @property
    def written(self) -> int:
        """Rows that the target acknowledged."""
        return self.copied.written

    @property
    def failed(self) -> int:
        """Rows that were set aside."""
        return self.copied.failed

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the plan."""
        return {
            "source": self.plan.source,
            "target": self.plan.target,
            **asdict(self.copied),
            "resumed": self.resumed,
            "namespaces": self.namespaces,
            "finished": self.finished.isoformat().replace("+00:00", "Z"),
            "already_done": self.already_done,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def migrate(
    source: str | StoreURL,
    target: str | StoreURL,
    *,
    plan: Plan | StrPath | None = None,
    rename: Mapping[str, str] | None = None,
    drop: Names[str] = (),
    filter: AnyFilter | None = None,
    id_template: str | None = None,
    allow: Iterable[str] = (),
    journal: StrPath | None = None,
    dead_letters: StrPath | None = None,
    max_rate: float | None = None,
    into: Into = "empty",
    state: StrPath | None = None,
    workers: int = 4,
    wait: float = 600.0,
    progress: Callable[[Copied], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> MigrationReport:
    """Copies a collection, all its namespaces included, to another database; the source is not altered.

    The copy is no point in time: rows that the source changes meanwhile may or may not be in it, and
    :func:`vecbridge.sync` brings them later.

    Args:
        source: URL of a collection; with ``?namespace=`` that one alone is copied.
        target: URL of the collection to make; with ``?namespace=`` all rows go there.
        plan: From :func:`vecbridge.plan`, or the file of one; without it, the plan is made here.
        rename: New names of columns, by their names at the source.
        drop: Columns that are left out.
        filter: Only rows that match.
        id_template: How ids are built, such as "{namespace}/{id}".
        allow: Losses of the schema to put up with, such as "index" or "field:title".
        journal: A file that records what is copied. The same call after a crash goes on there, and reads
            nothing that was copied before; after the end it does nothing.
        dead_letters: A file for rows that cannot be kept, with the reason; without one, the copy stops at the
            first such row.
        max_rate: Rows a second, at most.
        into: "empty" wants a target that is not there or has no rows; "existing" writes into one with rows.
        state: A file to be made of what was sent, from which :func:`vecbridge.sync` goes on.
        workers: Pages that are written at a time, at most.
        wait: Seconds to wait, when all is copied, for the target to build its index; a note says if it is
            not ready then. 0 leaves that to ``wait_ready``.
        progress: Called as pages are copied, by one thread at a time, with the sum so far.
        on_plan: Called with the plan before anything is made, also where its losses are then refused. Without
            it, the plan is made here without a look at rows, and says no size.
        source_options: Of the source's store, such as keys and passwords.
        target_options: Of the target's.

    Returns:
        What was copied.

    Raises:
        LossRefusedError: Something would be lost that was not allowed; nothing was made.
        InvalidRecordError: A row that cannot be kept, and no ``dead_letters``.
        CollectionExistsError: The target differs from the plan, or has rows already.
        JournalError: The journal is another copy's, or its target was dropped meanwhile.
        BackendError: A side refuses every request, or retries ran out.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory:///old") as store:
        ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2), if_exists="replace")
        ...     report = photos.upsert([{"id": "a", "vector": [1, 0]}])
        ...     vb.migrate("memory:///old#photos", "memory:///new#photos", into="existing").written
        1
    """
    start = time.monotonic()
    allowed = require_kinds(allow)
    require_into(into)
    require_count("workers", workers)
    require_pause("wait", wait)
    transform = Transform.of(rename, drop, filter, id_template)
    if plan is not None and transform.to_dict():
        raise ConfigError("rename, drop, filter and id_template stand in the plan: give them to vb.plan()")
    state_file = None if state is None else Path(state).absolute()
    stop = threading.Event()
    pace = Pace(max_rate, stop)
    with ExitStack() as stack:
        from_side = stack.enter_context(Side(source, source_options))
        to_side = stack.enter_context(Side(target, target_options, name=collection_name(from_side.name)))
        require_apart(from_side, to_side)
        opened = stack.enter_context(CopyJournal(journal))
        pinned = Plan.load(plan) if plan is not None else opened.plan
        if pinned is None:
            # nobody sees the size of the plan otherwise, and at some sources a count takes as long as a page
            wanted = on_plan is not None or state is not None
            pinned = planning.build(from_side, to_side, transform, sized=wanted)
        if opened.continues:
            asked = None if plan is not None else transform
            opened.require_same(from_side.url, to_side.url, pinned, asked, _text(state_file))
        pinned.require_sides(from_side.url, to_side.url)
        if opened.finished is not None:
            require_still_there(pinned, to_side, opened)
            return _already_done(pinned, opened)
        if on_plan is not None:
            on_plan(pinned)
        _require_allowed(pinned, allowed)
        require_same_source(pinned, from_side, opened)
        require_readable(pinned, from_side)
        require_usable(pinned, to_side, opened, into)
        if state_file is not None:
            require_state(state_file, pinned, opened)
        letters = None
        if dead_letters is not None:
            letters = stack.enter_context(DeadLetterFile(dead_letters, continuing=opened.continues))
        resumed = opened.copied.rows
        if not opened.continues:
            opened.begin(pinned, transform, _text(state_file))
        if open_target(pinned, to_side, opened, into):
            stack.enter_context(taken_back(to_side, opened, state_file))
        writer = None if state_file is None else open_state(state_file, pinned, opened)
        if writer is not None:
            stack.enter_context(writer)
        aside = SetAside(pinned, to_side.store, letters)
        run = CopyRun(pinned, from_side, to_side, opened, aside, pace, writer, workers, progress, stop)
        run.run()
        if writer is not None:
            writer.finish()
        finished, seconds = opened.finish(), time.monotonic() - start
        notes = (*run.notes, *_wait_ready(pinned, to_side, wait))
        return MigrationReport(
            pinned, opened.copied, resumed, len(opened.parts), finished,
            seconds=seconds, notes=notes, failures=tuple(aside.failures),
        )  # fmt: skip


def _wait_ready(plan: Plan, target: Side, wait: float) -> Iterator[str]:
    """Has the target build its index; what there is to say if it is not ready in time."""
    end = time.monotonic() + wait
    for namespace in target.namespaces() if plan.into is None else [plan.into]:
        if (left := end - time.monotonic()) <= 0:
            return
        try:
            target.collection(namespace).wait_ready(left)
        except DeadlineError as exc:
            yield f"the index is not ready yet: {exc}"
            return


def _already_done(plan: Plan, journal: CopyJournal) -> MigrationReport:
    assert journal.finished is not None
    copied, note = journal.copied, f"done on {journal.finished:%Y-%m-%d %H:%M} UTC; verify or sync compares"
    return MigrationReport(
        plan, copied, copied.rows, len(journal.parts), journal.finished, already_done=True, notes=(note,)
    )


def _require_allowed(plan: Plan, allowed: frozenset[str]) -> None:
    """Refuses a plan with losses that nobody allowed.

    Raises:
        LossRefusedError: Names them all.
    """
    refused = plan.refused(allowed)
    if not refused:
        return
    listed = "; ".join(f"{loss.kind} ({loss.subject}: {loss.detail})" for loss in refused)
    able = sorted({loss.kind for loss in refused if loss.kind != "metric"})
    hint = f": allow={able} accepts that" if able else ": nothing converts a metric"
    raise LossRefusedError(f"{plan.target} cannot keep {listed}{hint}", plan)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
