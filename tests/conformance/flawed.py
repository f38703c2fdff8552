"""Stores with one flaw each, of kinds that real adapters have had; the suite must find every one."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.errors import InvalidRecordError
from vecbridge.filters import And, IsNull, Not, Or
from vecbridge.indexes import Auto
from vecbridge.query import Hits, Page
from vecbridge.stores.memory import MemoryCollection, MemoryStore
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
    def search(self, query):
        kept = {row[1]["id"] for row in self._matching(self._normalized(query.filter))}
        found = super().search(dataclasses.replace(query, filter=None))
        masks = [[key in kept for key in hits.ids] for hits in found]
        return [Hits(hits.ids[mask], hits.scores[mask]) for hits, mask in zip(found, masks, strict=True)]


@flaw("test_trees_of_conditions_keep_the_rows_that_the_oracle_keeps")
class DropsNestedOr(Base):
    def _normalized(self, filter):
        condition = super()._normalized(filter)
        if isinstance(condition, And):
            return And(tuple(each for each in condition.items if not isinstance(each, Or)))
        return condition


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
    def upsert(self, batch):
        old = {row["id"]: row for row in self.fetch(batch.column("id")).to_pylist()}
        rows = [
            {
                name: old.get(row["id"], {}).get(name) if value is None else value
                for name, value in row.items()
            }
            for row in batch.to_pylist()
        ]
        return super().upsert(pa.RecordBatch.from_pylist(rows, schema=batch.schema))


@flaw("test_text_ids_are_code_points_never_normalised")
class NormalisesIds(Base):
    def upsert(self, batch):
        if self.spec.id_type == "string":
            keys = [unicodedata.normalize("NFC", key) for key in batch.column("id").to_pylist()]
            for row in range(batch.num_rows):
                part = rebuilt(batch, id=keys).slice(row, 1)
                super().upsert(part)
            return super().upsert(part)
        return super().upsert(batch)


@flaw("test_scores_are_the_metric_and_come_best_first")
class ReportsDistancesNotSquared(Base):
    def search(self, query):
        l2 = not self.spec.vector_field(query.using).metric.higher_is_better
        found = super().search(query)
        return [Hits(hits.ids, np.sqrt(hits.scores) if l2 else hits.scores, hits.records) for hits in found]


@flaw("test_a_scan_meets_each_row_once_while_others_come_go_and_change")
class ScansByOffset(Base):
    def scan(self, *, include=None, filter=None, batch_rows=10_000, cursor=None) -> Iterator[Page]:
        start = 0
        while page := self._matching(self._normalized(filter))[start : start + batch_rows]:
            yield Page(self._batch([record for _, record in page], include), str(start))
            start += batch_rows


@flaw("test_integers_at_the_ends_are_kept_or_refused_row_by_row")
class KeepsIntegersAsDoubles(Base):
    def upsert(self, batch):
        numbers = {
            name: [each and min(int(float(each)), 2**63 - 1) for each in batch.column(name).to_pylist()]
            for name in batch.schema.names
            if pa.types.is_int64(batch.schema.field(name).type) and name != "id"
        }
        return super().upsert(rebuilt(batch, **numbers))


@flaw("test_fetch_keeps_the_order_collapses_repeats_and_leaves_out_the_missing")
class FetchesInItsOwnOrder(Base):
    def fetch(self, ids, *, include=None):
        return super().fetch(sorted(set(ids)), include=include)


@flaw("test_the_same_id_is_another_row_in_another_namespace")
class SharesRowsBetweenNamespaces(Base):
    def __init__(self, database, table, namespace):
        super().__init__(database, table, "")


@flaw("test_a_bad_row_is_named_and_nothing_is_written")
class SkipsBadRowsInSilence(Base):
    def upsert(self, batch):
        try:
            return super().upsert(batch)
        except InvalidRecordError as error:
            bad = {each.row for each in error.rows}
            good = [row for row in range(batch.num_rows) if row not in bad]
            return super().upsert(batch.take(good)) if good else None


@flaw("test_vectors_come_back_bit_by_bit_where_that_is_declared")
class RoundsVectors(Base):
    def upsert(self, batch):
        rounded = records.vectors(batch).astype(np.float16).astype(np.float32)
        return super().upsert(rebuilt(batch, vector=list(rounded)))


@flaw("test_a_deleted_row_is_not_found")
class ForgetsToDelete(Base):
    def delete(self, ids=None, *, filter=None):
        return len(list(ids or []))


@flaw("test_an_index_is_built_as_declared_or_refused_before_anything_is_created")
class SwapsTheIndex(Base):
    """In create(), below."""


class FlawedStore(MemoryStore):
    """The memory store, with the flaw that the host names."""

    def __init__(self, url, **options):
        self.flaw = url.host
        super().__init__(dataclasses.replace(url, host=""), **options)

    def create(self, spec, *, if_exists="error", namespace=""):
        if self.flaw == SwapsTheIndex.__name__.lower():
            spec = dataclasses.replace(spec, vectors=(dataclasses.replace(spec.vector, index=Auto()),))
        return super().create(spec, if_exists=if_exists, namespace=namespace)

    def open(self, name, *, namespace=""):
        collection = super().open(name, namespace=namespace)
        return FLAWS[self.flaw][1](self._database, collection._table, namespace)


CASES = [
    StoreCase(id=name, url=lambda directory, name=name: f"flawed://{name}{directory}", examples=40)
    for name in FLAWS
]
