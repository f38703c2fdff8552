"""The driver of a Milvus server."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import Deadline, Described, Identity, OnFork
from vecbridge.errors import (
    BackendError,
    CollectionExistsError,
    ConfigError,
    InvalidURLError,
    MissingDependencyError,
    NotFoundError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.indexes import Flat
from vecbridge.schema import CollectionSpec, VectorField
from vecbridge.stores.milvus import dialects, index_params, layout, stored
from vecbridge.stores.milvus.dialects import Dialect
from vecbridge.stores.milvus.options import Environment, MilvusOptions
from vecbridge.urls import StoreOptions, StoreURL

if TYPE_CHECKING:
    from vecbridge.stores.milvus.collection import MilvusCollection
    from vecbridge.stores.milvus.connection import Connection
    from vecbridge.stores.milvus.encoding import MilvusEncoder
    from vecbridge.stores.milvus.layout import Layout
    from vecbridge.stores.milvus.readiness import Readiness
    from vecbridge.stores.milvus.table import Table

_PORT: Final = 19530
_NAMESPACED_KEY_BYTES: Final = 577  # a namespace, a slash and an id
_KEY_BYTES: Final = 512
_CLEANUP_SECONDS: Final = 30.0
_RECALL_WHILE_GROWING: Final = (
    "in collections of more than 150,000 rows, rows written since wait_ready() are found through an "
    "interim index, which found 0.60 of the nearest among 20,000 random vectors of 48 dimensions"
)


class MilvusDriver:
    """A Milvus server, standalone or cluster; see :class:`vecbridge.driver.StoreDriver`.

    Args:
        url: ``milvus://user:password@host:19530/database``.
        options: How to talk to it.
        read_only: Changes nothing: the server decides who may write.

    Raises:
        MissingDependencyError: pymilvus is not installed.
        InvalidURLError: No host, a path of more than a database, or a token in the URL.
    """

    capabilities: ClassVar[Capabilities] = dialects.SERVER.capabilities
    options: ClassVar[type[StoreOptions]] = MilvusOptions
    on_fork: ClassVar[OnFork] = "reopen"
    _columns: ClassVar[Literal["typed", "dynamic"]] = "dynamic"

    def __init__(self, url: StoreURL, options: MilvusOptions, *, read_only: bool = False) -> None:
        self.url = self._checked(url).without_password()
        self._login = f"{url.user}:{url.password}" if url.user or url.password else ""
        self._options = options
        self._mutex = Lock()
        self._connection: Connection | None = None
        self._dialect = dialects.SERVER  # until connect() knows better
        self._closed = False
        self._tables: dict[str, tuple[Identity, Table, Readiness]] = {}
        self._require_packages()

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """A spec that is too large for Milvus to keep, and recall that waits for the index."""
        yield from cls.size_gaps(spec)
        for field in spec.vectors:
            if not isinstance(field.index, Flat):
                yield Gap("recall while growing", field.name, _RECALL_WHILE_GROWING, blocking=False)

    @classmethod
    def size_gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """A spec that is too large for Milvus to keep beside the collection."""
        if (size := stored.size(spec)) > stored.MOST_BYTES:
            detail = f"its fields take {size:,} bytes of metadata, and {stored.MOST_BYTES:,} can be kept"
            yield Gap("size", spec.name, detail, blocking=True)

    def connect(self, deadline: Deadline) -> Capabilities:
        """Asks the server for its version, which decides what it can do.

        Raises:
            UnsupportedError: It has no typed columns, which the URL asks for.
        """
        with self._mutex:
            if self._closed:
                raise ConfigError(f"{self.url} is closed")
            if self._connection is None:
                self._connection = self._opened()
        self._dialect = self._asked_dialect(self._connection, deadline)
        if self._options.columns == "typed" and not self._dialect.nullable_fields:
            hint = "a Milvus server has nullable fields from 2.5 on, and this one is older"
            raise UnsupportedError(self.capabilities.backend, "columns=typed", hint)
        return self._dialect.capabilities

    def names(self, deadline: Deadline) -> list[str]:
        """Names of the collections."""
        return list(self.connection.call("ShowCollections", deadline).collection_names)

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """One collection, also one that vecbridge did not make; None if there is none of that name.

        Raises:
            NotFoundError: The database of the URL does not exist.
            CorruptStoreError: The stored spec cannot be read.
        """
        from vecbridge.stores.milvus import foreign, typed

        answer = self._looked_up(name, deadline)
        if answer is None:
            return None
        identity, spec = self._read(name, answer)
        if spec is None:
            indexes = self._described_indexes(name, deadline)
            return foreign.introspected(
                answer.schema, indexes, identity, merges_upserts=self._dialect.merges_upserts
            )
        return Described(name, spec, identity, state=typed.of_schema(spec, answer.schema.fields))

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Builds a collection and its indexes, and loads it.

        Raises:
            CollectionExistsError: One was made meanwhile.
            BackendError: The server took the parameters of an index and built something else.
        """
        if replacing is not None:
            self.drop(replacing, None, deadline)
        try:
            self._create_collection(spec, token, deadline)
            for field in spec.vectors:
                self._create_index(spec, field, deadline)
            self._create_scalar_indexes(spec, deadline)
            self._require_as_asked(spec, deadline)
            created = self._of_token(spec.name, token, deadline)
            self._shared(created)[0].load(deadline)
            return created
        except BaseException:
            cleanup = Deadline.after(_CLEANUP_SECONDS)
            with suppress(VecbridgeError):
                self.drop(self._of_token(spec.name, token, cleanup), None, cleanup)
            raise

    def attach(self, found: Described, namespace: str) -> MilvusCollection:
        """The driver of one namespace."""
        from vecbridge.stores.milvus.collection import MilvusCollection

        return MilvusCollection(*self._shared(found), found, namespace)

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> MilvusEncoder:
        """What encodes rows by the layout that the collection has, or would have."""
        from vecbridge.stores.milvus.encoding import MilvusEncoder

        where = self._planned(spec) if found is None else found.state
        return MilvusEncoder(spec, where, layout.Keys(where, namespace), self._dialect)

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Adds to the stored spec; a row that lacks a field's key in the dynamic field has null there.

        Raises:
            NotFoundError: It was dropped.
            UnsupportedError: vecbridge did not make it.
        """
        answer = self._looked_up(found.name, deadline)
        if answer is None:
            raise NotFoundError(f"collection {found.name!r} was dropped meanwhile")
        identity, standing = self._read(found.name, answer)
        if identity != found.identity or (standing is not None and standing != found.spec):
            return None
        if standing is None:
            hint = "copy it into a collection that vecbridge makes"
            raise UnsupportedError(self.capabilities.backend, "adding fields to a foreign collection", hint)
        start = len(standing.fields)
        properties = stored.of_added(identity.value, spec.fields[start:], start)
        for _ in range(2):  # up to 2.3.5 the last change is lost when the server restarts (milvus#30144)
            self.connection.call(
                "AlterCollection", deadline, f"add fields to {found.name!r}", collection_name=found.name,
                properties=properties,
            )  # fmt: skip
        grown = self.describe(found.name, deadline)
        return grown if grown is not None and grown.spec == spec else None

    def namespaces(self, found: Described, deadline: Deadline) -> list[str]:
        """Namespaces that hold a row, found by skipping from each to the next."""
        from vecbridge.stores.milvus import expressions

        table, _ = self._shared(found)
        pk = table.layout.pk
        names: list[str] = []
        expression = ""
        while keys := table.query(expression, [pk], deadline, rows=1).keys():
            names.append(str(keys[0]).partition("/")[0])
            expression = f"{pk} >= {expressions.literal(layout.after_namespace(names[-1] + '/'))}"
        return names

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Removes a collection, or every row of one namespace."""
        if namespace is not None:
            self.attach(found, namespace).clear(deadline)
            return
        what = f"drop {found.name!r}"
        self.connection.call("DropCollection", deadline, what, collection_name=found.name)
        with self._mutex:
            self._tables.pop(found.name, None)

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """None: every request maps its own errors."""
        return None

    def forked(self) -> None:
        """Nothing to do: the channel belongs to the parent, and the child opens one of its own."""

    def close(self) -> None:
        """Closes the channel; the driver does not open another one."""
        with self._mutex:
            self._closed = True
            self._tables.clear()
            if self._connection is not None:
                self._connection.close()

    @property
    def connection(self) -> Connection:
        """The channel that :meth:`connect` opened."""
        if self._connection is None:
            raise ConfigError(f"{self.url} is not connected")
        return self._connection

    def _require_packages(self) -> None:
        for package in ("pymilvus", "grpc", "orjson"):
            require_package(package)

    def _checked(self, url: StoreURL) -> StoreURL:
        if not url.host:
            raise InvalidURLError(f"{url}: which host? As in milvus://localhost:{_PORT}/database#photos")
        if "/" in url.path.strip("/"):
            raise InvalidURLError(f"{url}: the path is one database, as in milvus://localhost:{_PORT}/db")
        if "token" in url.options:
            raise InvalidURLError("milvus URL: a token stands in MILVUS_TOKEN or token=, never in a URL")
        return url

    def _looked_up(self, name: str, deadline: Deadline) -> Any:
        """What the server says of a collection; None if there is none of that name."""
        what = f"open {name!r}"
        try:
            return self.connection.call("DescribeCollection", deadline, what, collection_name=name)
        except NotFoundError:
            if self.url.path.strip("/"):
                self.names(deadline)  # says so where the database is what is missing
            return None

    def _read(self, name: str, answer: Any) -> tuple[Identity, CollectionSpec | None]:
        """Which collection it is, and its spec if vecbridge made it."""
        spec = stored.spec_of(answer)
        return stored.identity_of(answer), spec if spec is None or spec.name == name else spec.renamed(name)

    def _opened(self) -> Connection:
        from vecbridge.stores.milvus.connection import Connection

        url = self.url
        host = f"[{url.host}]" if ":" in url.host else url.host
        return Connection(
            f"{host}:{url.port or _PORT}", token=self._token(), database=url.path.strip("/"),
            tls=self._options.tls,
        )  # fmt: skip

    def _asked_dialect(self, connection: Connection, deadline: Deadline) -> Dialect:
        return dialects.of_server(connection.call("GetVersion", deadline).version)

    def _token(self) -> str:
        if self._options.token is not None:
            return self._options.token.get_secret_value()
        return self._login or Environment().token.get_secret_value()

    def _of_token(self, name: str, token: str, deadline: Deadline) -> Described:
        """The collection that this process has just made, and no other of its name."""
        described = self.describe(name, deadline)
        if described is None or described.identity.value != token:
            raise CollectionExistsError(f"collection {name!r} was made by another process meanwhile")
        return described

    def _create_collection(self, spec: CollectionSpec, token: str, deadline: Deadline) -> None:
        from vecbridge.stores.milvus import typed, wire

        where = self._planned(spec)
        key_bytes = _NAMESPACED_KEY_BYTES if spec.namespaced else _KEY_BYTES
        fields = typed.field_schemas(where, self._dialect)
        self.connection.call(
            "CreateCollection", deadline, f"create {spec.name!r}",
            collection_name=spec.name,
            schema=wire.schema_message(spec, where, key_bytes, fields).SerializeToString(),
            shards_num=1,
            consistency_level="Bounded",
            properties=stored.of_new(spec, token),
        )  # fmt: skip

    def _create_index(self, spec: CollectionSpec, field: VectorField, deadline: Deadline) -> None:
        kind, params = index_params.to_milvus(field.index, field.dim)
        pairs = {
            "index_type": kind,
            "metric_type": index_params.METRICS[field.metric],
            "params": params,  # milvus-lite reads them nested, a server beside the others
            **params,
        }
        self.connection.call(
            "CreateIndex", deadline, f"create the index of {spec.name!r}", collection_name=spec.name,
            field_name=field.name, index_name=f"vb_{field.name}", extra_params=pairs,
        )  # fmt: skip

    def _create_scalar_indexes(self, spec: CollectionSpec, deadline: Deadline) -> None:
        """Indexes the typed columns that filters use, as far as the fields say so and Milvus can."""
        from vecbridge.stores.milvus import typed

        columns = self._planned(spec).columns
        for column in (columns[field.name] for field in spec.fields if field.indexed):
            if (params := typed.index_params(column, self._dialect)) is not None:
                self.connection.call(
                    "CreateIndex", deadline, f"index {column.name!r} of {spec.name!r}",
                    collection_name=spec.name, field_name=column.key, index_name=f"vb_{column.key}",
                    extra_params=params,
                )  # fmt: skip

    def _planned(self, spec: CollectionSpec) -> Layout:
        """The layout of a collection that is created."""
        from vecbridge.stores.milvus import typed

        wanted = self._options.columns or self._columns
        return typed.planned(spec) if wanted == "typed" else layout.of_spec(spec)

    def _require_as_asked(self, spec: CollectionSpec, deadline: Deadline) -> None:
        """Reads the indexes back: a server may take parameters and build something else."""
        described = self._described_indexes(spec.name, deadline)
        for field in spec.vectors:
            index, metric = index_params.from_milvus(described.get(field.name, {}))
            if (index, metric) != (field.index, field.metric):
                raise BackendError(
                    f"{spec.name!r}: asked for {field.index} and {field.metric}, and the server says "
                    f"{index} and {metric}"
                )

    def _shared(self, found: Described) -> tuple[Table, Readiness]:
        """What all namespaces of a collection share; begun anew where it was replaced."""
        from vecbridge.stores.milvus.readiness import Readiness
        from vecbridge.stores.milvus.table import Table

        with self._mutex:
            known = self._tables.get(found.name)
            if known is None or known[0] != found.identity:
                table = Table(
                    self.connection, self._dialect, found.spec, found.state, self._options.consistency
                )
                readiness = Readiness(table, partial(self._has_index_file, found.name))
                known = self._tables[found.name] = (found.identity, table, readiness)
            return known[1:]

    def _has_index_file(self, name: str, field: str) -> bool:
        """Whether the index of a vector field is on the disk, where this process can see that."""
        return False

    def _described_indexes(self, name: str, deadline: Deadline) -> dict[str, dict[str, str]]:
        from vecbridge.stores.milvus.errors import NoIndexError

        try:
            answer = self.connection.call("DescribeIndex", deadline, collection_name=name)
        except NoIndexError:
            return {}
        return {index.field_name: stored.unpaired(index.params) for index in answer.index_descriptions}


def require_package(package: str) -> None:
    """Raises MissingDependencyError where a package is not installed."""
    if find_spec(package) is None:
        raise MissingDependencyError(package, extra="milvus")
