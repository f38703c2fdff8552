"""The stores of Milvus: a server, and the embedded milvus-lite."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import Field

from vecbridge.capabilities import Capabilities
from vecbridge.errors import (
    BackendError,
    CollectionExistsError,
    CorruptStoreError,
    InvalidURLError,
    MissingDependencyError,
    NotFoundError,
    SchemaError,
    StoreLockedError,
    VecbridgeError,
)
from vecbridge.protocols import IfExists, check_if_exists
from vecbridge.schema import CollectionSpec, check_namespace, require_agreement, suggestion
from vecbridge.stores.milvus import dialects, index_params
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.layout import SPEC_PROPERTY, TOKEN_PROPERTY, after_namespace, of_spec
from vecbridge.urls import StoreOptions, StoreURL, read_options

if TYPE_CHECKING:
    from vecbridge.stores.milvus.collection import MilvusCollection
    from vecbridge.stores.milvus.connection import Connection
    from vecbridge.stores.milvus.table import Table

_PORT: Final = 19530
_NAMESPACED_KEY_BYTES: Final = 577  # a namespace, a slash and an id
_KEY_BYTES: Final = 512
_DROP_SECONDS: Final = 120.0  # the embedded server waits for a build that is under way


class _Refined:
    """``capabilities``: of the class, what the backend can do at most; of a store, what its server can.

    Reading it from a store asks the server for its version, once.
    """

    def __get__(self, store: MilvusStore | None, owner: type[MilvusStore]) -> Capabilities:
        return owner.dialect.capabilities if store is None else store.server_dialect().capabilities


class MilvusOptions(StoreOptions):
    """Options of a ``milvus:`` URL.

    Attributes:
        token: API key, instead of a user and a password.
        tls: Whether the server speaks TLS.
        timeout: Seconds that a call may take.
        consistency: How far behind a search may be: "strong" sees every acknowledged write and costs about
            200 ms, "bounded" some seconds behind, "eventually" anything. All else reads strongly, and so
            do searches for half a minute after ``flush()``.
    """

    token: str = ""
    tls: bool = False
    timeout: float = Field(30.0, gt=0, allow_inf_nan=False)
    consistency: Literal["strong", "bounded", "eventually"] = "bounded"


class MilvusStore:
    """A Milvus server, standalone or cluster.

    Args:
        url: ``milvus://user:password@host:19530/database``.
        **options: See :class:`MilvusOptions`.

    Raises:
        MissingDependencyError: pymilvus is not installed.
        InvalidURLError: No host, or a path of more than a database.
    """

    dialect: ClassVar[Dialect] = dialects.SERVER
    capabilities = _Refined()

    def __init__(self, url: StoreURL, **options: Any) -> None:
        self._options = read_options(MilvusOptions, url, options)
        self._url = self._checked(url)
        self._mutex = RLock()
        self._tables: dict[str, Table] = {}
        self._dialect: Dialect | None = None
        self._connection: Connection | None = None
        _require("pymilvus", "grpc", "orjson")

    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", namespace: str = ""
    ) -> MilvusCollection:
        """Builds a collection, its indexes, and loads it; see :class:`vecbridge.store.Store`."""
        check_if_exists(if_exists)
        self.capabilities.require(spec)
        check_namespace(spec, namespace)
        with self._mutex:
            exists = spec.name in self.collections()
            if exists and if_exists == "error":
                raise CollectionExistsError(f'collection {spec.name!r} exists: if_exists="open" or "replace"')
            if exists and if_exists == "open":
                require_agreement(self._table(spec.name).spec, spec)
            else:
                if exists:
                    self.drop(spec.name)
                self._build(spec)
            return self.open(spec.name, namespace=namespace)

    def open(self, name: str, *, namespace: str = "") -> MilvusCollection:
        """Opens a collection, also one that vecbridge did not make; see :class:`vecbridge.store.Store`."""
        from vecbridge.stores.milvus.collection import MilvusCollection

        table = self._table(name)
        check_namespace(table.spec, namespace)
        return MilvusCollection(self._url.of_collection(name, namespace), namespace, self.capabilities, table)

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        from pymilvus.grpc_gen import milvus_pb2

        answer = self.connection().call("ShowCollections", milvus_pb2.ShowCollectionsRequest())
        return sorted(answer.collection_names)

    def namespaces(self, name: str) -> list[str]:
        """Namespaces that hold a row, found by skipping from each to the next; see the protocol."""
        from vecbridge.stores.milvus import expressions

        table = self._table(name)
        if not table.spec.namespaced:
            return [""]
        found: list[str] = []
        expression = ""
        while keys := table.query(expression, [table.layout.pk], rows=1).keys():
            prefix = str(keys[0]).partition("/")[0]
            found.append(prefix)
            expression = f"{table.layout.pk} >= {expressions.literal(after_namespace(prefix + '/'))}"
        return sorted(found)

    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Removes a collection, or every row of one namespace; see :class:`vecbridge.store.Store`."""
        from pymilvus.grpc_gen import milvus_pb2

        from vecbridge.stores.milvus import expressions
        from vecbridge.stores.milvus.layout import Keys

        table = self._table(name)
        if namespace is None:
            request = milvus_pb2.DropCollectionRequest(collection_name=name)
            self.connection().call("DropCollection", request, timeout=_DROP_SECONDS, what=f"drop {name!r}")
            with self._mutex:
                self._tables.pop(name, None)
            return
        keys = Keys(table.layout, check_namespace(table.spec, namespace))
        pages = table.pages(
            lambda *more: expressions.scoped(table.layout, keys, None, *more), [table.layout.pk]
        )
        for found, _ in pages:
            table.delete(found)

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
        """The channel to the server; made when it is first needed."""
        with self._mutex:
            if self._connection is None:
                self._connection = self._connected()
            return self._connection

    def server_dialect(self) -> Dialect:
        """What this very server can do; asks it for its version, once."""
        from pymilvus.grpc_gen import milvus_pb2

        if self._dialect is None:
            answer = self.connection().call("GetVersion", milvus_pb2.GetVersionRequest())
            self._dialect = dialects.of_server(answer.version)
        return self._dialect

    def _checked(self, url: StoreURL) -> StoreURL:
        if not url.host:
            raise InvalidURLError(f"{url}: which host? As in milvus://localhost:{_PORT}/database#photos")
        if "/" in url.path.strip("/"):
            raise InvalidURLError(f"{url}: the path is one database, as in milvus://localhost:{_PORT}/db")
        return url

    def _connected(self) -> Connection:
        from vecbridge.stores.milvus.connection import Connection

        url = self._url
        token = self._options.token or (f"{url.user}:{url.password}" if url.user or url.password else "")
        host = f"[{url.host}]" if ":" in url.host else url.host
        return Connection(
            f"{host}:{url.port or _PORT}", token=token, database=url.path.strip("/"),
            tls=self._options.tls, timeout=self._options.timeout,
        )  # fmt: skip

    def _build(self, spec: CollectionSpec) -> None:
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        from vecbridge.stores.milvus import wire

        key_bytes = _NAMESPACED_KEY_BYTES if spec.namespaced else _KEY_BYTES
        schema = wire.schema_message(spec, of_spec(spec), key_bytes)
        properties = {SPEC_PROPERTY: spec.to_json(), TOKEN_PROPERTY: uuid.uuid4().hex}
        connection = self.connection()
        connection.call(
            "CreateCollection",
            milvus_pb2.CreateCollectionRequest(
                collection_name=spec.name,
                schema=schema.SerializeToString(),
                shards_num=1,
                consistency_level=common_pb2.ConsistencyLevel.Bounded,
                properties=wire.pairs(properties),
            ),
            what=f"create {spec.name!r}",
        )
        try:
            for field in spec.vectors:
                connection.call(
                    "CreateIndex",
                    milvus_pb2.CreateIndexRequest(
                        collection_name=spec.name,
                        field_name=field.name,
                        index_name=f"vb_{field.name}",
                        extra_params=wire.pairs(_index_pairs(field)),
                    ),
                    what=f"create the index of {spec.name!r}",
                )
            self._require_as_asked(spec)
            self._table(spec.name).load()
        except BaseException:
            with suppress(VecbridgeError):
                self.drop(spec.name)
            raise

    def _require_as_asked(self, spec: CollectionSpec) -> None:
        """Reads the indexes back: a server may take parameters and build something else.

        Raises:
            BackendError: It did.
        """
        described = self._described_indexes(spec.name)
        for field in spec.vectors:
            index, metric = index_params.from_milvus(described.get(field.name, {}))
            if (index, metric) != (field.index, field.metric):
                raise BackendError(
                    f"{spec.name!r}: asked for {field.index} and {field.metric}, and the server says "
                    f"{index} and {metric}"
                )

    def _table(self, name: str) -> Table:
        """What is known of a collection; read again each time, since others may have replaced it.

        Raises:
            NotFoundError: There is none.
        """
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        from vecbridge.stores.milvus import foreign
        from vecbridge.stores.milvus.table import Table

        connection = self.connection()
        try:
            described = connection.call(
                "DescribeCollection",
                milvus_pb2.DescribeCollectionRequest(collection_name=name),
                what=f"open {name!r}",
            )
        except NotFoundError as exc:
            if "database not found" in str(exc).lower():
                raise
            hint = suggestion(name, self.collections())
            raise NotFoundError(f"no collection {name!r} at {connection.target}{hint}") from exc
        properties = {each.key: each.value for each in described.properties}
        token = properties.get(TOKEN_PROPERTY, "")
        losses: tuple[Any, ...] = ()
        if SPEC_PROPERTY in properties:
            try:
                spec = CollectionSpec.from_json(properties[SPEC_PROPERTY])
            except SchemaError as exc:
                raise CorruptStoreError(f"{name!r}: the stored spec is damaged: {exc}") from exc
            spec = spec if spec.name == name else spec.renamed(name)
            layout = of_spec(spec)
        else:
            spec, layout, losses = foreign.introspected(described.schema, self._described_indexes(name))
        with self._mutex:
            known = self._tables.get(name)
            if known is None or known.token != token or not token:
                level = common_pb2.ConsistencyLevel.Value(self._options.consistency.capitalize())
                known = Table(
                    connection, self.server_dialect(), name, spec, layout, token, losses, level
                )  # fmt: skip
                self._tables[name] = known
            return known

    def _described_indexes(self, name: str) -> dict[str, Mapping[str, str]]:
        from pymilvus.grpc_gen import milvus_pb2

        try:
            answer = self.connection().call(
                "DescribeIndex", milvus_pb2.DescribeIndexRequest(collection_name=name)
            )
        except VecbridgeError as exc:
            if "index not found" in str(exc).lower():
                return {}
            raise
        return {
            each.field_name: {pair.key: pair.value for pair in each.params}
            for each in answer.index_descriptions
        }


class MilvusLiteStore(MilvusStore):
    """Milvus in this process, on a local directory whose name ends in ``.db``; for one process at a time.

    Args:
        url: ``milvus+lite:///path/to/file.db``, or ``milvus+lite:./file.db``.
        **options: ``timeout``; see :class:`MilvusOptions`.

    Raises:
        MissingDependencyError: milvus-lite is not installed.
    """

    dialect: ClassVar[Dialect] = dialects.LITE

    def __init__(self, url: StoreURL, **options: Any) -> None:
        super().__init__(url, **options)
        _require("milvus_lite")
        self._started = False

    def server_dialect(self) -> Dialect:
        """What milvus-lite can do."""
        return self.dialect

    def close(self) -> None:
        """Stops the embedded server, unless another store of this process uses it."""
        with self._mutex:
            super().close()
            if self._started:
                self._started = False
                _LITE.leave(self._url.path)

    def _checked(self, url: StoreURL) -> StoreURL:
        path = url.directory().absolute()
        if path.suffix != ".db":
            raise InvalidURLError(f"{url}: the name of a milvus-lite directory ends in .db")
        return replace(url, path=str(path))

    def _connected(self) -> Connection:
        from vecbridge.stores.milvus.connection import Connection

        target = _LITE.enter(self._url.path)
        self._started = True
        return Connection(target, token="", database="", tls=False, timeout=self._options.timeout)

    def connection(self) -> Connection:
        """The channel to the embedded server, which is started when it is first needed."""
        with self._mutex:
            if self._connection is not None and not self._started:
                self._connection = None  # after close()
            return super().connection()


class _LiteServers:
    """The embedded servers of this process: one a directory, for as long as a store uses it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._users: dict[str, int] = {}

    def enter(self, path: str) -> str:
        """Starts the server of a directory if it is not running; its "host:port"."""
        from milvus_lite.server_manager import server_manager_instance

        with self._lock:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            uri = server_manager_instance.start_and_get_uri(path)
            if uri is None:  # it logged why; another process is the one reason that a user can mend
                raise StoreLockedError(
                    f"milvus-lite cannot open {path}: is another process using it? One at a time can"
                )
            self._users[path] = self._users.get(path, 0) + 1
            return str(uri).partition("//")[2]

    def leave(self, path: str) -> None:
        """Stops the server with its last user."""
        from milvus_lite.server_manager import server_manager_instance

        with self._lock:
            self._users[path] -= 1
            if not self._users[path]:
                server_manager_instance.release_server(path)


_LITE: Final = _LiteServers()


def _index_pairs(field: Any) -> dict[str, Any]:
    """Milvus-lite takes parameters that are nested, a server those that are not."""
    kind, params = index_params.to_milvus(field.index)
    flat = {name: str(value) for name, value in params.items()}
    return {
        "index_type": kind, "metric_type": index_params.METRICS[field.metric], **flat, "params": params
    }  # fmt: skip


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(package, extra="milvus")
