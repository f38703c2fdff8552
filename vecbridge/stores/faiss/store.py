"""The embedded store: a directory of collections."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from vecbridge import indexes
from vecbridge.capabilities import Capabilities
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    CorruptStoreError,
    MissingDependencyError,
    NotFoundError,
    SchemaError,
)
from vecbridge.protocols import IfExists, check_if_exists
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec, check_namespace, require_agreement, suggestion
from vecbridge.stores.faiss import files
from vecbridge.stores.faiss.files import WriterLock, mapped_errors
from vecbridge.urls import StoreOptions, StoreURL, read_options

if TYPE_CHECKING:
    from vecbridge.stores.faiss.collection import FaissCollection
    from vecbridge.stores.faiss.shard import Shard

_SPEC: Final = "spec.json"


class FaissOptions(StoreOptions):
    """Options of a ``faiss:`` URL.

    Attributes:
        device: "cuda" trains and searches IVF indexes on a GPU.
    """

    device: Literal["cpu", "cuda"] = "cpu"


class FaissStore:
    """Collections in a directory on a local disk.

    One process writes to a collection at a time; any number reads it meanwhile.

    Args:
        url: ``faiss:///path/to/dir``, or ``faiss:./relative``.
        **options: See :class:`FaissOptions`.

    Raises:
        MissingDependencyError: FAISS is not installed.
        ConfigError: ``device="cuda"`` without a GPU.
    """

    capabilities = Capabilities(
        backend="faiss",
        indexes=frozenset(
            each.kind
            for each in (
                indexes.Auto,
                indexes.Flat,
                indexes.IVFFlat,
                indexes.IVFSQ8,
                indexes.IVFPQ,
                indexes.HNSW,
            )
        ),
        knobs={
            "auto": frozenset({"ef"}),
            "hnsw": frozenset({"ef"}),
            "ivf_flat": frozenset({"nprobe"}),
            "ivf_sq8": frozenset({"nprobe"}),
            "ivf_pq": frozenset({"nprobe"}),
        },
        atomic_batch=True,
    )

    def __init__(self, url: StoreURL, **options: Any) -> None:
        self._options = read_options(FaissOptions, url, options)
        self._root = url.directory()
        self._url = replace(url, path=str(self._root.absolute()))
        for package in ("faiss", "psutil"):
            if find_spec(package) is None:
                raise MissingDependencyError(package, extra="faiss")
        if self._options.device == "cuda":
            from vecbridge.stores.faiss import gpu

            gpu.require(self._options.device)
        self._mutex = RLock()
        self._locks: dict[str, WriterLock] = {}
        self._shards: dict[tuple[str, str], Shard] = {}

    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", namespace: str = ""
    ) -> FaissCollection:
        """Builds a collection; see :class:`vecbridge.store.Store`."""
        check_if_exists(if_exists)
        self.capabilities.require(spec)
        check_namespace(spec, namespace)
        with self._mutex:
            exists = (self._root / spec.name / _SPEC).exists()
            if exists and if_exists == "error":
                raise CollectionExistsError(f'collection {spec.name!r} exists: if_exists="open" or "replace"')
            if exists and if_exists == "open":
                require_agreement(self._read_spec(spec.name)[0], spec)
            else:
                try:
                    self._build(spec, replace=exists)
                except CollectionExistsError:
                    if if_exists != "open":
                        raise
                    require_agreement(self._read_spec(spec.name)[0], spec)
            return self.open(spec.name, namespace=namespace)

    def open(self, name: str, *, namespace: str = "") -> FaissCollection:
        """Opens a collection; see :class:`vecbridge.store.Store`."""
        from vecbridge.stores.faiss.collection import FaissCollection

        spec, token = self._read_spec(name)
        check_namespace(spec, namespace)
        shard = self._shard(spec, token, namespace)
        shard.view()  # a damaged catalogue is refused now rather than later
        return FaissCollection(
            self._url.of_collection(name, namespace), spec, namespace, self.capabilities, token, shard
        )

    def import_index(
        self,
        path: str | os.PathLike[str],
        spec: CollectionSpec | None = None,
        *,
        name: str | None = None,
        ids: Sequence[str | int] | None = None,
        vectors: FloatArray | None = None,
        if_exists: IfExists = "error",
        namespace: str = "",
    ) -> FaissCollection:
        """Builds a collection from a FAISS index file that was written without vecbridge.

        The vectors are copied and the index is built again, by :meth:`FaissCollection.wait_ready`, since
        a bare file can neither be extended safely nor checked. A file with inner products may be imported
        as "dot" or as "cosine".

        Args:
            path: What ``faiss.write_index`` wrote.
            spec: What to build, with one vector field; its scalar fields are null. Or give ``name``.
            name: What to call a collection that is like the file: its dim, metric (inner products become
                "dot"), kind of index, int64 ids.
            ids: By FAISS's own id (the position, where the index has none), the id in the collection.
                None takes FAISS's, as decimal text where the spec has string ids.
            vectors: Shape (n, dim), where the index holds only an approximation of them; in the order in
                which they were added, or, where there are inverted lists, of their FAISS ids.
            if_exists: As for :meth:`create`.
            namespace: As for :meth:`create`.

        Returns:
            The collection; every row is written, and its index is not built yet.

        Raises:
            UnsupportedError: The index lost the vectors (SQ, PQ, transforms), and none were given.
            SchemaError: A dim, a metric or ids that do not fit the spec.
            InvalidRecordError: Vectors that no collection takes; nothing was made.
            ConfigError: No such file.
            CorruptStoreError: FAISS cannot read it.
        """
        from vecbridge.stores.faiss import bare

        if (spec is None) == (name is None):
            raise ConfigError("import_index() takes a spec or name=, exactly one of them")
        found = bare.read(path)
        spec = found.spec(str(name)) if spec is None else spec
        found.require(spec)
        keys, values = found.ids_for(spec, ids), found.with_vectors(vectors)
        for _ in bare.batches(spec, keys, values, check=True):
            pass
        collection = self.create(spec, if_exists=if_exists, namespace=namespace)
        for batch in bare.batches(spec, keys, values):
            collection.upsert(batch)
        return collection

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        return sorted(each.parent.name for each in self._root.glob(f"[a-z]*/{_SPEC}"))

    def namespaces(self, name: str) -> list[str]:
        """Namespaces of a collection; see :class:`vecbridge.store.Store`."""
        spec, _ = self._read_spec(name)
        if not spec.namespaced:
            return [""]
        return sorted(_namespace(each.parent.name) for each in (self._root / name).glob("ns*/CURRENT"))

    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Removes a collection, or one namespace of it.

        Raises:
            StoreLockedError: Another process writes to the collection.
        """
        with self._mutex:
            spec, _ = self._read_spec(name)
            self._lock(name).acquire()
            chosen = None if namespace is None else check_namespace(spec, namespace)
            keys = [key for key in self._shards if key[0] == name and chosen in (None, key[1])]
            with ExitStack() as held, mapped_errors(f"drop {name!r}"):
                for key in keys:
                    held.enter_context(self._shards[key].removing())
                if chosen is not None:
                    files.remove_tree(self._root / name / _directory(chosen))
                    return  # its handles go on, and so does their shard: two would overwrite each other
                files.remove_tree(self._root / name)
            for key in keys:
                del self._shards[key]
            self._locks.pop(name).release()

    def close(self) -> None:
        """Closes the files and gives the writer locks back."""
        with self._mutex:
            for shard in self._shards.values():
                shard.close()
            for lock in self._locks.values():
                lock.release()
            self._shards.clear()
            self._locks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _build(self, spec: CollectionSpec, *, replace: bool) -> None:
        files.refuse_network_file_system(self._root)
        directory = self._root / f".new-{uuid.uuid4().hex}"
        content = json.dumps({"token": uuid.uuid4().hex, "spec": spec.to_dict()}, ensure_ascii=False)
        with mapped_errors(f"create {spec.name!r} in {self._root}"):
            directory.mkdir(parents=True)
            try:
                files.replace_file(directory / _SPEC, content.encode())
                if replace:
                    self.drop(spec.name)
                directory.rename(self._root / spec.name)
                files.sync_directory(self._root)
            except BaseException as exc:
                files.remove_tree(directory)
                if isinstance(exc, OSError) and exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise CollectionExistsError(f"collection {spec.name!r} was made meanwhile") from exc
                raise

    def _read_spec(self, name: str) -> tuple[CollectionSpec, str]:
        path = self._root / name / _SPEC
        try:
            stored = json.loads(path.read_bytes())
            return CollectionSpec.from_dict(stored["spec"]), str(stored["token"])
        except (FileNotFoundError, NotADirectoryError):
            hint = suggestion(name, self.collections())
            raise NotFoundError(f"no collection {name!r} in {self._root}{hint}") from None
        except (ValueError, KeyError, TypeError, SchemaError) as exc:
            raise CorruptStoreError(f"{path} is damaged: {exc}; nothing was changed") from exc

    def _lock(self, name: str) -> WriterLock:
        return self._locks.setdefault(name, WriterLock(self._root / name / "lock"))

    def _shard(self, spec: CollectionSpec, token: str, namespace: str) -> Shard:
        from vecbridge.stores.faiss.shard import Shard

        with self._mutex:
            key = (spec.name, namespace)
            shard = self._shards.get(key)
            if shard is None or shard.token != token:
                directory = self._root / spec.name / _directory(namespace)
                shard = Shard(directory, spec, token, self._lock(spec.name), self._options.device)
                self._shards[key] = shard
            return shard


def _directory(namespace: str) -> str:
    """A directory that differs for each namespace on file systems that ignore case, too."""
    return "ns-" + re.sub("[A-Z]", lambda found: "+" + found[0].lower(), namespace) if namespace else "ns"


def _namespace(directory: str) -> str:
    return re.sub(r"\+([a-z])", lambda found: found[1].upper(), directory[3:])
