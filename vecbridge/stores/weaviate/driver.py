"""Weaviate: a server, a cluster, Weaviate Cloud."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import CollectionDriver, Deadline, Described, Identity, OnFork
from vecbridge.errors import (
    CollectionExistsError,
    MissingDependencyError,
    NotFoundError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.schema import CollectionSpec
from vecbridge.stores.weaviate import layout, schema
from vecbridge.stores.weaviate.limits import CAPABILITIES
from vecbridge.stores.weaviate.mending import Mending
from vecbridge.stores.weaviate.options import WeaviateOptions, addresses, api_key, require_server
from vecbridge.urls import StoreOptions, StoreURL

if TYPE_CHECKING:
    from vecbridge.stores.weaviate.connection import Connection
    from vecbridge.stores.weaviate.encoding import WeaviateEncoder
    from vecbridge.stores.weaviate.table import Table

_CLEAN_UP_SECONDS: Final = 10.0


class WeaviateDriver:
    """A Weaviate server or cluster; see :class:`vecbridge.driver.StoreDriver`.

    Args:
        url: ``weaviate://host:8080?grpc_port=50051``; the API key may stand before the host, as in ``:key@``.
        options: As given.
        read_only: Never asked for, since a forked child connects anew.

    Raises:
        MissingDependencyError: weaviate-client is not installed.
        InvalidURLError: No host, a path, a user, or a key among the options.
        ConfigError: A key that cannot be one.
    """

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    options: ClassVar[type[StoreOptions]] = WeaviateOptions
    on_fork: ClassVar[OnFork] = "reopen"

    def __init__(self, url: StoreURL, options: WeaviateOptions, *, read_only: bool = False) -> None:
        require_server(url)
        for package in ("weaviate", "grpc", "httpx"):
            if find_spec(package) is None:
                raise MissingDependencyError("weaviate-client", extra="weaviate")
        self.url = url.without_password()
        self._addresses = addresses(url, options)
        self._api_key = api_key(url, options)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._mendings: dict[str, Mending] = {}  # by identity

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """Names that are too long."""
        return layout.gaps(spec)

    def connect(self, deadline: Deadline) -> Capabilities:
        """Refuses a server that is too old."""
        self.connection.require_version(deadline)
        return self.capabilities

    @property
    def connection(self) -> Connection:
        """The connection to the server, made when it is first needed; its first call opens it."""
        from vecbridge.stores.weaviate.connection import Connection

        with self._lock:
            if self._connection is None:
                self._connection = Connection(*self._addresses, self._api_key)
            return self._connection

    def names(self, deadline: Deadline) -> Iterable[str]:
        """Its own collections by the names of their specs, others by those of their classes."""
        answer = self.connection.rest("GET", "/v1/schema", deadline, "list collections")
        return map(schema.collection_name, answer.get("classes") or [])

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """A collection by the name of its spec or of its class."""
        from vecbridge.stores.weaviate import foreign

        if not (name.isidentifier() and name.isascii()):  # it would be another path of the REST interface
            return None
        described = self.connection.described(layout.class_name(name), deadline)
        if described is None or name not in (schema.collection_name(described), described["class"]):
            return None
        stored = schema.stored(described)
        if stored is not None:
            return self._described(stored)
        identity = foreign.identity(described, self.connection, deadline)
        mending = self._mending(identity)
        return foreign.introspected(described, identity, mending, self.connection, deadline)

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Builds a class; one that is to be replaced goes first, since both have the same name."""
        if replacing is not None:
            self.drop(replacing, None, deadline)
        where = layout.of_spec(spec)
        body = schema.of_spec(spec, where, token)
        try:
            built = self.connection.rest("POST", "/v1/schema", deadline, f"create {spec.name!r}", body)
            schema.require_as_asked(built, spec, where)
        except CollectionExistsError as exc:
            raise self._exists(spec.name, where.class_name, deadline) from exc
        except BaseException:
            self._remove_failed(where.class_name, token)
            raise
        with self._lock:
            self._mendings[token] = Mending(fresh=True)
        return self._described(schema.Stored(spec, token))

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Adds their properties, and then the one that says that they are fields; see ``schema``."""
        from vecbridge.stores.weaviate.errors import PropertyExistsError

        where, token = found.state[0], found.identity.value
        if not where.own_ids:
            raise UnsupportedError(
                "weaviate", f"adding fields to {found.name!r}", "vecbridge did not make it"
            )
        described = self._class(found, deadline)
        if schema.stored(described) != schema.Stored(found.spec, token):
            return None
        properties = schema.missing_properties(described, layout.of_spec(spec))
        properties.append(schema.addition(found.spec, spec, token))
        path, what = f"/v1/schema/{where.class_name}/properties", f"add fields to {found.name!r}"
        try:
            for prop in properties:
                self.connection.rest("POST", path, deadline, what, prop)
        except PropertyExistsError:
            return None
        stored = schema.Stored(spec, token)
        return self._described(stored) if schema.stored(self._class(found, deadline)) == stored else None

    def attach(self, found: Described, namespace: str) -> CollectionDriver:
        """One namespace.

        Raises:
            UnsupportedError: The one namespace that no tenant can have the name of.
        """
        from vecbridge.stores.weaviate.collection import WeaviateCollection

        return WeaviateCollection(self._table(found, namespace), found)

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> WeaviateEncoder:
        """What encodes rows by the layout that the class has, or would have."""
        from vecbridge.stores.weaviate.encoding import WeaviateEncoder

        where: layout.Layout = layout.of_spec(spec) if found is None else found.state[0]
        return WeaviateEncoder(spec, where, where.tenant(namespace))

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        """Namespaces of the tenants."""
        where = found.state[0]
        return map(where.namespace, self.connection.tenants(where.class_name, deadline))

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Removes a class or a tenant; without tenants, the rows of the one namespace."""
        where: layout.Layout = found.state[0]
        path = f"/v1/schema/{where.class_name}"
        if namespace is None:
            self.connection.rest("DELETE", path, deadline, f"drop {found.name!r}")
            with self._lock:
                self._mendings.pop(found.identity.value, None)
        elif not where.tenants:
            self._table(found, namespace).clear(lambda: deadline)
        elif (tenant := where.tenant(namespace)) in self.connection.tenants(where.class_name, deadline):
            what = f"drop namespace {namespace!r} of {found.name!r}"
            self.connection.rest("DELETE", f"{path}/tenants", deadline, what, [tenant])

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """What gRPC and httpx raise; nearly all of it is mapped by the connection."""
        from vecbridge.stores.weaviate import errors

        return errors.of_exception(exc, what)

    def forked(self) -> None:
        """Does nothing: the parent's channels must not be touched."""

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _class(self, found: Described, deadline: Deadline) -> Mapping[str, Any]:
        """The class of a collection as the server describes it now.

        Raises:
            NotFoundError: It is gone.
        """
        if (described := self.connection.described(found.state[0].class_name, deadline)) is None:
            raise NotFoundError(f"collection {found.name!r} was dropped meanwhile")
        return described

    def _described(self, stored: schema.Stored) -> Described:
        spec, identity = stored.spec, stored.identity
        state = (layout.of_spec(spec), self._mending(identity))
        return Described(spec.name, spec, identity, state=state)

    def _mending(self, identity: Identity) -> Mending:
        """What is known of the graph of a collection; a new one where a replacement would not be noticed."""
        if not identity.certain:
            return Mending()
        with self._lock:
            return self._mendings.setdefault(identity.value, Mending())

    def _table(self, found: Described, namespace: str) -> Table:
        from vecbridge.stores.weaviate.table import Table

        where, _ = found.state
        return Table(self.connection, found.spec, where, where.tenant(namespace))

    def _exists(self, name: str, class_name: str, deadline: Deadline) -> CollectionExistsError:
        """Why a class cannot be created: whose name it is."""
        described = self.connection.described(class_name, deadline)
        if described is None or schema.stored(described) is not None:
            return CollectionExistsError(f"collection {name!r} was created meanwhile")
        # a name with a capital is the only one that Weaviate has, and it is somebody else's
        return CollectionExistsError(
            f"collection {class_name!r}, which vecbridge did not make, has the name that {name!r} would have "
            "in Weaviate: choose another, or drop it first"
        )

    def _remove_failed(self, class_name: str, token: str) -> None:
        """Removes a class that was built otherwise than asked, or whose creation was not acknowledged."""
        deadline = Deadline.after(_CLEAN_UP_SECONDS)
        with suppress(VecbridgeError):  # the first error tells more
            described = self.connection.described(class_name, deadline)
            stored = None if described is None else schema.stored(described)
            if stored is not None and stored.token == token:
                self.connection.rest("DELETE", f"/v1/schema/{class_name}", deadline, "remove what was built")
