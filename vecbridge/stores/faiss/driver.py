"""The embedded store: a directory of collections."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec
from threading import RLock
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from vecbridge import storage
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import Deadline, Described, OnFork
from vecbridge.errors import (
    MissingDependencyError,
    NotFoundError,
    StoreLockedError,
    VecbridgeError,
)
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IVFFlat
from vecbridge.schema import CollectionSpec
from vecbridge.stores.faiss import errors, files
from vecbridge.stores.faiss.files import WriterLock
from vecbridge.stores.faiss.place import SPEC, Place, StoredSpec
from vecbridge.urls import StoreOptions, StoreURL

if TYPE_CHECKING:
    from vecbridge.stores.faiss.collection import FaissCollection, FaissEncoder

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_DISK_THREADS: Final = 4
_GRAPHS: Final = (Auto.kind, HNSW.kind)
_LISTS: Final = (IVFFlat.kind, IVFSQ8.kind, IVFPQ.kind)


class FaissOptions(StoreOptions):
    """Options of a ``faiss:`` URL.

    Attributes:
        device: "cuda" trains and searches IVF indexes on a GPU.
    """

    device: Literal["cpu", "cuda"] = "cpu"


class FaissDriver:
    """Collections in a directory on a local disk.

    One process writes to a collection at a time; any number reads it meanwhile.

    Args:
        url: ``faiss:///path/to/dir``, or ``faiss:./relative``.
        options: Of the store.
        read_only: Takes no lock and writes nothing, as in a forked child.

    Raises:
        MissingDependencyError: FAISS is not installed.
        ConfigError: ``device="cuda"`` without a GPU.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        backend="faiss",
        indexes=frozenset({Flat.kind, *_GRAPHS, *_LISTS}),
        knobs=dict.fromkeys(_GRAPHS, frozenset({"ef"})) | dict.fromkeys(_LISTS, frozenset({"nprobe"})),
        id_operators=frozenset({"==", "!=", "in", "<", "<=", ">", ">="}),
        request_rows=sys.maxsize,
        parallel_requests=1,
        atomic_batch=True,
        atomic_conflict=True,
        adds_fields=True,
        deletes_where=True,
        counts_where=True,
        splits=True,
        compacts=True,
        trust_reads=math.inf,
        trust_writes=math.inf,
    )
    options: ClassVar[type[StoreOptions]] = FaissOptions
    on_fork: ClassVar[OnFork] = "read_only"

    def __init__(self, url: StoreURL, options: FaissOptions, *, read_only: bool = False) -> None:
        self._root = url.directory()
        self.url = replace(url, path=str(self._root.absolute()))
        for package in ("faiss", "psutil"):
            if find_spec(package) is None:
                raise MissingDependencyError(package, extra="faiss")
        if options.device == "cuda":
            from vecbridge.stores.faiss import gpu

            gpu.require(options.device)
        self._device = options.device
        self._read_only = read_only
        self._mutex = RLock()
        self._locks: dict[str, WriterLock] = {}
        self._collections: dict[tuple[str, str], FaissCollection] = {}
        self._disk = ThreadPoolExecutor(_DISK_THREADS, "vecbridge-faiss-disk")  # starts no thread yet

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """None: the figures say it all."""
        return ()

    def connect(self, deadline: Deadline) -> Capabilities:
        """The same wherever FAISS runs."""
        return self.capabilities

    def names(self, deadline: Deadline) -> Iterable[str]:
        """Directories with a spec."""
        return [path.parent.name for path in self._root.glob(f"[a-z]*/{SPEC}")]

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """The spec of a collection.

        Raises:
            CorruptStoreError: It is damaged.
        """
        if not _NAME.fullmatch(name):
            return None
        stored = StoredSpec.read(self._root / name)
        return None if stored is None else _described(name, stored)

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Writes the spec beside the other collections, then gives the directory its name.

        Raises:
            CollectionExistsError: Another process made one meanwhile.
            StoreLockedError: Another process writes to the one that is to be replaced.
        """
        self._require_writable()
        files.refuse_network_file_system(self._root)
        stored = StoredSpec(token, spec, len(spec.fields))
        with self._mutex, storage.new_collection(self._root / spec.name) as hidden:
            stored.write(hidden)
            if replacing is not None:
                with suppress(NotFoundError):  # what took its place meanwhile keeps the name
                    self.drop(replacing, None, deadline)
        return _described(spec.name, stored)

    def attach(self, found: Described, namespace: str) -> FaissCollection:
        """The driver of one namespace, the same for all of its handles: they share views and the log.

        It knows the fields of the handle that was opened last; the others read the columns that they know.
        """
        from vecbridge.stores.faiss.collection import FaissCollection

        token = found.identity.value
        key = found.name, namespace
        with self._mutex:
            collection = self._collections.get(key)
            if collection is None or collection.reader.place.token != token:
                directory = self._root / found.name / _directory(namespace)
                place = Place.at(directory, found.state, self._device)
                lock = None if self._read_only else self._lock(found.name)
                collection = self._collections[key] = FaissCollection(place, lock, self._disk)
            collection.reader.grow(found.state)
            return collection

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> FaissEncoder:
        """The same for every collection."""
        from vecbridge.stores.faiss.collection import FaissEncoder

        return FaissEncoder()

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        """Directories with a CURRENT."""
        paths = (self._root / found.name).glob("ns*/CURRENT")
        return [_namespace(path.parent.name) for path in paths]

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Removes a collection, or one namespace of it.

        Raises:
            StoreLockedError: Another process writes to the collection.
            NotFoundError: It was dropped or replaced meanwhile.
        """
        self._require_writable()
        name = found.name
        with self._mutex, ExitStack() as removing:
            self._take_lock(found)
            keys = [key for key in self._collections if key[0] == name and namespace in (None, key[1])]
            for key in keys:
                removing.enter_context(self._collections[key].upkeep.removing())
            if namespace is not None:
                storage.remove_tree(self._root / name / _directory(namespace))
                return  # its handles go on, and so does its driver: two would overwrite each other
            storage.remove_tree(self._root / name)
            for key in keys:
                del self._collections[key]
            self._locks.pop(name).release()

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Replaces spec.json, and nothing else: :mod:`.place` says how rows from before are read.

        Raises:
            StoreLockedError: Another process writes to the collection.
            NotFoundError: It was dropped or replaced meanwhile.
        """
        self._require_writable()
        directory = self._root / found.name
        with self._mutex:
            if self._require_same(found).spec != found.spec:  # a look that takes no lock
                return None
            before = self._take_lock(found)
            if before.spec != found.spec:
                return None
            for remains in directory.glob(f"{storage.TEMPORARY}{SPEC}.*"):  # of one that died over this
                remains.unlink()
            stored = replace(before, spec=spec)
            stored.write(directory)
            for (name, _), collection in self._collections.items():
                if name == found.name:
                    collection.reader.grow(stored)
        return _described(found.name, stored)

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """See :mod:`.errors`."""
        return errors.mapped(exc, what)

    def forked(self) -> None:
        """Has FAISS search in one thread; the locks close their inherited files by themselves."""
        _search_in_one_thread()

    def close(self) -> None:
        """Closes the files and gives the writers' locks back."""
        with self._mutex:
            for collection in self._collections.values():
                collection.upkeep.close()
            self._disk.shutdown()  # before the locks go: an interrupted upsert may still be writing
            for lock in self._locks.values():
                lock.release()
            self._collections.clear()
            self._locks.clear()

    def _require_writable(self) -> None:
        if self._read_only:
            raise StoreLockedError(f"{self._root} was opened for reading only")

    def _lock(self, name: str) -> WriterLock:
        return self._locks.setdefault(name, WriterLock(self._root / name / "lock"))

    def _take_lock(self, found: Described) -> StoredSpec:
        lock = self._lock(found.name)
        held = lock.held
        self._require_same(found)  # first: what replaced it has its own lock
        lock.acquire()
        try:
            return self._require_same(found)
        except BaseException:
            if not held:
                lock.release()
            raise

    def _require_same(self, found: Described) -> StoredSpec:
        stored = StoredSpec.read(self._root / found.name)
        if stored is None or stored.identity != found.identity:
            raise NotFoundError(f"collection {found.name!r} was dropped or replaced since it was opened")
        return stored


def _described(name: str, stored: StoredSpec) -> Described:
    return Described(name, stored.spec, stored.identity, state=stored)


def _search_in_one_thread() -> None:
    """In a forked child GNU OpenMP would wait for ever for the parent's threads, which are not there."""
    faiss = sys.modules.get("faiss")
    if faiss is not None:
        faiss.omp_set_num_threads(1)


os.register_at_fork(after_in_child=_search_in_one_thread)  # whether the parent's stores are open or closed


def _directory(namespace: str) -> str:
    """A directory that differs for each namespace on file systems that ignore case, too."""
    return "ns-" + re.sub("[A-Z]", lambda capital: "+" + capital[0].lower(), namespace) if namespace else "ns"


def _namespace(directory: str) -> str:
    return re.sub(r"\+([a-z])", lambda capital: capital[1].upper(), directory[3:])
