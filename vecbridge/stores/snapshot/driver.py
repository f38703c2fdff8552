"""The snapshot store: a directory of collections in Parquet files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from threading import RLock
from typing import ClassVar, Final, get_args

from pydantic import Field

from vecbridge import storage
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import Deadline, Described, OnFork
from vecbridge.errors import NotFoundError, StoreLockedError, VecbridgeError
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IVFFlat, Quantizer
from vecbridge.schema import CollectionSpec
from vecbridge.stores.snapshot import errors
from vecbridge.stores.snapshot.collection import RECORD_BYTES, SnapshotCollection, SnapshotEncoder
from vecbridge.stores.snapshot.manifest import MANIFEST, PENDING, Manifest
from vecbridge.stores.snapshot.table import Table
from vecbridge.urls import StoreOptions, StoreURL

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")


class SnapshotOptions(StoreOptions):
    """Options of a ``snapshot:`` URL.

    Attributes:
        timeout: Seconds for one request; a search compares every row in that time.
    """

    timeout: float = Field(30.0, gt=0, allow_inf_nan=False)


class SnapshotDriver:
    """Collections as Parquet files in a directory on a local disk.

    One process writes to a collection at a time; any number reads it meanwhile. Every index is accepted and
    recorded, so that a copy can be made with it elsewhere, and none is built.

    Args:
        url: ``snapshot:///path/to/dir``, or ``snapshot:./relative``.
        options: Of the store.
        read_only: Takes no lock and writes nothing, as in a forked child.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        backend="snapshot",
        indexes=frozenset(index.kind for index in (Auto, Flat, IVFFlat, IVFSQ8, IVFPQ, HNSW, SCANN, DISKANN)),
        quantizers=frozenset(get_args(Quantizer)),
        knobs={HNSW.kind: frozenset({"stored_ef"})},
        id_operators=frozenset({"==", "!=", "in", "<", "<=", ">", ">="}),
        request_rows=sys.maxsize,
        parallel_requests=1,
        record_bytes=RECORD_BYTES,
        atomic_batch=True,
        atomic_conflict=True,
        adds_fields=True,
        deletes_where=True,
        counts_where=True,
        splits=True,
        compacts=True,
        trust_reads=0.0,  # a look is one stat of the manifest
        trust_writes=0.0,
    )
    options: ClassVar[type[StoreOptions]] = SnapshotOptions
    on_fork: ClassVar[OnFork] = "read_only"

    def __init__(self, url: StoreURL, options: SnapshotOptions, *, read_only: bool = False) -> None:
        self._root = url.directory()
        self.url = replace(url, path=str(self._root.absolute()))
        self._read_only = read_only
        self._mutex = RLock()
        self._tables: dict[str, Table] = {}

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """None: the figures say it all."""
        return ()

    def connect(self, deadline: Deadline) -> Capabilities:
        """The same everywhere."""
        return self.capabilities

    def names(self, deadline: Deadline) -> Iterable[str]:
        """Directories with a manifest."""
        names = [path.parent.name for path in self._root.glob(f"[a-z]*/{MANIFEST}")]
        return [name for name in names if _NAME.fullmatch(name)]

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """The spec of a collection.

        Raises:
            ConfigError: A newer version of vecbridge wrote it.
            CorruptStoreError: Its manifest is damaged.
        """
        if not _NAME.fullmatch(name):
            return None
        with self._mutex:
            table = self._tables.get(name)
        manifest = Manifest.read(self._root / name) if table is None else table.look()
        return None if manifest is None else _described(name, manifest)

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Writes the manifest beside the other collections, then gives the directory its name.

        Raises:
            CollectionExistsError: Another process made one meanwhile.
            StoreLockedError: Another process writes to the one that is to be replaced.
        """
        self._require_writable()
        manifest = Manifest(token, 0, spec, {})
        with self._mutex, storage.new_collection(self._root / spec.name) as hidden:
            (hidden / PENDING).mkdir()
            manifest.write(hidden)
            if replacing is not None:
                with suppress(NotFoundError):  # what took its place meanwhile keeps the name
                    self.drop(replacing, None, deadline)
        return _described(spec.name, manifest)

    def attach(self, found: Described, namespace: str) -> SnapshotCollection:
        """The driver of one namespace; its collection is shared by all handles of the store."""
        return SnapshotCollection(self._table(found), found.spec, namespace)

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> SnapshotEncoder:
        """The same for every namespace."""
        return SnapshotEncoder(spec)

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        """Those of the manifest."""
        return list(self._table(found).manifest().namespaces)

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Removes a collection, or one namespace of it.

        Raises:
            StoreLockedError: Another process writes to the collection.
            NotFoundError: It was dropped or replaced meanwhile.
        """
        self._require_writable()
        with self._mutex:
            table = self._table(found)
            if namespace is not None:
                table.drop(namespace)
                return
            with table.removing():
                storage.remove_tree(self._root / found.name)
            del self._tables[found.name]

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Replaces the manifest, and touches no row: what the files lack is null.

        Raises:
            StoreLockedError: Another process writes to the collection.
            NotFoundError: It was dropped or replaced meanwhile.
        """
        self._require_writable()
        manifest = self._table(found).grow(found.spec, spec)
        return None if manifest is None else _described(found.name, manifest)

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """See :mod:`.errors`."""
        return errors.mapped(exc, what)

    def forked(self) -> None:
        """The locks close their inherited files by themselves."""

    def close(self) -> None:
        """Merges what is pending, closes the files and gives the writers' locks back."""
        with self._mutex:
            for table in self._tables.values():
                table.close()
            self._tables.clear()

    def _require_writable(self) -> None:
        if self._read_only:
            raise StoreLockedError(f"{self._root} was opened for reading only")

    def _table(self, found: Described) -> Table:
        token = found.identity.value
        with self._mutex:
            table = self._tables.get(found.name)
            if table is None or table.token != token:
                if table is not None:
                    table.release()
                directory = self._root / found.name
                table = self._tables[found.name] = Table(directory, token, read_only=self._read_only)
            return table


def _described(name: str, manifest: Manifest) -> Described:
    return Described(name, manifest.spec, manifest.identity, state=manifest)
