"""The store of Weaviate: a server, a cluster, Weaviate Cloud."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from vecbridge.capabilities import Capabilities
from vecbridge.errors import CollectionExistsError, InvalidURLError, MissingDependencyError, NotFoundError
from vecbridge.protocols import IfExists, check_if_exists
from vecbridge.schema import CollectionSpec, check_namespace, require_agreement, suggestion
from vecbridge.stores.weaviate import layout, limits, schema
from vecbridge.urls import StoreOptions, StoreURL, read_options

if TYPE_CHECKING:
    from vecbridge.stores.weaviate.collection import WeaviateCollection
    from vecbridge.stores.weaviate.connection import Connection
    from vecbridge.stores.weaviate.table import Table

_PORT: Final = 8080
_GRPC_PORT: Final = 50051
_TLS_PORT: Final = 443
#: Where Weaviate Cloud lives; gRPC has a host of its own there.
_CLOUD: Final = (".weaviate.network", ".weaviate.cloud", ".weaviate.io")
_DROP_SECONDS: Final = 120.0


class WeaviateOptions(StoreOptions):
    """Options of a ``weaviate:`` URL.

    Attributes:
        grpc_port: Port of gRPC; 50051, or 443 with TLS, if it is not given.
        grpc_host: Host of gRPC, if it is another one.
        tls: Whether the server speaks TLS, on both ports.
        api_key: API key.
        timeout: Seconds that a call may take.
    """

    grpc_port: int | None = None
    grpc_host: str = ""
    tls: bool = False
    api_key: str = ""
    timeout: float = 30.0


class WeaviateStore:
    """A Weaviate server or cluster.

    Args:
        url: ``weaviate://host:8080?grpc_port=50051``; the API key may stand before the host, as in ``:key@``.
        **options: See :class:`WeaviateOptions`.

    Raises:
        MissingDependencyError: weaviate-client is not installed.
        InvalidURLError: No host, a path, or a user.
    """

    capabilities: Capabilities = limits.CAPABILITIES

    def __init__(self, url: StoreURL, **options: Any) -> None:
        self._options = read_options(WeaviateOptions, url, options)
        if not url.host:
            raise InvalidURLError(f"{url}: which host? As in weaviate://localhost:{_PORT}#photos")
        if url.path.strip("/"):
            raise InvalidURLError(f"{url}: a Weaviate has no databases, so that its URL takes no path")
        if url.user:
            raise InvalidURLError(
                f"{url}: Weaviate takes an API key and no user: weaviate://:key@host, api_key="
            )
        self._url = url
        self._mutex = RLock()
        self._tables: dict[str, Table] = {}
        self._connection: Connection | None = None
        for package in ("weaviate", "grpc", "httpx"):
            if find_spec(package) is None:
                raise MissingDependencyError("weaviate-client", extra="weaviate")

    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", namespace: str = ""
    ) -> WeaviateCollection:
        """Builds a collection; see :class:`vecbridge.store.Store`."""
        check_if_exists(if_exists)
        self.capabilities.require(spec)
        check_namespace(spec, namespace)
        with self._mutex:
            existing = self._described(spec.name)
            if existing is not None and schema.stored(existing) is None:
                # a name with a capital is the only one that Weaviate has, and it is somebody else's
                raise CollectionExistsError(
                    f"collection {existing['class']!r}, which vecbridge did not make, has the name that "
                    f"{spec.name!r} would have in Weaviate: choose another, or drop it first"
                )
            if existing is not None and if_exists == "error":
                raise CollectionExistsError(f'collection {spec.name!r} exists: if_exists="open" or "replace"')
            if existing is not None and if_exists == "open":
                require_agreement(self._table(spec.name).spec, spec)
            else:
                if existing is not None:
                    self.drop(spec.name)
                self._build(spec)
            return self.open(spec.name, namespace=namespace)

    def open(self, name: str, *, namespace: str = "") -> WeaviateCollection:
        """Opens a collection, also one that vecbridge did not make; see :class:`vecbridge.store.Store`."""
        from vecbridge.stores.weaviate.collection import WeaviateCollection

        table = self._table(name)
        check_namespace(table.spec, namespace)
        return WeaviateCollection(self._url.of_collection(name, namespace), namespace, table)

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        answer = self.connection().rest("GET", "/v1/schema", what="list collections")
        return sorted(map(_name, answer.get("classes") or []))

    def namespaces(self, name: str) -> list[str]:
        """Namespaces that were written to; see :class:`vecbridge.store.Store`."""
        table = self._table(name)
        if not table.layout.tenants:
            return [""]
        return sorted(map(table.layout.namespace, self._tenants(table)))

    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Removes a collection, or one namespace of it; see :class:`vecbridge.store.Store`."""
        table = self._table(name)
        path = f"/v1/schema/{table.layout.class_name}"
        if namespace is None:
            self.connection().rest("DELETE", path, timeout=_DROP_SECONDS, what=f"drop {name!r}")
            with self._mutex:
                self._tables.pop(table.layout.class_name, None)
            return
        check_namespace(table.spec, namespace)
        if not table.layout.tenants:
            table.clear("")
            return
        tenant = table.layout.tenant(namespace)
        if tenant in self._tenants(table):
            self.connection().rest(
                "DELETE", f"{path}/tenants", [tenant], timeout=_DROP_SECONDS, what=f"drop {namespace!r}"
            )

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        with self._mutex:
            self._tables.clear()
            if self._connection is not None:
                self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connection(self) -> Connection:
        """The connection to the server; made when it is first needed."""
        from vecbridge.stores.weaviate.connection import Connection

        with self._mutex:
            if self._connection is None:
                rest, target = addresses(self._url, self._options)
                self._connection = Connection(
                    rest, target, api_key=self._options.api_key or self._url.password,
                    timeout=self._options.timeout,
                )  # fmt: skip
            return self._connection

    def _build(self, spec: CollectionSpec) -> None:
        token = uuid.uuid4().hex
        where = layout.of_spec(spec)
        body = schema.of_spec(spec, where, token)
        built = self.connection().rest("POST", "/v1/schema", body, what=f"create {spec.name!r}")
        try:
            schema.require_as_asked(built, spec, where)
        except BaseException:
            self.drop(spec.name)
            raise
        self._remember(spec, where, token, (), fresh=True)

    def _described(self, name: str) -> Mapping[str, Any] | None:
        """The class of a collection as the server describes it; None if there is none of that name."""
        try:
            described: Mapping[str, Any] = self.connection().rest(
                "GET", f"/v1/schema/{layout.class_name(name)}", what=f"open {name!r}"
            )
        except NotFoundError:
            return None
        return described

    def _table(self, name: str) -> Table:
        """What is known of a collection; read again each time, since others may have replaced it.

        Raises:
            NotFoundError: There is none.
        """
        from vecbridge.stores.weaviate import foreign

        # a name that is no name would be another path of the REST interface
        described = self._described(name) if name.isidentifier() and name.isascii() else None
        if described is None or name not in (_name(described), described["class"]):
            hint = suggestion(name, self.collections())
            raise NotFoundError(f"no collection {name!r} at {self.connection().rest_url}{hint}")
        stored = schema.stored(described)
        if stored is not None:
            return self._remember(stored.spec, layout.of_spec(stored.spec), stored.token, ())
        return self._remember(*foreign.introspected(described, self.connection()))

    def _remember(
        self, spec: CollectionSpec, where: layout.Layout, token: str, losses: Sequence[Any], *,
        fresh: bool = False,
    ) -> Table:  # fmt: skip
        from vecbridge.stores.weaviate.table import Table

        with self._mutex:
            known = self._tables.get(where.class_name)
            if known is None or known.token != token or not token:
                known = Table(self.connection(), spec, where, token, losses, fresh=fresh)
                self._tables[where.class_name] = known
            return known

    def _tenants(self, table: Table) -> list[str]:
        from vecbridge.stores.weaviate.stubs import tenants_pb2

        answer = table.call("TenantsGet", tenants_pb2.TenantsGetRequest(collection=table.layout.class_name))
        return [each.name for each in answer.tenants]


def addresses(url: StoreURL, options: WeaviateOptions) -> tuple[str, str]:
    """Where REST and gRPC of a server are: "http://host:port" and "host:port".

    Example:
        >>> from vecbridge.urls import parse
        >>> addresses(parse("weaviate://localhost"), WeaviateOptions())
        ('http://localhost:8080', 'localhost:50051')
    """
    cloud = url.host.endswith(_CLOUD)
    tls = options.tls or cloud
    grpc_host = options.grpc_host or (f"grpc-{url.host}" if cloud else url.host)
    port = url.port or (_TLS_PORT if tls else _PORT)
    grpc_port = options.grpc_port or (_TLS_PORT if tls else _GRPC_PORT)
    return f"http{'s' if tls else ''}://{_bracketed(url.host)}:{port}", f"{_bracketed(grpc_host)}:{grpc_port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _name(described: Mapping[str, Any]) -> str:
    """What vecbridge calls a class: its own by the name of the spec, others by the name that they have."""
    stored = schema.stored(described)
    return str(described["class"]) if stored is None else stored.spec.name
