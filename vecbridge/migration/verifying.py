"""Verification: schema first, then counts, ids, contents and searches; nothing is altered on either side."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from numpy.typing import ArrayLike

from vecbridge import filters
from vecbridge.bulk.delivery import pause
from vecbridge.errors import BackendError, ConfigError, UnsupportedError
from vecbridge.migration import ledger, preparing, schemas
from vecbridge.migration.comparing import Comparison
from vecbridge.migration.plans import Level, Plan
from vecbridge.migration.proof import LEVELS, Finding, NamespaceCount, Proof, Recall, Scores
from vecbridge.migration.scope import Scope
from vecbridge.migration.search_level import SearchLevel
from vecbridge.migration.sides import Side
from vecbridge.names import is_namespace
from vecbridge.query import FloatArray, Status
from vecbridge.urls import StoreURL

StrPath = str | os.PathLike[str]
_POLL_SECONDS: Final = 0.5


#: Is called with the step of a verification, and how many of its rows are done, of how many.
OnProgress: TypeAlias = Callable[[str, int, int], None]


@dataclass(slots=True, eq=False)
class _State:
    """What a verification has found so far."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: list[NamespaceCount] = field(default_factory=list)
    recall: list[Recall] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    compared: int = 0

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds to the seconds of a step."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - start


def verify(
    source: str | StoreURL,
    target: str | StoreURL,
    *,
    plan: Plan | StrPath | None = None,
    level: Level = "search",
    queries: ArrayLike | None = None,
    min_recall: float | None = None,
    wait: float = 60.0,
    settle: float = 10.0,
    journal: StrPath | None = None,
    directory: StrPath | None = None,
    progress: OnProgress | None = None,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> Proof:
    """Compares a collection with its copy; builds nothing, locks nothing and alters nothing.

    The levels, each of which includes those before it: "count" compares schema, namespaces and numbers of
    rows; "ids" which rows there are; "content" every value of every row, by 8-byte digests; "search" asks
    both sides for the nearest rows and compares them with an exact search over the source.

    Args:
        source: URL of the source.
        target: URL of the copy.
        plan: What the copy went by, or the file of it. Without it, and without ``journal``, the copy should
            be what the source is: columns that differ are findings.
        level: How far to go.
        queries: Query vectors of your own, shape (n, dim); None mixes stored vectors.
        min_recall: The recall@10 that is enough, instead of 0.95; needed where a quantized index is meant to
            miss more than 0.05.
        wait: Seconds to wait for an index that is being built.
        settle: Seconds for which a difference is looked up again, since writes may become visible late.
        journal: The journal of the copy, to find the plan.
        directory: Where ledgers are spilled, 16 bytes a row and side; None is a temporary directory.
        progress: Called as rows are compared.
        source_options: Of the source's store, such as keys and passwords.
        target_options: Of the target's.

    Returns:
        The proof; ``passed`` says whether everything holds.

    Raises:
        ConfigError: No such level, or one that a side cannot do; no plan.
        JournalError: No journal of a copy.
        NotFoundError: A collection does not exist.
        SchemaError: The source no longer has what the plan takes from it.
        StorageFullError: No room for the ledgers.
        BackendError: A side refuses, or retries ran out.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
        >>> for name, year in (("kept", 2020), ("lost", None)):
        ...     with vb.connect(f"memory:///{name}") as store:
        ...         photos = store.create(spec, if_exists="replace")
        ...         report = photos.upsert([{"id": "a", "vector": [1, 0], "year": year}])
        >>> [finding] = vb.verify("memory:///kept#photos", "memory:///lost#photos", level="content").findings
        >>> finding.kind, finding.id, finding.column, finding.detail
        ('value', 'a', 'year', 'the value is lost: it is null')
    """
    if level not in LEVELS:
        raise ConfigError(f"level={level!r}: one of {', '.join(LEVELS)}")
    preparing.require_pause("wait", wait)
    preparing.require_pause("settle", settle)
    if min_recall is not None and not 0 < min_recall <= 1:
        raise ConfigError(f"min_recall={min_recall!r}: above 0, and 1 at most")
    asked = preparing.query_vectors(queries)
    if plan is not None and journal is not None:
        raise ConfigError("plan= and journal=: one of the two, since a journal holds the plan of its copy")
    given = preparing.plan_of_journal(Path(journal)) if journal is not None else None
    if plan is not None:
        given = Plan.load(plan)
    with ExitStack() as stack:
        from_side = stack.enter_context(Side(source, source_options))
        to_side = stack.enter_context(Side(target, target_options, name=from_side.name))
        for side in (from_side, to_side):
            side.collection(side.namespace or "")  # NotFoundError
        if given is not None:
            given.require_sides(from_side.url, to_side.url)
        schemas.require_level(level, from_side, to_side)
        pinned = given or schemas.derived_plan(from_side, to_side)
        place = stack.enter_context(preparing.scratch(directory))
        run = _Verification(pinned, from_side, to_side, given is None, level, place, progress)
        run.run(wait, settle, asked, min_recall)
        return run.proof()


class _Verification:
    """One run."""

    def __init__(
        self, plan: Plan, source: Side, target: Side, derived: bool, level: Level, directory: Path,
        progress: OnProgress | None,
    ) -> None:  # fmt: skip
        self._plan, self._source, self._target = plan, source, target
        self._derived, self._level, self._directory = derived, level, directory
        self._progress = progress
        self._state = _State()
        self._filter = None if plan.filter is None else filters.from_dict(plan.filter)

    def run(self, wait: float, settle: float, queries: FloatArray | None, min_recall: float | None) -> None:
        """Goes as far as the level asks, and as the findings allow."""
        state = self._state
        with state.timed("count"):
            agreed = schemas.agreement(self._plan, self._target_spec, derived=self._derived)
            state.findings += agreed.findings
            state.notes += agreed.notes
            for side in (self._source, self._target):
                self._make_visible(side)
            missing = self._missing_indexes(self._target)
            try:
                self._count(settle)
            except BackendError as exc:
                if not missing:
                    raise
                state.notes.append(f"rows were not compared, since the target gives none: {exc}")
                self._look_at_indexes(0, [self._target.namespace or ""])
                return
        if self._level == "count" or not self._worth_going_on(agreed):
            self._look_at_indexes(0)
            return
        assert agreed.plan is not None
        scope = Scope(agreed.plan, self._source, self._target, self._pairs())
        searches = None
        if self._level == "search":
            with state.timed("wait for the index"):
                self._look_at_indexes(wait)
            with state.timed("sample"):
                rows = {each.namespace: each.source for each in state.counts}
                missing |= self._missing_indexes(self._source)
                searchable = [each for each in agreed.searchable if each not in missing]
                searches = SearchLevel(scope, rows, searchable, queries)
        else:
            self._look_at_indexes(0)
        with state.timed("compare"):
            self._compare(scope, settle, searches)
        if searches is not None:
            with state.timed("search"):
                found = searches.judge(min_recall)
            if {each.kind for each in state.findings} & {"vector", "content"}:
                # scores that differ follow from vectors that do
                found = [each for each in found if each.kind != "scores"]
            state.findings += found
            state.recall, state.scores = searches.recall, searches.scores
            state.notes += searches.notes
        self._look_for_changes()

    def proof(self) -> Proof:
        """What was found."""
        state = self._state
        return Proof(
            not state.findings, tuple(state.findings), self._level, self._source.url, self._target.url,
            tuple(state.counts), self._plan, datetime.now(UTC).replace(microsecond=0), tuple(state.recall),
            tuple(state.scores), tuple(state.notes), preparing.versions(self._source, self._target),
            state.seconds, state.compared, self._derived,
        )  # fmt: skip

    @property
    def _target_spec(self) -> Any:
        return self._target.collection(self._target.namespace or "").stored_spec

    # ------------------------------------------------------------------------------------------ counts

    def _pairs(self) -> list[tuple[str, str]]:
        """Each namespace of the source with that of the target; without those that the target cannot have."""
        names = self._source.namespaces() if self._plan.only is None else [self._plan.only]
        pairs = [(name, self._plan.target_namespace(name)) for name in names]
        return [pair for pair in pairs if self._reached(pair[1])]

    def _reached(self, namespace: str) -> bool:
        """Whether the target can have such a namespace."""
        return namespace == "" or (self._target_spec.namespaced and is_namespace(namespace))

    def _count(self, settle: float) -> None:
        """Counts rows and namespaces, again for a while as long as they differ."""
        end = time.monotonic() + settle if self._eventual else 0.0
        stop = Scope(self._plan, self._source, self._target, ()).stop
        while True:
            counts, findings = self._counted()
            if not findings or time.monotonic() + _POLL_SECONDS > end:
                break
            pause(stop, _POLL_SECONDS)
        self._state.counts = counts
        self._state.findings += findings

    def _counted(self) -> tuple[list[NamespaceCount], list[Finding]]:
        names = self._source.namespaces() if self._plan.only is None else [self._plan.only]
        by_target: dict[str, list[str]] = {}
        for name in names:
            by_target.setdefault(self._plan.target_namespace(name), []).append(name)
        present = set(self._target.namespaces())
        counts, findings = [], []
        for target, sources in by_target.items():
            rows = sum(self._source.collection(each).count(self._filter) for each in sources)
            there = self._target.collection(target).count() if self._reached(target) else 0
            counts.append(NamespaceCount(target, tuple(sources), rows, there))
        total = sum(each.source for each in counts), sum(each.target for each in counts)
        if not total[0]:
            findings.append(Finding("empty", "the source has no rows, so that there is nothing to compare"))
        elif not total[1]:
            findings.append(Finding("empty", f"the target has no rows, and the source has {total[0]:,}"))
        else:
            findings += _count_findings(counts, self._reached)
        if self._plan.only is None and self._plan.into is None:
            for name in sorted(present - by_target.keys()):
                if more := self._target.collection(name).count():
                    detail = f"the source has no such namespace, and the target has {more:,} rows in it"
                    findings.append(Finding("namespace", detail, name))
        return counts, findings

    @property
    def _eventual(self) -> bool:
        sides = (self._source, self._target)
        return any(side.store.capabilities.consistency == "eventual" for side in sides)

    def _make_visible(self, side: Side) -> None:
        """Waits until what was written is visible, where that is not so at once; takes no lock."""
        if side.store.capabilities.consistency != "eventual":
            return
        for name in side.namespaces():
            try:
                side.collection(name).flush()
            except (UnsupportedError, BackendError) as exc:
                self._state.notes.append(f"{side.url}: cannot wait for its last writes ({exc})")
                return

    def _worth_going_on(self, agreed: schemas.Agreement) -> bool:
        """Whether deeper levels can be looked at."""
        kinds = {each.kind for each in self._state.findings}
        if agreed.plan is not None and "empty" not in kinds:
            return True
        skipped = LEVELS[1 : LEVELS.index(self._level) + 1]
        self._state.notes.append(f"not compared, since that cannot hold: {', '.join(skipped)}")
        return False

    # ------------------------------------------------------------------------------------------ indexes

    @staticmethod
    def _missing_indexes(side: Side) -> set[str]:
        """Vector fields that no search can be made with; some servers do not even give the rows then."""
        states = side.collection(side.namespace or "").status().indexes
        return {name for name, state in states.items() if state.startswith("missing")}

    def _look_at_indexes(self, wait: float, names: Sequence[str] | None = None) -> None:
        """Compares the indexes that the target has with those that it should have.

        Args:
            wait: Seconds to wait for one that is being built.
            names: Namespaces; None are all that have rows.
        """
        end = time.monotonic() + wait
        if names is None:
            names = [each.namespace for each in self._state.counts if each.target]
        stop = Scope(self._plan, self._source, self._target, ()).stop
        for name in names:
            collection = self._target.collection(name)
            status = collection.status()
            while "building" in status.indexes.values() and time.monotonic() + _POLL_SECONDS < end:
                pause(stop, _POLL_SECONDS)
                status = collection.status()
            found = list(schemas.built_findings(collection.stored_spec, name, status))
            if self._level != "search":  # an index that is being built is no fault yet
                found = [each for each in found if not schemas.is_unfinished(each)]
            self._state.findings += found
            self._note_unbuilt(name, status)

    def _note_unbuilt(self, namespace: str, status: Status) -> None:
        where = f" in namespace {namespace!r}" if namespace else ""
        for name, state in status.indexes.items():
            if state.startswith("exact"):
                self._state.notes.append(f"the index of {name!r}{where} is not built yet ({state})")
            elif status.built.get(name) is None and not state.startswith("missing"):
                why = "is being built" if state == "building" else "is not described by the server now"
                self._state.notes.append(
                    f"the index of {name!r}{where} {why}, and was not compared with what is declared"
                )

    # ------------------------------------------------------------------------------------------ rows

    def _compare(self, scope: Scope, settle: float, searches: SearchLevel | None) -> None:
        rows = sum(each.source + each.target for each in self._state.counts)
        ledger.require_room(self._directory, rows)
        done = 0

        def progressed(count: int) -> None:
            nonlocal done
            done += count
            if self._progress is not None:
                self._progress("compare", done, rows)

        comparison = Comparison(
            scope,
            self._directory,
            content=self._level != "ids",
            settle=settle,
            on_source=None if searches is None else searches.add,
            progress=progressed,
        )
        compared = comparison.run()
        self._state.compared = compared.rows
        self._state.findings += compared.findings
        self._state.notes += compared.notes
        if compared.surplus and not any(each.kind in ("missing", "extra") for each in compared.findings):
            mine, theirs = (sum(column) for column in zip(*_rows(self._state.counts), strict=True))
            if mine - theirs == compared.surplus:  # repeated ids explain it
                self._state.findings = [each for each in self._state.findings if each.kind != "count"]

    def _look_for_changes(self) -> None:
        """Whether the source is what it was when the verification began."""
        state = self._state
        if any(each.kind == "moved" for each in state.findings):
            return
        before = {each.namespace: each.source for each in state.counts}
        now = {each.namespace: each.source for each in self._counted()[0]}
        reopened = self._source.store.open(self._source.name, namespace=self._source.namespace or "")
        identity = self._source.collection(self._source.namespace or "").identity
        if before != now or reopened.identity != identity:
            detail = "the source changed during the verification: verify again"
            state.findings.append(Finding("moved", detail))


def _rows(counts: list[NamespaceCount]) -> list[tuple[int, int]]:
    return [(each.source, each.target) for each in counts]


def _count_findings(counts: list[NamespaceCount], reached: Callable[[str], bool]) -> Iterator[Finding]:
    for each in counts:
        if each.source and not reached(each.namespace):
            detail = f"the target cannot have it: its {each.source:,} rows are not there"
            yield Finding("namespace", detail, each.namespace)
        elif each.source and not each.target:
            detail = f"it was left behind: {each.source:,} rows at the source, none at the target"
            yield Finding("namespace", detail, each.namespace)
        elif each.source != each.target:
            detail = f"{each.source:,} rows at the source, {each.target:,} at the target"
            yield Finding("count", detail, each.namespace)
