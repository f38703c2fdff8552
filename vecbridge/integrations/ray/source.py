"""Reads a collection as a Ray dataset, one part of a scan a task."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vecbridge import records
from vecbridge.errors import ConfigError
from vecbridge.filters import AnyFilter
from vecbridge.front.arguments import require_count
from vecbridge.front.scanning import PAGE_ROWS
from vecbridge.integrations.ray.address import Address
from vecbridge.integrations.ray.installed import BlockMetadata, Datasource, ReadTask
from vecbridge.query import Include, require_include
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.urls import StoreURL, parse

_FIELD_BYTES: Final = 32  # of a value that is no vector, roughly


@dataclass(frozen=True, slots=True)
class _Part:
    """What one task reads; holds no client and no secret.

    Attributes:
        address: Of the store.
        name: Of the collection.
        namespace: Of the rows.
        include: Columns to read beside the id.
        filter: Which rows.
        batch_rows: Rows a block, at most.
        limit: Rows in all, at most; None is all of them.
        cursor: Where the part starts; None where the scan is not split.
        schema: Of the blocks.
        namespace_column: Receives the namespace, if any.
    """

    address: Address
    name: str
    namespace: str
    include: tuple[str, ...]
    filter: AnyFilter | None
    batch_rows: int
    limit: int | None
    cursor: str | None
    schema: pa.Schema
    namespace_column: str | None

    def tables(self) -> Iterator[pa.Table]:
        """The blocks; an empty one where there is no row, so that the schema is known."""
        read = False
        with self.address.connect() as store, store.open(self.name, namespace=self.namespace) as opened:
            pages = opened.scan(
                include=self.include, filter=self.filter, batch_rows=self.batch_rows, cursor=self.cursor,
                limit=self.limit,
            )  # fmt: skip
            for page in pages:
                read = True
                yield self._block(page.batch)
        if not read:
            yield self.schema.empty_table()

    def _block(self, batch: pa.RecordBatch) -> pa.Table:
        table = pa.Table.from_batches([batch])
        if self.namespace_column is not None:
            names = pa.array([self.namespace] * len(table), pa.string())
            table = table.append_column(self.namespace_column, names)
        return table.select(self.schema.names)


class VecbridgeDatasource(Datasource):  # type: ignore[misc]  # Ray counts as untyped
    """A collection as the source of a Ray dataset: ``ray.data.read_datasource(VecbridgeDatasource(url))``.

    The scan is split into as many parts as Ray asks for where the store can split one
    (``capabilities.splits``); elsewhere each namespace is one part. The filter and the columns are part of
    the scan: rows that do not match, and columns that are not wanted, are not read.
    ``dataset.select_columns(…)`` right behind the read narrows the columns, too.

    A row that is there throughout is read once. Compacting or replacing the collection during the read ends
    it with CursorExpiredError or NotFoundError.

    Args:
        url: Of the collection, such as ``weaviate://host:8080?namespace=eu#photos``. Passwords and keys stand
            in the environment of every node.
        include: Columns beside the id: "all", or names.
        filter: Only rows that match; a filter or its JSON form.
        namespace_column: Read all namespaces, and add a column of this name that says which.
        batch_rows: Rows a block, at most.
        **options: As for :func:`vecbridge.connect`.

    Raises:
        InvalidURLError: The URL names no collection.
        ConfigError: Arguments that cannot be right, or a secret among them.
        UnsupportedError: A store in the memory of one process.

    Example::

        recent = vb.field("year") >= 2020
        source = VecbridgeDatasource("weaviate://localhost:8080#photos", include=["year"], filter=recent)
        ray.data.read_datasource(source).mean("year")
    """

    def __init__(
        self,
        url: str | StoreURL,
        *,
        include: Include = "all",
        filter: AnyFilter | None = None,
        namespace_column: str | None = None,
        batch_rows: int = PAGE_ROWS,
        **options: Any,
    ) -> None:
        super().__init__()
        parsed = parse(url)
        require_include(include)
        self._name = parsed.require_collection()
        if namespace_column and parsed.namespace is not None:
            raise ConfigError(f"{parsed} names one namespace, and namespace_column= reads all of them")
        self._namespace = parsed.namespace or ""
        self._include, self._filter = include, filter
        self._namespace_column = namespace_column
        self._batch_rows = require_count("batch_rows", batch_rows)
        self._address = Address(parsed.without_collection(), options)
        self._projection_map: dict[str, str] | None = None

    # ------------------------------------------------------------------------------------- on the driver

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes of the rows that will be read; None where counting them would read them."""
        with self._address.connect() as store:
            return self._estimate(store)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task a part of the scan; Ray calls it on the driver.

        Args:
            parallelism: Parts that Ray would like.
            per_task_row_limit: Rows that a task is to read, at most.
            data_context: Not used.

        Raises:
            NotFoundError: The collection does not exist.
            SchemaError: A column or a filter that does not fit it.
        """
        with self._address.connect() as store:
            parts = list(self._parts(store, parallelism, per_task_row_limit))
            size = self._estimate(store)
        bytes_each = None if size is None else size // len(parts)
        metadata = BlockMetadata(num_rows=None, size_bytes=bytes_each, input_files=None, exec_stats=None)
        limit = per_task_row_limit
        return [
            ReadTask(part.tables, metadata, schema=part.schema, per_task_row_limit=limit) for part in parts
        ]

    @property
    def supports_distributed_reads(self) -> bool:
        """False where the store is files of this machine."""
        return not self._address.embedded

    def supports_projection_pushdown(self) -> bool:
        """Yes: the columns of a scan can be chosen."""
        return True

    def get_projection_map(self) -> dict[str, str] | None:
        """The columns that Ray has asked for, by themselves; None is all."""
        return self._projection_map

    def apply_projection(self, projection_map: Mapping[str, str] | None) -> VecbridgeDatasource:
        """A source of these columns alone, as Ray's optimizer asks for it.

        Args:
            projection_map: Its keys are the columns; None is all.
        """
        clone = copy.copy(self)
        if projection_map is not None:
            known = self._projection_map
            clone._projection_map = {name: name for name in projection_map if known is None or name in known}
        return clone

    def _parts(self, store: Store, parallelism: int, limit: int | None) -> Iterator[_Part]:
        namespaces = store.namespaces(self._name) if self._namespace_column else [self._namespace]
        for namespace in namespaces or [""]:
            with store.open(self._name, namespace=namespace) as opened:
                schema = self._schema(opened.spec)
                include = tuple(name for name in schema.names if name not in ("id", self._namespace_column))
                opened.scan(include=include, filter=self._filter)  # refuses what does not fit; reads nothing
                cursors: Iterable[str | None] = [None]
                if opened.capabilities.splits and not self._address.exclusive:
                    cursors = opened.split(max(parallelism // len(namespaces or [""]), 1)) or [None]
                for cursor in cursors:
                    yield _Part(
                        self._address, self._name, namespace, include, self._filter, self._batch_rows, limit,
                        cursor, schema, self._namespace_column,
                    )  # fmt: skip

    def _schema(self, spec: CollectionSpec) -> pa.Schema:
        """Of the blocks: the columns of the scan, as Ray has narrowed them."""
        include = None if self._include == "all" else [name for name in self._include if name != "id"]
        schema = records.arrow_schema(spec, include)
        if self._namespace_column is not None:
            if self._namespace_column in schema.names:
                raise ConfigError(f"namespace_column={self._namespace_column!r} is a column of {spec.name!r}")
            schema = schema.append(pa.field(self._namespace_column, pa.string()))
        if self._projection_map is None:
            return schema
        return pa.schema([field for field in schema if field.name in self._projection_map])

    def _estimate(self, store: Store) -> int | None:
        if self._namespace_column is not None:
            return None
        with store.open(self._name, namespace=self._namespace) as opened:
            if self._filter is not None and not opened.capabilities.counts_where:
                return None
            names = set(self._schema(opened.spec).names)
            dims = [vector.dim for vector in opened.spec.vectors if vector.name in names]
            return opened.count(self._filter) * (4 * sum(dims) + _FIELD_BYTES * (len(names) - len(dims)))
