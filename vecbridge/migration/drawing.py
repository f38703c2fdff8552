"""Queries and filters for a verification, drawn from the rows of the source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.errors import SchemaError, UnsupportedError
from vecbridge.filters import Cmp, Contains, Filter, to_dict
from vecbridge.migration.scope import Scope
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, Field

SHARES: Final = (0.5, 0.1, 0.01)
NOISE: Final = 0.05  # of the length of a mixture
_NEAR: Final = 2.5  # a share counts as near another up to this factor
_BETTER: Final = 0.2  # how much nearer (in logarithms) another filter must be to take the place of one
_FETCHED: Final = 1_000
_PARTNERS: Final = 5  # near rows of the sample that one is mixed with
_OPPOSED: Final = 1e-6  # of the length of a vector: a mixture that short has no direction
_BLOCK: Final = 500  # rows of the sample that are compared at a time

Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Random: TypeAlias = np.random.Generator
Wide: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Places: TypeAlias = "np.ndarray[Any, np.dtype[np.intp]]"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A filter that was drawn from the data.

    Attributes:
        filter: In the names of the target.
        source: The same in the names of the source; None where the source has another name or layout for the
            field, so that it is not asked.
        near: The share of the rows that it was drawn for.
    """

    filter: Cmp | Contains
    source: Filter | None
    near: float

    def mask(self, batch: pa.RecordBatch) -> Mask:
        """Which rows match; a null matches nothing."""
        return matching(self.filter, batch)

    @property
    def json(self) -> dict[str, Any]:
        """The filter as JSON."""
        return to_dict(self.filter)


def matching(filter: Cmp | Contains, batch: pa.RecordBatch) -> Mask:
    """Which rows of a batch match a filter; shape (rows,)."""
    column = batch.column(filter.name)
    if isinstance(filter, Contains):
        hits = pc.equal(column.flatten(), pa.scalar(filter.value, column.type.value_type))
        rows = np.zeros(len(column), np.bool_)
        rows[records.numbers(pc.list_parent_indices(column).filter(hits)).astype(np.intp)] = True
        return rows
    compare = {"==": pc.equal, "<=": pc.less_equal}[filter.op]
    found = compare(column, pa.scalar(filter.value, column.type))
    return records.booleans(pc.fill_null(found, False))


def sample(scope: Scope, namespace: str, rows: int, random: Random) -> pa.RecordBatch | None:
    """Rows of a namespace, chosen evenly among all of them, as the plan converts them.

    The ids of the whole namespace are read, which costs little beside its vectors, and the rows that were
    chosen are fetched: the first rows of each part would come cheaper, and would be alike where the rows are
    in the order in which they were made.

    Args:
        scope: Both sides.
        namespace: At the target.
        rows: How many, at most.
        random: Chooses them.

    Returns:
        The rows; None if there are none.
    """
    chosen: list[tuple[float, str, str | int]] = []
    for source in scope.sources(namespace):
        for page in scope.scan_source(source, content=False):
            keys = random.random(len(page.ids))
            worst = chosen[-1][0] if len(chosen) == rows else math.inf
            places = np.flatnonzero(keys < worst)
            ids = page.ids.take(pa.array(places)).to_pylist()
            chosen += zip(keys[places].tolist(), [source] * len(ids), ids, strict=True)
            chosen = sorted(chosen, key=lambda each: each[0])[:rows]
    parts = []
    for source in scope.sources(namespace):
        ids = [id for _, where, id in chosen if where == source]
        for start in range(0, len(ids), _FETCHED):
            batch, _ = scope.fetch_source(source, ids[start : start + _FETCHED])
            parts.append(batch)
    found = pa.concat_batches(parts) if parts else None
    return found if found is not None and found.num_rows else None


def mixtures(vectors: FloatArray, count: int, random: Random) -> FloatArray:
    """Query vectors: mixtures of two or three stored ones that are near each other, with noise.

    Mixtures of any two rows would lie where no data are, and no application asks there: over 100,000 rows in
    200 clusters an HNSW graph finds 0.93 of their neighbours, and 0.998 of those of mixtures of near rows.

    Args:
        vectors: Stored vectors, shape (n, dim), n >= 1.
        count: How many.
        random: Chooses and weighs them.

    Returns:
        float32, shape (count, dim), finite, none of them zero; none where all stored ones are zero.
    """
    usable = vectors[np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)].astype(np.float64)
    if not len(usable):
        return np.empty((0, vectors.shape[1]), np.float32)
    firsts = random.integers(0, len(usable), count)
    partners = _neighbours(usable)[firsts[:, None], random.integers(0, _PARTNERS, (count, 2))]
    weights = random.dirichlet([1.0, 1.0, 1.0], count)
    weights[::2, 2] = 0  # half of them of two
    weights /= weights.sum(axis=1, keepdims=True)
    mixed = weights[:, 0, None] * usable[firsts]
    for place in range(2):
        mixed += weights[:, place + 1, None] * usable[partners[:, place]]
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    noise = random.standard_normal(mixed.shape) / math.sqrt(mixed.shape[1])
    mixed += NOISE * lengths * noise
    opposed = lengths[:, 0] <= _OPPOSED * np.linalg.norm(usable[firsts], axis=1)
    mixed[opposed] = usable[firsts[opposed]]
    largest = float(np.finfo(np.float32).max)
    queries = np.clip(mixed, -largest, largest).astype(np.float32)
    return queries[queries.any(axis=1)]


def _neighbours(vectors: Wide) -> Places:
    """For each vector the positions of some of those nearest to it by direction."""
    most = min(_PARTNERS, len(vectors))
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.empty((len(vectors), most), np.intp)
    for start in range(0, len(vectors), _BLOCK):
        part = directions[start : start + _BLOCK] @ directions.T
        part[np.arange(len(part)), np.arange(start, start + len(part))] = -2.0
        found[start : start + _BLOCK] = np.argpartition(-part, most - 1, axis=1)[:, :most]
    return found[:, np.arange(_PARTNERS) % most]


def filters_of(rows: pa.RecordBatch, scope: Scope) -> list[Drawn]:
    """For each share a filter that about so many of the rows match, if there is one.

    Args:
        rows: A sample, in the schema of the target.
        scope: Both sides, whose capabilities say which filters they take.
    """
    drawn: list[Drawn] = []
    for near in SHARES:
        best: tuple[float, Drawn] | None = None
        for filter in _candidates(rows, scope.plan.spec, near):
            share = float(matching(filter, rows).mean())
            distance = abs(math.log(max(share, 1e-9) / near))
            if distance > math.log(_NEAR) or (best is not None and distance > best[0] - _BETTER):
                continue
            if (taken := _taken(filter, scope, near)) is not None:
                best = distance, taken
        if best is not None:
            drawn.append(best[1])
    return drawn


def _candidates(rows: pa.RecordBatch, spec: CollectionSpec, near: float) -> Iterator[Cmp | Contains]:
    for field in spec.fields:
        column = rows.column(field.name).drop_null()
        if field.type == "json" or not len(column):
            continue
        if pa.types.is_list(column.type):
            for value in _frequent(column.flatten(), near * len(rows), field):
                yield Contains(field.name, value)
            continue
        for value in _frequent(column, near * len(rows), field):
            yield Cmp(field.name, "==", value)
        if field.type in ("int64", "float64", "timestamp"):
            place = min(len(column) - 1, round(near * rows.num_rows))
            yield Cmp(field.name, "<=", column.take(pc.sort_indices(column))[place].as_py())


def _frequent(values: pa.Array, wanted: float, field: Field) -> list[Any]:
    """Values that occur about so often, the closest first."""
    if not len(values) or field.type == "list<float64>" or field.type == "float64":
        return []
    counted = pc.value_counts(values)
    counts = records.numbers(counted.field("counts")).astype(np.float64)
    order = np.argsort(np.abs(np.log(counts / max(wanted, 0.5))), kind="stable")[:3]
    found: list[Any] = counted.field("values").take(pa.array(order)).to_pylist()
    return found


def _taken(filter: Cmp | Contains, scope: Scope, near: float) -> Drawn | None:
    """The filter with the source's name for its field; None if the target does not take it."""
    source, target = scope.source, scope.target
    try:
        opened = target.collection(scope.pairs[0][1])
        opened.capabilities.resolve_filter(filter, opened.stored_spec)
    except (UnsupportedError, SchemaError):
        return None
    names = {column.name: column.source for column in scope.plan.columns}
    mine: Filter = (
        Contains(names[filter.name], filter.value)
        if isinstance(filter, Contains)
        else Cmp(names[filter.name], filter.op, filter.value)
    )
    if scope.filter is not None:
        mine = mine & scope.filter
    here = source.collection(scope.pairs[0][0])
    try:
        here.capabilities.resolve_filter(mine, here.stored_spec)
    except (UnsupportedError, SchemaError):
        return Drawn(filter, None, near)
    return Drawn(filter, mine, near)


def shares(total: int, rows: Sequence[int], least: int) -> list[int]:
    """Queries of each namespace: in proportion to its rows, and not below ``least`` where it has any."""
    all_rows = max(sum(rows), 1)
    return [max(least, round(total * each / all_rows)) if each else 0 for each in rows]
