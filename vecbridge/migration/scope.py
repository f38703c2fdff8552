"""What a verification reads: rows of both sides in the schema of the target, by scan and by id."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from vecbridge import filters, records
from vecbridge.errors import InvalidRecordError
from vecbridge.filters import Filter
from vecbridge.migration.conversion import Converter
from vecbridge.migration.losses import refusal
from vecbridge.migration.plans import Plan
from vecbridge.migration.reading import page_rows, pages
from vecbridge.migration.sides import Side
from vecbridge.query import Unfit
from vecbridge.schema import CollectionSpec

_IDS_A_FETCH: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one side.

    Attributes:
        batch: In the schema of the target.
        ids: Their ids at that side.
        unfit: By id at that side, rows that a batch cannot hold.
    """

    batch: pa.RecordBatch
    ids: pa.Array
    unfit: dict[str | int, Unfit]


class Scope:
    """Both sides of a verification, and which columns of them are compared. Thread-safe.

    Args:
        plan: How rows of the source become rows of the target.
        source: The source.
        target: The target.
        pairs: For each namespace of the source, the one of the target that has its rows.

    Attributes:
        plan: The same.
        pairs: The same.
        filter: Which rows of the source are copied; None is all.
        stop: Ends the pauses between retries.
    """

    def __init__(self, plan: Plan, source: Side, target: Side, pairs: Sequence[tuple[str, str]]) -> None:
        self.plan, self.pairs = plan, tuple(pairs)
        self.source, self.target = source, target
        self.filter: Filter | None = None if plan.filter is None else filters.from_dict(plan.filter)
        self.stop = threading.Event()
        bare = CollectionSpec.foreign(plan.spec.name, (), (), plan.spec.id_type)
        self._bare = replace(plan, spec=bare, columns=(), extra=None)
        self._columns = plan.spec.column_names[1:]

    @property
    def targets(self) -> list[str]:
        """The namespaces of the target, each once."""
        return list(dict.fromkeys(target for _, target in self.pairs))

    def sources(self, target: str) -> list[str]:
        """The namespaces of the source whose rows go to one of the target."""
        return [source for source, each in self.pairs if each == target]

    def scan_source(self, namespace: str, *, content: bool) -> Iterator[Rows]:
        """The rows of a namespace of the source, as the plan converts them.

        Args:
            namespace: At the source.
            content: All columns, and not only the ids.
        """
        collection = self.source.collection(namespace)
        converter = self._converter(namespace, content=content)
        rows = page_rows(collection.stored_spec) if content else page_rows(self._bare.spec)
        for page in pages(collection, converter.include, None, filter=self.filter, rows=rows, stop=self.stop):
            yield Rows(converter.convert(page.batch, namespace), page.batch.column("id"), page.unfit)

    def scan_target(self, namespace: str, *, content: bool) -> Iterator[Rows]:
        """The rows of a namespace of the target."""
        collection = self.target.collection(namespace)
        columns = self._columns if content else ()
        rows = page_rows(collection.stored_spec) if content else page_rows(self._bare.spec)
        for page in pages(collection, columns, None, rows=rows, stop=self.stop):
            yield Rows(page.batch, page.batch.column("id"), page.unfit)

    def fetch_source(
        self, namespace: str, ids: Sequence[str | int], *, content: bool = True
    ) -> tuple[pa.RecordBatch, dict[Any, str]]:
        """Some rows of the source as the plan converts them, in any order.

        Args:
            namespace: At the source.
            ids: At the source.
            content: All columns, and not only the ids.

        Returns:
            The rows that there are, and by id why a batch cannot hold a row.
        """
        converter = self._converter(namespace, content=content)
        batch, unfit = _fetched(self.source, namespace, ids, converter.include)
        return converter.convert(batch, namespace), unfit

    def fetch_target(
        self, namespace: str, ids: Sequence[str | int], *, content: bool = True
    ) -> tuple[pa.RecordBatch, dict[Any, str]]:
        """The same of the target."""
        return _fetched(self.target, namespace, ids, self._columns if content else ())

    def refusal(self, row: pa.RecordBatch, namespace: str) -> str | None:
        """Why the target cannot hold a row; None if nothing is known against it.

        Args:
            row: One row in the schema of the target, not checked.
            namespace: At the target.
        """
        spec = self.target.collection(namespace).stored_spec
        if spec.column_names != row.schema.names:
            spec = self.plan.spec
        found = refusal(row, spec, self.target.store, namespace)
        return None if found is None else ": ".join(found)

    def target_ids(self, namespace: str, ids: Sequence[str | int]) -> list[str | int]:
        """The ids that rows of the source have at the target."""
        collection = self.source.collection(namespace)
        schema = records.arrow_schema(collection.stored_spec, ())
        batch = pa.RecordBatch.from_arrays([pa.array(list(ids), schema.field("id").type)], schema=schema)
        converted = self._converter(namespace, content=False).convert(batch, namespace)
        found: list[str | int] = converted.column("id").to_pylist()
        return found

    def _converter(self, namespace: str, *, content: bool) -> Converter:
        collection = self.source.collection(namespace)
        return Converter(self.plan if content else self._bare, collection.stored_spec, collection.extra)


def _fetched(
    side: Side, namespace: str, ids: Sequence[str | int], columns: tuple[str, ...]
) -> tuple[pa.RecordBatch, dict[Any, str]]:
    collection = side.collection(namespace)
    parts: list[pa.RecordBatch] = []
    unfit: dict[Any, str] = {}
    for start in range(0, len(ids), _IDS_A_FETCH):
        wanted = list(ids[start : start + _IDS_A_FETCH])
        try:
            parts.append(collection.fetch(wanted, include=columns))
        except InvalidRecordError as exc:  # rows of another program that a batch cannot hold
            bad = {failure.id: failure.error for failure in exc.rows}
            unfit |= bad
            rest = [each for each in wanted if each not in bad]
            if rest:
                parts.append(collection.fetch(rest, include=columns))
    return pa.concat_batches(parts) if parts else collection.fetch([], include=columns), unfit
