"""A collection on the disk: reading it at any moment, and writing to it under its one lock."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Final

import pyarrow as pa

from vecbridge.driver import Deadline, outdated
from vecbridge.errors import (
    CorruptStoreError,
    NotFoundError,
    StoreLockedError,
    UnavailableError,
    VecbridgeError,
)
from vecbridge.schema import CollectionSpec
from vecbridge.storage import TEMPORARY, WriterLock, sync_directory
from vecbridge.stores.snapshot import pending
from vecbridge.stores.snapshot.manifest import LOCK, MANIFEST, PENDING, Manifest, NamespaceEntry, is_part
from vecbridge.stores.snapshot.merge import Output, compacted, merged
from vecbridge.stores.snapshot.parts import Parts
from vecbridge.stores.snapshot.pending import RequestName
from vecbridge.stores.snapshot.view import Place, View, build

#: What may be pending before a write merges it: memory that is mapped, and the work of a reader.
MOST_PENDING_BYTES = 512 << 20
MOST_PENDING_REQUESTS = 2_000
_ATTEMPTS: Final = 100
_LOG: Final = logging.getLogger(__name__)


class Table:
    """One collection, shared by all of its handles in a store.

    Its mutex is held by whatever writes; readers take it not, and see the newest state by themselves.

    Args:
        directory: Of the collection.
        token: Which collection it is.
        read_only: Takes no lock and writes nothing.
    """

    def __init__(self, directory: Path, token: str, *, read_only: bool) -> None:
        self.directory = directory
        self.token = token
        self._lock = None if read_only else WriterLock(directory / LOCK)
        self._mutex = RLock()
        self._viewing = RLock()
        self._place = Place(directory, Parts())
        self._read: tuple[tuple[int, int, int], Manifest] | None = None
        self._views: dict[str, View] = {}
        self._number = 0  # of the last request
        self._pending_bytes = 0
        self._pending_requests = 0

    # ------------------------------------------------------------------------------------------ reading

    def look(self) -> Manifest | None:
        """The newest manifest, whichever collection it is of; None if there is none."""
        try:
            status = (self.directory / MANIFEST).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        stamp = status.st_ino, status.st_mtime_ns, status.st_size
        known = self._read
        if known is not None and known[0] == stamp:
            return known[1]
        manifest = Manifest.read(self.directory)
        if manifest is not None:
            self._read = stamp, manifest
        return manifest

    def manifest(self) -> Manifest:
        """The newest manifest.

        Raises:
            NotFoundError: The collection was dropped or replaced.
        """
        manifest = self.look()
        if manifest is None or manifest.token != self.token:
            name = self.directory.name
            raise NotFoundError(f"collection {name!r} was dropped or replaced since it was opened")
        return manifest

    def view(self, namespace: str) -> View:
        """What a namespace holds now.

        Raises:
            NotFoundError: The collection was dropped or replaced.
            CorruptStoreError: A file is not what the manifest says.
        """
        with self._viewing:
            for _ in range(_ATTEMPTS):
                manifest = self.manifest()
                names = self._pending(manifest.namespaces.get(namespace))
                known = self._views.get(namespace)
                if known is not None and known.manifest is manifest and known.names == names:
                    return known
                try:
                    view = build(manifest, namespace, names, self._place, known)
                except FileNotFoundError as exc:
                    self.require_merged(manifest, exc)
                    continue
                if self.manifest() is manifest:
                    self._views[namespace] = view
                    return view
        raise UnavailableError(f"{self.directory}: the writer went on merging: try again")

    def require_merged(self, manifest: Manifest, missing: FileNotFoundError) -> None:
        """Lets it pass that a file is missing if a merge has removed it: a manifest is the newest no more.

        Raises:
            CorruptStoreError: Somebody else removed it.
        """
        path = str(missing.filename)
        if (
            self.manifest() is manifest
            and not Path(path).exists()
            and RequestName.parse(Path(path).name) is None
        ):
            raise CorruptStoreError(f"{path} is missing, and the manifest names it") from missing

    # ------------------------------------------------------------------------------------------ writing

    @property
    def holds_lock(self) -> bool:
        """Whether this process is the one that writes."""
        return self._lock is not None and self._lock.held

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds off every other writer.

        Raises:
            StoreLockedError: Another process writes to the collection.
            NotFoundError: The collection was dropped or replaced.
        """
        with self._mutex:
            if self._lock is None:
                raise StoreLockedError(f"{self.directory} was opened for reading only")
            if not self._lock.held:
                self.manifest()  # first: what was dropped has no lock, and what replaced it has its own
                self._lock.acquire()
                try:
                    self._begin(self.manifest())
                except BaseException:
                    self._lock.release()
                    raise
            yield

    def upsert(self, namespace: str, batch: pa.RecordBatch) -> None:
        """Writes rows: returns when they are on the disk, all of them."""
        with self.writing():
            if batch.num_columns != len(self.manifest().spec.column_names):
                raise outdated(self.directory.name)
            entry = self._entry(namespace)
            self._number += 1  # first: a request that fails may leave its name behind
            name = pending.write_upsert(
                self.directory / PENDING, self._number, entry.directory, batch, self.manifest().spec
            )
            if name.kind == "upsert.part":
                self._place.parts.hash_ahead(self.directory / PENDING / str(name))
            self._acknowledged(name)

    def delete(self, namespace: str, ids: list[pa.Array]) -> None:
        """Writes that ids are gone: returns when that is on the disk."""
        with self.writing():
            entry = self._entry(namespace)
            self._number += 1
            self._acknowledged(
                pending.write_delete(self.directory / PENDING, self._number, entry.directory, ids)
            )

    def clear(self, namespace: str) -> None:
        """Removes every row of a namespace."""
        with self.writing():
            entry = replace(
                self._entry(namespace), next=self.view(namespace).next, merged=self._number, files=()
            )
            self._commit(self.manifest().changed(namespace, entry))

    def merge(self, deadline: Deadline | None = None) -> None:
        """Merges what is pending, in every namespace.

        Raises:
            DeadlineError: Time ran out; what was not merged is pending still.
        """
        with self.writing():
            pa.default_memory_pool().release_unused()  # memory that earlier writes no longer use
            for namespace in list(self.manifest().namespaces):
                view = self.view(namespace)
                if view.names and view.entry is not None:
                    with self._output(view.entry, deadline) as output:
                        entry = merged(view, view.entry, output)
                        self._commit(self.manifest().changed(namespace, entry))
            self._count_pending()

    def compact(self, namespace: str, deadline: Deadline) -> None:
        """Merges, and writes small files together.

        Raises:
            DeadlineError: Time ran out.
        """
        with self.writing():
            self.merge(deadline)
            view = self.view(namespace)
            if view.entry is not None:
                with self._output(view.entry, deadline) as output:
                    self._commit(self.manifest().changed(namespace, compacted(view, view.entry, output)))

    def drop(self, namespace: str) -> None:
        """Removes a namespace."""
        with self.writing():
            entry = self.manifest().namespaces.get(namespace)
            if entry is not None:
                self._commit(self.manifest().changed(namespace, None))
                self._count_pending()

    def grow(self, before: CollectionSpec, spec: CollectionSpec) -> Manifest | None:
        """Stores a spec with more fields; None if the old one is no longer ``before``."""
        if self.manifest().spec != before:  # a look that takes no lock
            return None
        with self.writing():
            manifest = self.manifest()
            if manifest.spec != before:
                return None
            self._commit(replace(manifest, version=manifest.version + 1, spec=spec))
            return self.manifest()

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Holds off every writer while the collection is removed, then forgets it."""
        with self.writing():
            yield
            self.release()

    def release(self) -> None:
        """Gives the lock back, and closes what is open."""
        with self._mutex:
            if self._lock is not None:
                self._lock.release()
            self._views.clear()
            self._place.parts.close()

    def close(self) -> None:
        """Merges what is pending, if this process writes, and gives the lock back."""
        with self._mutex:
            try:
                if self.holds_lock:
                    self.merge()
            except Exception as exc:  # noqa: BLE001 - what is pending is durable, and merged by the next writer
                _LOG.warning("%s: what is pending was not merged: %s", self.directory, exc)
            finally:
                self.release()

    # ----------------------------------------------------------------------------------------- the parts

    def _pending(self, entry: NamespaceEntry | None) -> tuple[RequestName, ...]:
        """Requests of a namespace that its files do not have yet, in their order."""
        if entry is None:
            return ()
        names = [
            name
            for name in pending.listed(self.directory / PENDING)
            if name.directory == entry.directory and name.number > entry.merged
        ]
        return tuple(sorted(names, key=lambda name: name.number))

    def _entry(self, namespace: str) -> NamespaceEntry:
        """The entry of a namespace, which the first write makes."""
        manifest = self.manifest()
        entry = manifest.namespaces.get(namespace)
        if entry is None:
            entry = NamespaceEntry(
                manifest.new_directory(namespace), generation=manifest.version + 1, merged=self._number
            )
            self._commit(manifest.changed(namespace, entry))
        return entry

    def _acknowledged(self, name: RequestName) -> None:
        self._pending_requests += 1
        with suppress(FileNotFoundError):
            self._pending_bytes += (self.directory / PENDING / str(name)).stat().st_size
        if self._pending_bytes > MOST_PENDING_BYTES or self._pending_requests > MOST_PENDING_REQUESTS:
            try:
                self.merge()
            except (
                OSError,
                pa.ArrowException,
                VecbridgeError,
            ) as exc:  # the write stands; the next one tries again
                _LOG.warning("%s: what is pending cannot be merged yet: %s", self.directory, exc)

    def _commit(self, manifest: Manifest) -> None:
        """Makes a manifest the newest one, then removes what it does not need."""
        manifest.write(self.directory)
        self._views.clear()  # they map files that are removed now
        self._clean(self.manifest())

    def _begin(self, manifest: Manifest) -> None:
        """Removes what a writer that died left behind, and finds out where it stopped."""
        (self.directory / PENDING).mkdir(exist_ok=True)
        self._clean(manifest)
        for directory in (self.directory, self.directory / PENDING):
            for path in directory.glob(f"{TEMPORARY}*"):
                path.unlink()
        numbers = [name.number for name in pending.listed(self.directory / PENDING)]
        numbers += [entry.merged for entry in manifest.namespaces.values()]
        self._number = max(numbers, default=0)
        self._count_pending()

    def _clean(self, manifest: Manifest) -> None:
        """Removes files of ours that a manifest does not name, and requests that it has merged."""
        entries = {entry.directory: entry for entry in manifest.namespaces.values()}
        gone: list[Path] = []
        for name in pending.listed(self.directory / PENDING):
            entry = entries.get(name.directory)
            if entry is None or name.number <= entry.merged:
                gone.append(self.directory / PENDING / str(name))
        for directory in self.directory.iterdir():
            if directory.name == PENDING or directory.is_symlink() or not directory.is_dir():
                continue
            entry = entries.get(directory.name)
            named = {file.name for file in entry.files} if entry is not None else set()
            gone += [path for path in directory.iterdir() if is_part(path.name) and path.name not in named]
        for path in gone:
            path.unlink(missing_ok=True)
        for directory in {path.parent for path in gone} - {self.directory / PENDING}:
            if directory.name not in entries:
                with suppress(OSError):  # what somebody else put there stays
                    directory.rmdir()
        self._place.parts.forget(gone)

    def _count_pending(self) -> None:
        sizes = [
            (self.directory / PENDING / str(name)).stat().st_size
            for name in pending.listed(self.directory / PENDING)
        ]
        self._pending_bytes, self._pending_requests = sum(sizes), len(sizes)

    @contextmanager
    def _output(self, entry: NamespaceEntry, deadline: Deadline | None) -> Iterator[Output]:
        """Where a namespace gets new files, which go again if their manifest is not committed."""
        manifest = self.manifest()
        directory = self.directory / entry.directory
        if not directory.is_dir():
            directory.mkdir()
            sync_directory(self.directory)
        output = Output(directory, manifest.spec, manifest.version + 1, self._place.parts, deadline)
        try:
            yield output
        except BaseException:
            newest = Manifest.read(self.directory)
            if newest is None or newest.version < output.version:  # else only what came after it failed
                output.discard()
                self._place.parts.forget(output.made)
            raise
