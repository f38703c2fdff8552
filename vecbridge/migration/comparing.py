"""Compares the rows of both sides by their ledgers, and looks every difference up again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.bulk.delivery import pause
from vecbridge.migration import ledger
from vecbridge.migration.differing import row_findings, vector_bytes
from vecbridge.migration.ledger import Difference, Ledger
from vecbridge.migration.proof import Finding
from vecbridge.migration.scope import Rows, Scope

_AT_ONCE: Final = 8  # namespaces that are read at a time, of both sides together
_LOOKED_UP: Final = 100_000  # differences that are looked up again
_SHOWN: Final = 20  # rows that are compared field by field
_PAUSE: Final = 0.5
_KINDS: Final = {"left": "missing", "right": "extra", "digest": "content", "repeated": "repeated"}

_MORE: Final = {
    "missing": "are not at the target",
    "extra": "are not at the source",
    "content": "differ",
    "repeated": "have an id that comes more than once",
}

#: Is given every page of the source: the namespace at the target, and the converted rows.
OnSource = Callable[[str, pa.RecordBatch], None]


@dataclass(slots=True, eq=False)
class Compared:
    """What a comparison of rows found.

    Attributes:
        findings: What differs.
        notes: What else there is to say.
        rows: Rows of the source that were compared.
        surplus: Rows of the source beyond the first of their id, which the target cannot have.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    surplus: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row is: namespace and id at the source, None if it cannot be there, and at the target."""

    namespace: str | None
    id: str | int
    target: str
    target_id: str | int


class Comparison:
    """Compares the rows of both sides.

    Args:
        scope: Both sides.
        directory: An empty directory for the ledgers: 16 bytes a row and side.
        content: Compare what rows hold, and not only their ids.
        settle: Seconds for which differences are looked up again.
        on_source: Is given the pages of the source that are read on the way.
        progress: Is given the rows that were read, of both sides, as pages come.
    """

    def __init__(
        self,
        scope: Scope,
        directory: Path,
        *,
        content: bool,
        settle: float,
        on_source: OnSource | None = None,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._scope, self._content, self._settle = scope, content, settle
        self._on_source, self._progress = on_source, progress
        self._key = ledger.new_key()
        self._left, self._right = Ledger(directory / "source"), Ledger(directory / "target")
        self._unfit: dict[int, str] = {}  # by key, why a batch cannot hold a row of the source
        # several namespaces go to one, and nothing keeps their ids apart
        template = scope.plan.id_template or ""
        self._merges = len(scope.targets) < len(scope.pairs) and "{namespace}" not in template
        self._moved = False
        self._result = Compared()

    def run(self) -> Compared:
        """Reads both sides and compares them."""
        self._read()
        self._left.close()
        self._right.close()
        self._result.rows = self._left.rows
        differences, uncounted = self._differences()
        if differences:
            places = self._places(differences)
            left = self._settled(differences, places)
            self._describe(left, places, uncounted)
        if self._moved:
            self._result.findings.append(
                Finding("moved", "rows of the source changed during the verification: verify again")
            )
        return self._result

    # ------------------------------------------------------------------------------------------ reading

    def _read(self) -> None:
        """Spills the ledgers of both sides; both are read at the same time."""
        tasks: list[tuple[Callable[[str, str], None], str, str]] = [
            (self._read_source, source, target) for source, target in self._scope.pairs
        ]
        targets = [(self._read_target, "", target) for target in self._scope.targets]
        mixed = [each for pair in _interleaved(tasks, targets) for each in pair]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="vecbridge-verify") as pool:
            running = [pool.submit(task, source, target) for task, source, target in mixed]
            try:
                for done in as_completed(running):
                    done.result()
            except BaseException:
                self._scope.stop.set()
                for each in running:
                    each.cancel()
                raise

    def _read_source(self, namespace: str, target: str) -> None:
        for rows in self._scope.scan_source(namespace, content=self._content):
            self._left.add(ledger.entries(rows.batch, target, key=self._key))
            if rows.unfit:
                self._left.add(self._unfit_entries(namespace, target, rows))
            if self._on_source is not None and rows.batch.num_rows:
                self._on_source(target, rows.batch)
            self._progress(rows.batch.num_rows + len(rows.unfit))

    def _read_target(self, _: str, namespace: str) -> None:
        for rows in self._scope.scan_target(namespace, content=self._content):
            self._right.add(ledger.entries(rows.batch, namespace, key=self._key))
            self._progress(rows.batch.num_rows)

    def _unfit_entries(self, namespace: str, target: str, rows: Rows) -> ledger.Entries:
        ids = self._scope.target_ids(namespace, list(rows.unfit))
        entries = np.zeros(len(ids), ledger.ENTRY)  # their digest is that of no row
        type = pa.string() if self._scope.plan.spec.id_type == "string" else pa.int64()
        entries["key"] = ledger.keys(pa.array(ids, type), target, key=self._key)
        for key, reason in zip(entries["key"].tolist(), rows.unfit.values(), strict=True):
            self._unfit[key] = str(reason)
        return entries

    # ------------------------------------------------------------------------------------------ differences

    def _differences(self) -> tuple[dict[int, Difference], Counter[str]]:
        """By key what differs, and how many more differ than are looked up again."""
        found: dict[int, Difference] = {}
        more: Counter[str] = Counter()
        for each in ledger.compare(self._left, self._right):
            if each.kind == "repeated" and each.covered and not self._merges:
                self._result.surplus += len(each.left) - len(each.right)
            elif len(found) < _LOOKED_UP:
                found[each.key] = each
            else:
                more[_KINDS[each.kind]] += 1
        if self._result.surplus:
            self._result.notes.append(
                f"{self._result.surplus:,} rows of the source repeat an id; the target has one of each"
            )
        return found, more

    def _places(self, differences: dict[int, Difference]) -> dict[int, _Place]:
        """Where the rows that differ are, by key: both sides are read again, ids alone."""
        wanted = np.sort(np.fromiter(differences, np.uint64, len(differences)))
        found: dict[int, _Place] = {}
        for namespace in self._scope.targets:
            for rows in self._scope.scan_target(namespace, content=False):
                for key, row in self._among(rows.batch.column("id"), namespace, wanted):
                    id = rows.ids[row].as_py()
                    found[key] = _Place(None, id, namespace, id)
        for namespace, target in self._scope.pairs:
            for rows in self._scope.scan_source(namespace, content=False):
                for key, row in self._among(rows.batch.column("id"), target, wanted):
                    id, target_id = rows.ids[row].as_py(), rows.batch.column("id")[row].as_py()
                    found[key] = _Place(namespace, id, target, target_id)
        sources = {target: source for source, target in self._scope.pairs}
        if self._scope.plan.id_template is None:  # what only the target has may be at the source soon
            for key, place in found.items():
                if place.namespace is None:
                    found[key] = _Place(sources[place.target], place.id, place.target, place.target_id)
        return found

    def _among(self, ids: pa.Array, namespace: str, wanted: ledger.Keys) -> Iterator[tuple[int, int]]:
        keys = ledger.keys(ids, namespace, key=self._key)
        for row in np.flatnonzero(np.isin(keys, wanted)).tolist():
            yield int(keys[row]), row

    def _settled(
        self, differences: dict[int, Difference], places: dict[int, _Place]
    ) -> dict[int, Difference]:
        """The differences that stay when they are looked up again."""
        eventual = "eventual" in (
            self._scope.source.store.capabilities.consistency,
            self._scope.target.store.capabilities.consistency,
        )
        end = time.monotonic() + self._settle
        left = differences
        while True:
            began = time.monotonic()
            before = len(left)
            left = self._look_again(left, places)
            took = time.monotonic() - began
            changing = eventual or len(left) < before or self._moved
            if not left or not changing or time.monotonic() + max(_PAUSE, took) > end:
                return left
            pause(self._scope.stop, max(_PAUSE, took))

    def _look_again(
        self, differences: dict[int, Difference], places: dict[int, _Place]
    ) -> dict[int, Difference]:
        known = [places[key] for key in differences if key in places]
        mine = self._now(known, source=True)
        theirs = self._now(known, source=False)
        left: dict[int, Difference] = {}
        for key, was in differences.items():
            source, target = mine.get(key), theirs.get(key)
            if source is None and key in self._unfit:
                source = ledger.UNSETTLED
            if was.kind == "repeated":  # a fetch gives one row an id: what the scan gave holds
                left[key] = was
                continue
            if source != (was.left[0] if was.left else None):
                self._moved = True
            if source != target:
                kind: ledger.Kind = "left" if target is None else "right" if source is None else "digest"
                left[key] = Difference(
                    kind, key, () if source is None else (source,), () if target is None else (target,)
                )
        return left

    def _now(self, places: Sequence[_Place], *, source: bool) -> dict[int, int]:
        """The digests that rows have now, by key."""
        found: dict[int, int] = {}
        for batch, target in self._fetched(places, source=source):
            entries = ledger.entries(batch, target, key=self._key)
            found.update(zip(entries["key"].tolist(), entries["digest"].tolist(), strict=True))
        return found

    def _fetched(
        self, places: Iterable[_Place], *, source: bool, content: bool | None = None
    ) -> Iterator[tuple[pa.RecordBatch, str]]:
        """Rows of one side as they are now, with their namespace at the target."""
        content = self._content if content is None else content
        grouped: dict[tuple[str, str], list[str | int]] = {}
        for place in places:
            if not source:
                grouped.setdefault(("", place.target), []).append(place.target_id)
            elif place.namespace is not None:
                grouped.setdefault((place.namespace, place.target), []).append(place.id)
        for (namespace, target), ids in grouped.items():
            if source:
                batch, unfit = self._scope.fetch_source(namespace, ids, content=content)
                self._note_unfit(namespace, target, unfit)
            else:
                batch, _ = self._scope.fetch_target(target, ids, content=content)
            yield batch, target

    def _note_unfit(self, namespace: str, target: str, unfit: dict[Any, str]) -> None:
        if unfit:
            type = pa.string() if self._scope.plan.spec.id_type == "string" else pa.int64()
            ids = pa.array(self._scope.target_ids(namespace, list(unfit)), type)
            keys = ledger.keys(ids, target, key=self._key).tolist()
            self._unfit |= dict(zip(keys, unfit.values(), strict=True))

    # ------------------------------------------------------------------------------------------ findings

    def _describe(
        self, differences: dict[int, Difference], places: dict[int, _Place], uncounted: Counter[str]
    ) -> None:
        """A finding for each of the first rows, and one a kind for all others."""
        shown = _mixed(differences.values(), _SHOWN)
        more = Counter(_KINDS[each.kind] for each in differences.values()) + uncounted
        where = [places[each.key] for each in shown if each.key in places]
        mine = dict(self._rows(where, source=True))
        theirs = dict(self._rows(where, source=False))
        owners: dict[bytes, str | int] = {}
        if self._content:
            owners = {
                data: id for row in mine.values() for data, id in vector_bytes(row, self._scope.plan.spec)
            }
        found: list[Finding] = []
        for each in shown:
            if each.key not in places:
                continue
            more[_KINDS[each.kind]] -= 1
            found += self._row(each, places[each.key], mine.get(each.key), theirs.get(each.key), owners)
        self._result.findings += sorted(found, key=lambda each: each.kind)
        for kind, count in sorted((+more).items()):
            self._result.findings.append(Finding(kind, f"{count:,} more rows {_MORE[kind]}"))

    def _rows(self, places: Sequence[_Place], *, source: bool) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Single rows by key, with all columns."""
        for batch, target in self._fetched(places, source=source, content=True):
            keys = ledger.keys(batch.column("id"), target, key=self._key).tolist()
            for row, key in enumerate(keys):
                yield key, batch.slice(row, 1)

    def _row(
        self,
        difference: Difference,
        place: _Place,
        mine: pa.RecordBatch | None,
        theirs: pa.RecordBatch | None,
        owners: dict[bytes, str | int],
    ) -> list[Finding]:
        spec = self._scope.plan.spec
        namespace, id = place.target, place.target_id
        if difference.kind == "left":
            reason = self._unfit.get(difference.key)
            if reason is None and mine is not None:
                reason = self._scope.refusal(mine, namespace)
            detail = "it is not at the target" + ("" if reason is None else f": set aside, since {reason}")
            return [Finding("missing", detail, namespace, id)]
        if difference.kind == "right":
            return [Finding("extra", "it is not at the source", namespace, id)]
        if difference.kind == "repeated":
            detail = (
                f"{len(difference.left)} rows of the source have this id, "
                f"{len(difference.right)} of the target"
            )
            if self._merges:
                detail += ": an id template with {namespace} keeps them apart"
            return [Finding("repeated", detail, namespace, id)]
        if mine is None or theirs is None:
            return [Finding("value", "the row differs", namespace, id)]
        found = list(row_findings(mine, theirs, spec, namespace, owners))
        return found or [Finding("value", "the row differed, and no longer does", namespace, id)]


def _interleaved(left: Sequence[Any], right: Sequence[Any]) -> Iterator[list[Any]]:
    for number in range(max(len(left), len(right))):
        yield [*left[number : number + 1], *right[number : number + 1]]


def _mixed(differences: Iterable[Difference], most: int) -> list[Difference]:
    """Some differences, of each kind as many."""
    by_kind: dict[str, list[Difference]] = {}
    for each in differences:
        by_kind.setdefault(each.kind, []).append(each)
    mixed: list[Difference] = []
    for number in range(most):
        mixed += [each[number] for each in by_kind.values() if number < len(each)]
    return mixed[:most]
