"""Writing to a collection: whole records, parts of records, deleting, and adding fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import records
from vecbridge.driver import (
    AddsFields,
    CollectionDriver,
    Deadline,
    DeletesWhere,
    RequestLimits,
    WritePart,
    WriteResult,
    WritesAbsent,
)
from vecbridge.errors import SchemaError, UnavailableError, UnsupportedError
from vecbridge.filters import AnyFilter
from vecbridge.front.arguments import (
    OnConflict,
    require_on_conflict,
    require_one_of,
    require_records,
)
from vecbridge.front.finding import IDS_A_CALL, FindingHandle
from vecbridge.front.handle import Attached
from vecbridge.front.sending import Sender, report, rows_written
from vecbridge.front.telemetry import count_written, operation
from vecbridge.query import WriteReport
from vecbridge.schema import Field, FieldType
from vecbridge.texts import shown

_ADD_SECONDS: Final = 300.0
_ATTEMPTS: Final = 10  # to add fields while others add some


class WritingHandle(FindingHandle):
    """The part of :class:`vecbridge.Collection` that writes."""

    @operation("upsert")
    def upsert(self, data: records.Records, *, on_conflict: OnConflict = "replace") -> WriteReport:
        """Writes whole records of any number.

        Args:
            data: As :func:`vecbridge.batch` builds it, or a table, a DataFrame, a list of dicts; a declared
                column left out is null. A batch that was checked already, as a bulk write hands it on, is not
                checked twice.
            on_conflict: What becomes of a record whose id is there: "replace" the one that is there, "skip"
                the new one, or "error": nothing is written. Where ``capabilities.atomic_conflict`` is False
                the ids are looked up first: what another client writes in between is replaced, and so is what
                was written a moment ago where ``capabilities.consistency`` is "eventual".

        Returns:
            When every row was acknowledged: what survives kill -9 of client and server.

        Raises:
            InvalidRecordError: Rows that cannot be stored, or with "error" are there; nothing was sent.
            PartialWriteError: Some rows were acknowledged and some were not, or may not have been.
            SchemaError: Fields were added to the collection since it was opened.
            UnsupportedError: A collection that vecbridge did not make and cannot write to.
            StoreLockedError: Another process writes to the collection, or this is a forked child of the one
                that opened it.
            BackendError: No row was stored.

        Example:
            >>> import vecbridge as vb
            >>> rows = [{"id": "a", "vector": [1, 0], "year": 2020}, {"id": "b", "vector": [0, 1]}]
            >>> with vb.connect("memory://") as store:
            ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"}))
            ...     first = photos.upsert(rows[:1])
            ...     photos.upsert(rows, on_conflict="skip").skipped
            1
        """
        here = self._enter_for_writing()
        require_records(data)
        require_on_conflict(on_conflict)
        self._require_own(here)
        rows = records.checked(records.as_batch(data, here.spec), here.spec).batch
        if not rows.num_rows:
            return WriteReport()
        self.capabilities.refuse(rows, here.spec)
        driver = here.driver
        if on_conflict == "replace":
            return self._send(here, rows, driver.write)
        if self.capabilities.atomic_conflict:
            return self._send_absent(here, rows, on_conflict)
        with self._holding(rows.column("id")):
            self._require_current(here, self.capabilities.trust_writes, writing=True)
            present = self._present(driver, rows.column("id"))
            if present.true_count and on_conflict == "error":
                raise _existing(rows.column("id"), _places(present))
            absent = rows.filter(pc.invert(present))
            sent = self._send(here, absent, driver.write) if absent.num_rows else WriteReport()
            return replace(sent, skipped=present.true_count)

    @operation("update")
    def update(self, data: records.Records) -> WriteReport:
        """Changes some columns of records that are there, and leaves the others as they are.

        The records are read and written back whole: what another client changes in between is lost.

        Args:
            data: The id and the columns to change; a null sets null. Vectors are columns like others.

        Returns:
            When every row was acknowledged.

        Raises:
            InvalidRecordError: Ids that are not there, or values that cannot be stored; nothing was written.
            PartialWriteError: As of :meth:`upsert`, as everything else.

        Example:
            >>> import vecbridge as vb
            >>> fields = {"year": "int64", "title": "string"}
            >>> with vb.connect("memory://") as store:
            ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2, fields=fields))
            ...     report = photos.upsert([{"id": "a", "vector": [1, 0], "year": 2020, "title": "A"}])
            ...     report = photos.update([{"id": "a", "title": "B"}])
            ...     photos.fetch(["a"], include=["year", "title"]).to_pylist()
            [{'id': 'a', 'year': 2020, 'title': 'B'}]
        """
        here = self._enter_for_writing()
        require_records(data)
        self._require_own(here)
        changes = records.changes(data, here.spec)
        ids = changes.column("id")
        if not len(ids):
            return WriteReport()
        with self._holding(ids):
            self._require_current(here, self.capabilities.trust_writes, writing=True)
            stored = self._look_up(here, ids, here.spec.column_names[1:])
            if stored.num_rows < len(ids):
                absent = pc.invert(pc.is_in(ids, value_set=stored.column("id")))
                problems = dict.fromkeys(_places(absent), "there is no record of this id")
                raise records.invalid(problems, ids)
            for name in changes.schema.names[1:]:
                place = stored.schema.get_field_index(name)
                stored = stored.set_column(place, stored.schema.field(name), changes.column(name))
            rows = records.checked(stored, here.spec).batch
            self.capabilities.refuse(rows, here.spec)
            return self._send(here, rows, here.driver.write)

    @operation("delete")
    def delete(
        self, ids: Iterable[str | int] | None = None, *, filter: AnyFilter | None = None
    ) -> int | None:
        """Removes rows by ids or by filter; exactly one of the two.

        Args:
            ids: Ids of the collection's type; absent ones and repeats do not matter.
            filter: The rows that match it. Where the backend deletes by id alone, the matches are read first:
                rows that come to match meanwhile may stay.

        Returns:
            How many there were; None where ``capabilities.counts_deletes`` is False.

        Raises:
            ConfigError: Both were given, or neither.
            SchemaError: Ids of another type, or a filter that does not fit.
        """
        here = self._enter_for_writing()
        require_one_of(ids, filter)
        capabilities = self.capabilities
        if ids is not None:
            wanted = records.id_array(here.spec, ids)
            if not len(wanted):
                return 0
            self._require_current(here, capabilities.trust_writes)
            return self._delete_ids(here.driver, wanted)
        condition = here.resolver.filter(filter)
        if condition is False:
            return 0
        self._require_current(here, capabilities.trust_writes)
        matching = None if condition is True else condition
        if capabilities.deletes_where:
            verb = cast("DeletesWhere", here.driver).delete_where
            return self._call("delete", verb, matching, self._connection.timeout)
        return _added([
            self._delete_ids(here.driver, batch.column("id"))
            for batch in self._pages(here.driver, (), matching)
        ])  # fmt: skip

    @operation("add_fields")
    def add_fields(self, fields: Mapping[str, str] | Iterable[Field]) -> None:
        """Adds scalar fields to the collection; they are null in the records that are there.

        Other handles go on reading, and raise SchemaError when they write, until they are opened again: they
        would set the new fields to null.

        Args:
            fields: As {name: type} or Field objects. One that the collection has, of the same type, is left
                as it is, so that the call may be repeated.

        Raises:
            SchemaError: A name that cannot be, or that the collection has with another type.
            UnsupportedError: The backend cannot keep such a field, or cannot add any.

        Example:
            >>> import vecbridge as vb
            >>> with vb.connect("memory://") as store:
            ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2))
            ...     report = photos.upsert([{"id": "a", "vector": [1, 0]}])
            ...     photos.add_fields({"taken": "timestamp"})
            ...     photos.fetch(["a"], include=["taken"]).to_pylist()
            [{'id': 'a', 'taken': None}]
        """
        here = self._enter_for_writing()
        self._require_verb("adds_fields", "adding fields")
        self._require_own(here)
        wanted = _fields(fields)
        connection, name = self._connection, here.described.name
        deadline = Deadline.after(_ADD_SECONDS)
        for _ in range(_ATTEMPTS):
            described = connection.describe(name)
            if described is None or described.identity != here.described.identity:
                raise self._gone()
            if grown := described.spec.grown(wanted):
                connection.require_buildable(grown)
                verb = cast("AddsFields", connection.driver).add_fields
                found = connection.call(f"add fields to {name!r}", verb, described, grown, deadline)
                if found is None:  # somebody else added fields meanwhile
                    continue
                described = found
            self._attach(described)
            return
        raise UnavailableError(f"{name!r}: others went on adding fields: try again", unsent=True)

    def _send(
        self, here: Attached, rows: pa.RecordBatch, write: Callable[[WritePart, Deadline], WriteResult]
    ) -> WriteReport:
        """Cuts checked rows into requests and sends them."""
        capabilities = self.capabilities
        limits = RequestLimits(capabilities.request_rows, capabilities.request_bytes)
        parts = self._call("upsert", here.driver.prepare, rows, limits)
        self._require_current(here, capabilities.trust_writes, writing=True)
        sender = Sender(
            here.driver, write, rows, limits, self._connection.slots, timeout=self._connection.timeout,
            atomic=capabilities.atomic_batch, mapped=self._mapped,
        )  # fmt: skip
        outcomes = sender.send(parts)
        count_written(capabilities.backend, rows, rows_written(outcomes))
        return report(rows.column("id"), outcomes)

    def _send_absent(self, here: Attached, rows: pa.RecordBatch, on_conflict: OnConflict) -> WriteReport:
        """Sends rows to a backend that looks and writes in one step."""
        ids, driver = rows.column("id"), cast("WritesAbsent", here.driver)
        if on_conflict == "skip":
            return self._send(here, rows, partial(driver.write_absent, whole=False))

        def write(part: WritePart, deadline: Deadline) -> WriteResult:
            result = driver.write_absent(part, deadline, whole=True)
            if result.present:
                raise _existing(ids, [part.rows[place] for place in result.present])
            return result

        if rows.num_rows > self.capabilities.request_rows:  # more than one request: look at all of them first
            present = self._present(here.driver, ids)
            if present.true_count:
                raise _existing(ids, _places(present))
        return self._send(here, rows, write)

    def _present(self, driver: CollectionDriver, ids: pa.Array) -> pa.BooleanArray:
        """Which of the ids are there."""
        found = [
            self._call("look up", driver.lookup, ids.slice(start, IDS_A_CALL), (), self._deadline())
            for start in range(0, len(ids), IDS_A_CALL)
        ]
        return pc.is_in(ids, value_set=pa.concat_arrays([batch.column("id") for batch in found]))

    def _delete_ids(self, driver: CollectionDriver, ids: pa.Array) -> int | None:
        step = len(ids) if self.capabilities.atomic_batch else IDS_A_CALL
        counts = [
            self._call("delete", driver.delete_keys, ids.slice(start, step), self._deadline())
            for start in range(0, len(ids), step)
        ]
        return _added(counts)

    def _require_own(self, here: Attached) -> None:
        """Refuses to write to a collection made elsewhere that vecbridge cannot write to."""
        if hint := here.described.read_only:
            raise UnsupportedError(self.capabilities.backend, f"writing to {here.spec.name!r}", hint)

    @contextmanager
    def _holding(self, ids: pa.Array) -> Iterator[None]:
        """Keeps other calls of this process that look before they write from writing the same ids."""
        place = self._dropped_key, self.namespace
        with self._connection.held.holding([(place, key) for key in ids.to_pylist()]):
            yield


def _fields(fields: Mapping[str, str] | Iterable[Field]) -> list[Field]:
    if isinstance(fields, Mapping):
        return [Field(name, cast("FieldType", type)) for name, type in fields.items()]
    wanted = list(fields)
    for each in wanted:
        if not isinstance(each, Field):
            raise SchemaError(
                f"add_fields() takes {{name: type}} or vecbridge.Field objects, not {shown(each)}"
            )
    return wanted


def _places(mask: pa.BooleanArray) -> list[int]:
    places: list[int] = records.booleans(mask).nonzero()[0].tolist()
    return places


def _existing(ids: pa.Array, places: Sequence[int]) -> Exception:
    return records.invalid(dict.fromkeys(places, "there is a record of this id already"), ids)


def _added(counts: Sequence[int | None]) -> int | None:
    """The sum of counts; None where the database did not say one of them."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
