"""Reading a collection by id and by filter, without query vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.driver import Columns, CountsWhere
from vecbridge.errors import UnsupportedError
from vecbridge.filters import AnyFilter, Filter
from vecbridge.front.arguments import columns_of, empty_batch, require_count
from vecbridge.front.handle import Attached
from vecbridge.front.ordering import Order, distinct_values, first_rows, require_listable
from vecbridge.front.scanning import ScannedHandle
from vecbridge.front.telemetry import operation, rows_returned
from vecbridge.query import Include

IDS_A_CALL: Final = 10_000  # ids that one deadline is for, where a backend does not write a batch whole
MAX_ROWS: Final = 1_000_000  # that find(order=), distinct() and minmax() read, unless more are allowed


class FindingHandle(ScannedHandle):
    """The part of :class:`vecbridge.Collection` that reads by id and by filter."""

    @operation("fetch", rows_returned)
    def fetch(self, ids: Iterable[str | int], *, include: Include = "all") -> pa.RecordBatch:
        """Records by id, in the order asked; missing ones are left out, repeats collapsed.

        Args:
            ids: Ids of the collection's type.
            include: Columns beside the id: "all", or names; ``()`` is ids only.

        Raises:
            SchemaError: Ids of another type, or an unknown column.
            InvalidRecordError: A record that a batch cannot hold, such as one that another program wrote
                without a vector; ``include`` without the vector reads it.
        """
        here = self._enter_for_reading()
        wanted = records.id_array(here.spec, ids)
        return self._look_up(here, wanted, columns_of(here.spec, include))

    @operation("find", rows_returned)
    def find(
        self,
        filter: AnyFilter | None,
        *,
        limit: int,
        include: Include = "all",
        order: str | None = None,
        max_rows: int = MAX_ROWS,
    ) -> pa.RecordBatch:
        """Records that match a filter, without a query vector.

        Args:
            filter: Which records; None or ``vecbridge.everything`` is any.
            limit: Records, at most.
            include: Columns beside the id: "all", or names; ``()`` is ids only.
            order: A field whose values have an order, or "id": the smallest come first, with a minus before
                the name the largest; null comes last. Every match is read for it. None is any order.
            max_rows: Matches that may be read for the order.

        Raises:
            SchemaError: A filter or an order that does not fit.
            UnsupportedError: More than ``max_rows`` matches would have to be read.
            InvalidRecordError: A record that a batch cannot hold, as of :meth:`fetch`.

        Example:
            >>> import vecbridge as vb
            >>> spec = vb.CollectionSpec.single("photos", dim=1, fields={"year": "int64"})
            >>> with vb.connect("memory://") as store:
            ...     photos = store.create(spec)
            ...     report = photos.upsert([{"id": f"p{n}", "vector": [1], "year": n} for n in range(9)])
            ...     photos.find(vb.field("year") < 5, limit=2, include=["year"], order="-year").to_pylist()
            [{'id': 'p4', 'year': 4}, {'id': 'p3', 'year': 3}]
        """
        here = self._enter_for_reading()
        columns = columns_of(here.spec, include)
        require_count("limit", limit)
        require_count("max_rows", max_rows)
        by = None if order is None else Order.of(order, here.spec)
        condition = here.resolver.filter(filter)
        if condition is False:
            return empty_batch(here.spec, columns)
        matching = None if condition is True else condition
        if by is None:
            batches = self._pages(here.driver, columns, matching, limit=limit)
            return first_rows(batches, limit, empty_batch(here.spec, columns))
        self._require_few(here, matching, max_rows, f"ordering by {by.name!r}")
        ids = by.first_ids(self._pages(here.driver, by.columns, matching), limit)
        return empty_batch(here.spec, columns) if ids is None else self._look_up(here, ids, columns)

    @operation("distinct")
    def distinct(
        self, name: str, *, filter: AnyFilter | None = None, limit: int = 1_000, max_rows: int = MAX_ROWS
    ) -> list[Any]:
        """The values that a field has, sorted; of a list the elements. Null is left out. Reads every match.

        Args:
            name: A field, of any type but json.
            filter: Only of the records that match.
            limit: Values, at most.
            max_rows: Matches that may be read.

        Raises:
            SchemaError: No such field, or a json field.
            UnsupportedError: More than ``limit`` values, or more than ``max_rows`` matches.
        """
        here = self._enter_for_reading()
        field = require_listable(here.spec, name)
        condition = here.resolver.filter(filter)
        if condition is False:
            return []
        matching = None if condition is True else condition
        self._require_few(
            here, matching, require_count("max_rows", max_rows), f"listing the values of {name!r}"
        )
        values = distinct_values(
            self._pages(here.driver, (name,), matching), field, require_count("limit", limit)
        )
        if values is None:
            backend = self.capabilities.backend
            raise UnsupportedError(
                backend, f"more than {limit:,} values of {name!r}", "narrow the filter, or raise limit="
            )
        return values

    @operation("minmax")
    def minmax(
        self, name: str, *, filter: AnyFilter | None = None, max_rows: int = MAX_ROWS
    ) -> tuple[Any, Any] | None:
        """The smallest and the largest value of a field; None if there is none. Reads every match.

        Args:
            name: A field whose values have an order, or "id".
            filter: Only of the records that match.
            max_rows: Matches that may be read.

        Raises:
            SchemaError: No such field, or one without an order.
            UnsupportedError: More than ``max_rows`` matches.
        """
        here = self._enter_for_reading()
        by = Order.of(name, here.spec)
        condition = here.resolver.filter(filter)
        if condition is False:
            return None
        matching = None if condition is True else condition
        self._require_few(here, matching, require_count("max_rows", max_rows), f"the extremes of {name!r}")
        return by.extremes(self._pages(here.driver, by.columns, matching))

    @operation("count")
    def count(self, filter: AnyFilter | None = None) -> int:
        """How many rows there are, or match; exact."""
        here = self._enter_for_reading()
        matching = here.resolver.filter(filter)
        if isinstance(matching, bool):
            return self._count(here, None) if matching else 0
        return self._count(here, matching)

    def _look_up(self, here: Attached, ids: pa.Array, columns: Columns) -> pa.RecordBatch:
        """Records of distinct ids, in their order."""
        parts = [
            self._call("fetch", here.driver.lookup, ids.slice(start, IDS_A_CALL), columns, self._deadline())
            for start in range(0, len(ids), IDS_A_CALL)
        ]
        if not parts:
            return empty_batch(here.spec, columns)
        batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        if batch.column("id").equals(ids):
            return batch
        places = pc.index_in(ids, value_set=batch.column("id"))
        return batch.take(places.drop_null())

    def _count(self, here: Attached, matching: Filter | None) -> int:
        if matching is None:
            return self._call("count", here.driver.count, self._deadline())
        if self.capabilities.counts_where:
            verb = cast("CountsWhere", here.driver).count_where
            return self._call("count", verb, matching, self._deadline())
        return sum(batch.num_rows for batch in self._pages(here.driver, (), matching))

    def _require_few(self, here: Attached, matching: Filter | None, most: int, what: str) -> None:
        """Refuses to read more rows than the caller allows."""
        if (rows := self._count(here, matching)) > most:
            hint = f"{rows:,} rows would be read: narrow the filter, or raise max_rows={most}"
            raise UnsupportedError(self.capabilities.backend, what, hint)
