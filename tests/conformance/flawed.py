"""Drivers with one flaw each, of kinds that real adapters have had; the suite must find every one."""

from __future__ import annotations

import dataclasses
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.driver import KeyedPage, SearchResult
from vecbridge.filters import And, IsNull, Not, Or
from vecbridge.indexes import Auto
from vecbridge.query import Hits
from vecbridge.schema import Metric
from vecbridge.stores.memory import MemoryCollection, MemoryDriver
from vecbridge.testing.cases import StoreCase

Base = MemoryCollection
FLAWS: dict[str, tuple[str, type[Base]]] = {}  # by id: the test that must fail, and the collection


def flaw(found_by: str) -> Any:
    def register(cls: type[Base]) -> type[Base]:
        FLAWS[cls.__name__.lower()] = (found_by, cls)
        return cls

    return register


def rebuilt(batch: pa.RecordBatch, **columns: Any) -> pa.RecordBatch:
    arrays = {name: columns.get(name, batch.column(name)) for name in batch.schema.names}
    return pa.RecordBatch.from_arrays(
        [pa.array(each, batch.schema.field(name).type) for name, each in arrays.items()], schema=batch.schema
    )


@flaw("test_recall_with_filters_that_keep_little_anywhere_or_in_one_region")
class FiltersAfterTopK(Base):
    def search(self, request):
        kept = {row[1]["id"] for row in self._matching(request.filter)}
        result = super().search(dataclasses.replace(request, filter=None))
        masks = [[key in kept for key in hits.ids] for hits in result.hits]
        return SearchResult([
            Hits(np.array(hits.ids, object)[mask].tolist(), hits.scores[mask])
            for hits, mask in zip(result.hits, masks, strict=True)
        ])  # fmt: skip


@flaw("test_conditions_inside_conditions_keep_what_they_say")
class DropsNestedOr(Base):
    def _matching(self, condition):
        if isinstance(condition, And):
            condition = And(tuple(each for each in condition.items if not isinstance(each, Or)))
        return super()._matching(condition)


@flaw("test_comparisons_on_each_type_keep_the_rows_that_the_oracle_keeps")
class NullMatchesNot(Base):
    def _matching(self, condition):
        match condition:
            case Not(IsNull()) | None:
                return super()._matching(condition)
            case Not(item):
                dropped = {row[0] for row in super()._matching(item)}
                return [row for row in super()._matching(None) if row[0] not in dropped]
        return super()._matching(condition)


@flaw("test_a_record_is_replaced_whole_so_a_column_left_out_becomes_null")
class MergesInsteadOfReplacing(Base):
    def prepare(self, rows, limits):
        stored = {key: record for key, (_, record) in self._rows().items()}
        merged = [
            {
                name: stored.get(row["id"], {}).get(name) if value is None else value
                for name, value in row.items()
            }
            for row in rows.to_pylist()
        ]
        return super().prepare(pa.RecordBatch.from_pylist(merged, schema=rows.schema), limits)


@flaw("test_text_ids_are_code_points_never_normalised")
class NormalisesIds(Base):
    def prepare(self, rows, limits):
        if self._spec.id_type == "string":
            keys = [unicodedata.normalize("NFC", key) for key in rows.column("id").to_pylist()]
            rows = rebuilt(rows, id=keys)
        return super().prepare(rows, limits)


@flaw("test_scores_are_the_metric_and_come_best_first")
class ReportsDistancesNotSquared(Base):
    def search(self, request):
        l2 = not request.field.metric.higher_is_better
        result = super().search(request)
        return SearchResult([
            Hits(hits.ids, np.sqrt(hits.scores) if l2 else hits.scores, hits.records) for hits in result.hits
        ])  # fmt: skip


@flaw("test_a_scan_meets_each_row_once_while_others_come_go_and_change")
class ScansByOffset(Base):
    def pages(self, request):
        start = request.after or 0
        while page := self._matching(request.filter)[start : start + request.rows]:
            start += request.rows
            yield KeyedPage(self._batch([record for _, record in page], request.columns), start)


@flaw("test_integers_at_the_ends_are_kept_or_refused_row_by_row")
class KeepsIntegersAsDoubles(Base):
    def prepare(self, rows, limits):
        numbers = {
            name: [each and min(int(float(each)), 2**63 - 1) for each in rows.column(name).to_pylist()]
            for name in rows.schema.names
            if pa.types.is_int64(rows.schema.field(name).type) and name != "id"
        }
        return super().prepare(rebuilt(rows, **numbers), limits)


@flaw("test_the_same_id_is_another_row_in_another_namespace")
class SharesRowsBetweenNamespaces(Base):
    def __init__(self, database, table, spec, namespace):
        super().__init__(database, table, spec, "")


@flaw("test_vectors_come_back_bit_by_bit_where_that_is_declared")
class RoundsVectors(Base):
    def prepare(self, rows, limits):
        rounded = records.vectors(rows).astype(np.float16).astype(np.float32)
        return super().prepare(rebuilt(rows, vector=list(rounded)), limits)


@flaw("test_a_deleted_row_is_not_found")
class ForgetsToDelete(Base):
    def delete_keys(self, ids, deadline):
        return len(ids)


@flaw("test_an_index_is_built_as_declared_or_refused_before_anything_is_created")
class SwapsTheIndex(Base):
    """In create(), below."""


def nearest(request: Any, rows: list[Any], k: int) -> list[tuple[list[Any], np.ndarray]]:
    """For each query the ids and scores of the best k of some rows, by one matrix product."""
    if not rows:
        return [([], np.empty(0, np.float32)) for _ in request.vectors]
    keys = [row["id"] for row in rows]
    stored, metric = np.array([row["vector"] for row in rows], np.float64), request.field.metric
    scores = request.vectors.astype(np.float64) @ stored.T
    if metric is Metric.L2:
        scores = (request.vectors**2).sum(1, keepdims=True) - 2 * scores + (stored**2).sum(1)
    elif metric is Metric.COSINE:
        scores /= np.linalg.norm(stored, axis=1) * np.linalg.norm(request.vectors, axis=1)[:, None]
    order = np.argsort(-scores if metric.higher_is_better else scores, axis=1)[:, :k]
    return [
        ([keys[place] for place in some], all_scores[some].astype(np.float32))
        for some, all_scores in zip(order, scores, strict=True)
    ]


@flaw("test_default_knobs_find_the_nearest_rows_under_every_filter")
class SearchesTooNarrowly(Base):
    """Like an inverted file that visits one of its two lists."""

    def search(self, request):
        rows = [record for _, record in self._matching(request.filter)]
        hits = [Hits([], np.empty(0, np.float32))] * len(request.vectors)
        sides = request.vectors[:, 0] < 0
        for side in (True, False):
            some = dataclasses.replace(request, vectors=request.vectors[sides == side])
            near = nearest(some, [row for row in rows if (row["vector"][0] < 0) is side], request.k)
            for place, found in zip(np.flatnonzero(sides == side), near, strict=True):
                hits[place] = Hits(*found)
        return SearchResult(hits)


@flaw("test_default_knobs_find_the_nearest_rows_under_every_filter")
class FiltersAfterAWiderTopK(Base):
    """Asks for twice as many as should do, which finds enough unless the filter follows the space."""

    def search(self, request):
        rows = [record for _, record in self._matching(None)]
        kept = {record["id"] for _, record in self._matching(request.filter)}
        k = 2 * request.k * len(rows) // max(1, len(kept))
        hits = []
        for ids, scores in nearest(request, rows, k):
            mask = np.array([key in kept for key in ids], bool)
            hits.append(Hits(np.array(ids)[mask][: request.k].tolist(), scores[mask][: request.k]))
        return SearchResult(hits)


class FlawedDriver(MemoryDriver):
    """The memory driver, with the flaw that the host names."""

    def __init__(self, url, options, *, read_only=False):
        self.flaw = url.host
        super().__init__(dataclasses.replace(url, host=""), options)
        self.url = url

    def create(self, spec, token, replacing, deadline):
        if self.flaw == SwapsTheIndex.__name__.lower():
            spec = dataclasses.replace(spec, vectors=(dataclasses.replace(spec.vector, index=Auto()),))
        return super().create(spec, token, replacing, deadline)

    def attach(self, found, namespace):
        return FLAWS[self.flaw][1](self._database, found.state, found.spec, namespace)


CASES = [
    StoreCase(
        id=name,
        url=lambda directory, name=name: f"flawed://{name}{directory}",
        examples=40,
        recall_rows=500,
    )
    for name in FLAWS
]
