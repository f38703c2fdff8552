"""The driver of milvus-lite: Milvus in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import Deadline, Described, OnFork
from vecbridge.errors import ConfigError, DeadlineError, InvalidURLError, StoreLockedError
from vecbridge.schema import CollectionSpec
from vecbridge.stores.milvus import dialects
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.driver import MilvusDriver, require_package
from vecbridge.stores.milvus.options import MilvusOptions
from vecbridge.urls import StoreURL

if TYPE_CHECKING:
    from vecbridge.stores.milvus.connection import Connection
    from vecbridge.stores.milvus.embedded import Changes


class MilvusLiteDriver(MilvusDriver):
    """Milvus in this process, on a local directory whose name ends in ``.db``; for one process at a time.

    Args:
        url: ``milvus+lite:///path/to/file.db``, or ``milvus+lite:./file.db``.
        options: ``timeout`` and ``columns``; see :class:`MilvusOptions`.
        read_only: Changes nothing.

    Raises:
        MissingDependencyError: milvus-lite is not installed.
    """

    capabilities: ClassVar[Capabilities] = dialects.LITE.capabilities
    on_fork: ClassVar[OnFork] = "refuse"
    _columns: ClassVar[Literal["typed", "dynamic"]] = "typed"

    def __init__(self, url: StoreURL, options: MilvusOptions, *, read_only: bool = False) -> None:
        super().__init__(url, options, read_only=read_only)
        self._starting = threading.Lock()

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """A spec that is too large; rows that are not in an index yet are compared one by one."""
        return cls.size_gaps(spec)

    def connect(self, deadline: Deadline) -> Capabilities:
        """Starts the server, unless there is no directory yet: what only looks makes none."""
        if self._connection is None and not Path(self.url.path).exists():
            self._dialect = dialects.LITE
            return self._dialect.capabilities
        return super().connect(deadline)

    def names(self, deadline: Deadline) -> list[str]:
        """Names of the collections."""
        return super().names(deadline) if self._exists() else []

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """See :meth:`MilvusDriver.describe`."""
        return super().describe(name, deadline) if self._exists() else None

    @property
    def connection(self) -> Connection:
        """The embedded server, which is started when it is first needed."""
        with self._starting:
            if self._closed:
                raise ConfigError(f"{self.url} is closed")
            if self._connection is None:
                self._connection = self._opened()
            return self._connection

    def _exists(self) -> bool:
        """Whether there is a directory, or will be one in a moment."""
        return self._connection is not None or Path(self.url.path).exists()

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Adds to the stored spec, one call of this process at a time: milvus-lite mixes two up."""
        with _SERVERS.altering(deadline):
            return super().add_fields(found, spec, deadline)

    def forked(self) -> None:
        """Gives up the embedded server, which is the parent's."""
        _SERVERS.abandon(self.url.path)

    def close(self) -> None:
        """Stops the embedded server, unless another store of this process uses it."""
        super().close()
        with self._starting, self._mutex:
            if self._connection is not None:
                self._connection = None
                _SERVERS.leave(self.url.path)

    def _require_packages(self) -> None:
        super()._require_packages()
        require_package("milvus_lite")

    def _checked(self, url: StoreURL) -> StoreURL:
        path = url.directory().absolute()
        if path.suffix != ".db":
            raise InvalidURLError(f"{url}: the name of a milvus-lite directory ends in .db")
        return replace(url, path=str(path))

    def _opened(self) -> Connection:
        from vecbridge.stores.milvus.embedded import EmbeddedConnection

        return EmbeddedConnection(*_SERVERS.enter(self.url.path))

    def _has_index_file(self, name: str, field: str) -> bool:
        folders = (Path(self.url.path) / "collections" / name / "partitions").glob("*/indexes")
        return any(file.name.split(".")[1:2] == [field] for folder in folders for file in folder.iterdir())

    def _asked_dialect(self, connection: Connection, deadline: Deadline) -> Dialect:
        return dialects.LITE  # nobody needs to be asked, after a start that may have taken seconds


class _EmbeddedServers:
    """The embedded servers of this process: one a directory, for as long as a driver uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._altering = threading.Lock()
        self._users: dict[str, int] = {}
        self._changes: dict[str, Changes] = {}
        self._inherited: list[object] = []

    def enter(self, path: str) -> tuple[str, object, Changes]:
        """Starts the server of a directory if it is not running.

        Returns:
            Its "host:port"; its database, None in a version whose modules are not known; what is written.

        Raises:
            StoreLockedError: Another process has the directory.
        """
        from milvus_lite.server_manager import server_manager_instance

        from vecbridge.stores.milvus.embedded import Changes, known_engine

        with self._lock:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            uri = server_manager_instance.start_and_get_uri(path)
            if uri is None:  # it logged why; another process is the one reason that a user can mend
                raise StoreLockedError(
                    f"milvus-lite cannot open {path}: is another process using it? One at a time can"
                )
            self._users[path] = self._users.get(path, 0) + 1
            database = server_manager_instance._servers[path][1] if known_engine() else None
            return str(uri).partition("//")[2], database, self._changes.setdefault(path, Changes())

    def leave(self, path: str) -> None:
        """Stops the server with its last user."""
        from milvus_lite.server_manager import server_manager_instance

        with self._lock:
            self._users[path] -= 1
            if not self._users[path]:
                self._changes.pop(path, None)
                server_manager_instance.release_server(path)

    @contextmanager
    def altering(self, deadline: Deadline) -> Iterator[None]:
        """Keeps other threads from altering a collection meanwhile.

        Raises:
            DeadlineError: Another thread is at it for too long.
        """
        if not self._altering.acquire(timeout=deadline.left()):
            raise DeadlineError("another collection of milvus-lite is still being altered")
        try:
            yield
        finally:
            self._altering.release()

    def abandon(self, path: str) -> None:
        """In a forked child: forgets the parent's server, so that nothing here stops it.

        milvus-lite stops its servers when a process ends. In a child that would close the port on which the
        parent listens, and unlock the directory: the lock belongs to the open file, which both share. So the
        server is taken from those that are stopped, and kept from being destroyed. The child's descriptor of
        the lock is closed, without unlocking; else the lock would outlive the parent.
        """
        from milvus_lite import server_manager

        manager = server_manager.server_manager_instance
        self._lock = threading.Lock()
        self._altering = threading.Lock()
        self._users.pop(path, None)
        manager._lock = threading.Lock()
        entry = manager._servers.pop(path, None)
        if entry is None:
            return
        _, database, _ = entry
        self._inherited.append(entry)
        if (descriptor := database._lock_fd) is not None:
            database._lock_fd = None
            with suppress(OSError):
                os.close(descriptor)


_SERVERS: Final = _EmbeddedServers()
