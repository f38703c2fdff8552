"""A database as people use it: one class for every backend."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from vecbridge.agreement import require_agreement
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.closing import Closing
from vecbridge.collection import Collection
from vecbridge.driver import Deadline, Described, StoreDriver
from vecbridge.errors import CollectionExistsError, NotFoundError, suggestion
from vecbridge.front import processes
from vecbridge.front.arguments import (
    IfExists,
    check_namespace,
    require_grow,
    require_if_exists,
    require_name,
    require_spec,
)
from vecbridge.front.connection import Connection
from vecbridge.front.dryrun import DryRun
from vecbridge.front.telemetry import operation
from vecbridge.schema import CollectionSpec
from vecbridge.urls import StoreURL, parse

__all__ = ["Collection", "Store"]

_CREATE_SECONDS: Final = 300.0
_DROP_SECONDS: Final = 120.0


class Store(Closing):
    """A database: thread-safe; making one sends nothing.

    Made by :func:`vecbridge.connect`. After ``close()`` every call raises ConfigError. In a forked child a
    server is connected to anew; an embedded database can be read there, or not be used at all.

    Attributes:
        url: Where it is; its text never shows a password.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2))
        ...     store.collections()
        ['photos']
    """

    def __init__(
        self, driver_class: type[StoreDriver], url: str | StoreURL, options: Mapping[str, Any]
    ) -> None:
        """A store over a driver; :func:`vecbridge.connect` finds the driver by the URL's scheme.

        Args:
            driver_class: The backend.
            url: As it was given, secrets included.
            options: Keyword options; they stand above those of the URL.
        """
        self._connection = Connection(driver_class, parse(url), options)
        self.url: StoreURL = self._connection.driver.url
        self._creating = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What this server can do; before the first call, the most that any server of its kind can."""
        return self._connection.capabilities

    def check(self, spec: CollectionSpec) -> list[Gap]:
        """Everything about a spec that this very server cannot keep; connects to it.

        Args:
            spec: What would be created.

        Returns:
            What would be lost; empty if nothing. ``create`` refuses a spec with a blocking gap.
        """
        require_spec(spec)
        driver = self._connection.connected()
        return [*self.capabilities.check(spec), *driver.gaps(spec)]

    def dry_run(self, spec: CollectionSpec, *, namespace: str = "") -> DryRun:
        """Encodes rows as a collection would that need not exist; connects, makes nothing and sends no row.

        Args:
            spec: What the collection holds, or would hold.
            namespace: Which of it.

        Returns:
            What says which rows the database refuses, and how many requests and bytes the others take.

        Example:
            >>> import vecbridge as vb
            >>> from vecbridge import records
            >>> spec = vb.CollectionSpec.single("photos", dim=2)
            >>> with vb.connect("memory://") as store:
            ...     rows = records.checked(vb.batch(spec, id=["a", "b"], vector=[[1, 0], [0, 1]]), spec)
            ...     store.dry_run(spec).requests(rows), store.collections()
            ([DryRequest(rows=2, bytes=26)], [])
        """
        require_spec(spec)
        check_namespace(spec, namespace)
        found = self._connection.describe(spec.name)
        return DryRun(self._connection, spec, found, namespace)

    @operation("create_collection")
    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", grow: bool = False, namespace: str = ""
    ) -> Collection:
        """Builds a collection.

        Args:
            spec: What to build; it is stored, and built as it stands.
            if_exists: "open" opens one that agrees with the spec, "replace" drops it first.
            grow: With "open", fields may differ: those that the collection does not have are added to it, and
                it keeps those that the spec does not have.
            namespace: Which namespace the returned collection is.

        Raises:
            SchemaError: A name that no backend takes, in the spec of another program's collection.
            CollectionExistsError: It exists, or with "open" it differs.
            UnsupportedError: The backend cannot build it; nothing was made.
            ConfigError: A namespace where there are none, or a misspelt ``if_exists``.
        """
        require_if_exists(if_exists)
        require_grow(grow, if_exists)
        require_spec(spec)
        spec = replace(spec)  # what describes another program's collection may have names that none has
        self._connection.require_buildable(spec)  # by any server, before anything is sent
        check_namespace(spec, namespace)
        self._connection.connected()
        self._connection.require_writable()
        self._connection.require_buildable(spec)  # by this very server
        with self._creating:
            existing = self._connection.describe(spec.name)
            if existing is not None and if_exists == "error":
                raise CollectionExistsError(f'collection {spec.name!r} exists: if_exists="open" or "replace"')
            if existing is None or if_exists == "replace":
                existing = self._build(spec, existing, if_exists, grow=grow)
            else:
                require_agreement(existing.spec, spec, other_fields=grow)
            collection = Collection(self._connection, existing, namespace)
        if grow:
            collection.add_fields(spec.fields)
        return collection

    @operation("open_collection")
    def open(self, name: str, *, namespace: str = "") -> Collection:
        """Opens a collection that exists, also one that vecbridge did not make.

        Raises:
            NotFoundError: It does not exist.
            ConfigError: A namespace where there are none.
        """
        described = self._describe(name)
        _require_namespace(described, namespace)
        return Collection(self._connection, described, namespace)

    @operation("list_collections")
    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        driver = self._connection.connected()
        return sorted(self._connection.call("list collections", driver.names, self._connection.deadline()))

    @operation("list_namespaces")
    def namespaces(self, name: str) -> list[str]:
        """Namespaces of a collection that were written to, sorted; ``[""]`` unless it is namespaced.

        Raises:
            NotFoundError: The collection does not exist.
        """
        described = self._describe(name)
        if not described.spec.namespaced:
            return [""]
        verb = self._connection.driver.namespaces
        deadline = self._connection.deadline()
        return sorted(self._connection.call(f"list the namespaces of {name!r}", verb, described, deadline))

    @operation("drop_collection")
    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Removes a collection, or one namespace of it (None is the whole collection).

        Raises:
            NotFoundError: The collection does not exist.
            StoreLockedError: Another process writes to it.
        """
        self._drop(self._describe(name), namespace)

    @operation("drop_collection")
    def drop_exactly(self, name: str, identity: str, *, namespace: str | None = None) -> None:
        """Removes a collection, or one namespace of it, unless another one has taken its name.

        Args:
            name: Its name.
            identity: Its :attr:`Collection.identity`, as it was when somebody decided to remove it.
            namespace: The namespace; None is the whole collection.

        Raises:
            NotFoundError: The collection does not exist, or was made anew.
            StoreLockedError: Another process writes to it.
        """
        described = self._describe(name)
        if described.identity.value != identity:
            raise NotFoundError(f"collection {name!r} was dropped or replaced: another one has its name")
        self._drop(described, namespace)

    def close(self) -> None:
        """Releases connections, files and locks; a second call does nothing."""
        self._connection.close()

    def __repr__(self) -> str:
        return f"<Store {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, self._connection.pickled()

    def _describe(self, name: str) -> Described:
        described = self._connection.describe(require_name(name))
        if described is None:
            hint = suggestion(name, self.collections())
            raise NotFoundError(f"no collection {name!r} in {self.url}{hint}")
        return described

    def _build(
        self, spec: CollectionSpec, existing: Described | None, if_exists: IfExists, *, grow: bool
    ) -> Described:
        verb, token = self._connection.driver.create, uuid.uuid4().hex
        deadline = Deadline.after(_CREATE_SECONDS)
        try:
            described = self._connection.call(f"create {spec.name!r}", verb, spec, token, existing, deadline)
        except CollectionExistsError:
            made_meanwhile = self._connection.describe(spec.name) if if_exists == "open" else None
            if made_meanwhile is None:
                raise
            require_agreement(made_meanwhile.spec, spec, other_fields=grow)
            return made_meanwhile
        if existing is not None:
            self._note_dropped(existing)
        return described

    def _drop(self, described: Described, namespace: str | None) -> None:
        self._connection.require_writable()
        if namespace is not None:
            _require_namespace(described, namespace)
        verb = self._connection.driver.drop
        self._connection.call(
            f"drop {described.name!r}", verb, described, namespace, Deadline.after(_DROP_SECONDS)
        )
        if namespace is None:
            self._note_dropped(described)

    def _note_dropped(self, described: Described) -> None:
        if described.identity.certain:
            processes.note_dropped(str(self.url), described.name, described.identity.value)


def _require_namespace(described: Described, namespace: str) -> None:
    """Refuses a namespace that the collection cannot have; another program's may have any name.

    Raises:
        ConfigError: Says which names there are, or that there are none.
    """
    if not (described.any_namespace and described.spec.namespaced):
        check_namespace(described.spec, namespace)
