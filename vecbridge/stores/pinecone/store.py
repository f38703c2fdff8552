"""The store of Pinecone."""

from __future__ import annotations

from importlib.util import find_spec
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    MissingDependencyError,
    NotFoundError,
    UnsupportedError,
)
from vecbridge.protocols import IfExists, check_if_exists
from vecbridge.schema import CollectionSpec, check_namespace, require_agreement, suggestion
from vecbridge.stores.pinecone import limits, tags
from vecbridge.stores.pinecone.layout import collection_name, index_name, of_spec
from vecbridge.stores.pinecone.options import PineconeOptions, api_key, control_host
from vecbridge.urls import StoreURL, read_options

if TYPE_CHECKING:
    from vecbridge.stores.pinecone.collection import PineconeCollection
    from vecbridge.stores.pinecone.control import Control
    from vecbridge.stores.pinecone.planes import Plane
    from vecbridge.stores.pinecone.rest import RestPlane
    from vecbridge.stores.pinecone.table import Table

_READY_SECONDS: Final = 300.0
_GONE_SECONDS: Final = 120.0


class PineconeStore:
    """The serverless indexes of a Pinecone project.

    Args:
        url: ``pinecone://``, or ``pinecone://host:port`` for an emulator.
        **options: See :class:`~vecbridge.stores.pinecone.options.PineconeOptions`.

    Raises:
        ConfigError: No key.
        MissingDependencyError: Pinecone's client is not installed.
    """

    capabilities: Capabilities = limits.CAPABILITIES

    def __init__(self, url: StoreURL, **options: Any) -> None:
        self._options = read_options(PineconeOptions, url, options)
        self._host = control_host(url, self._options)
        self._key = api_key(self._options)
        self._url = url
        self._mutex = RLock()
        self._connected: Control | None = None
        self._planes: dict[str, tuple[Plane, RestPlane]] = {}
        for package in ("pinecone", "orjson"):
            if find_spec(package) is None:
                raise MissingDependencyError(package, extra="pinecone")

    def create(
        self, spec: CollectionSpec, *, if_exists: IfExists = "error", namespace: str = ""
    ) -> PineconeCollection:
        """Builds an index and waits until it is ready; see :class:`vecbridge.store.Store`.

        Raises:
            DeadlineError: It is not ready after five minutes; it goes on becoming so.
        """
        check_if_exists(if_exists)
        self.capabilities.require(spec)
        check_namespace(spec, namespace)
        self._require_room_for_tags(spec)
        with self._mutex:
            try:
                existing = self._described(spec.name)
            except NotFoundError:
                existing = None
            if existing is not None and if_exists == "error":
                raise CollectionExistsError(f'collection {spec.name!r} exists: if_exists="open" or "replace"')
            if existing is not None and if_exists == "open":
                require_agreement(self._table(spec.name).spec, spec)
            else:
                if existing is not None:
                    self.drop(spec.name)
                self._build(spec)
            return self.open(spec.name, namespace=namespace)

    def open(self, name: str, *, namespace: str = "") -> PineconeCollection:
        """Opens an index, also one that vecbridge did not make; see :class:`vecbridge.store.Store`."""
        from vecbridge.stores.pinecone.collection import PineconeCollection

        table = self._table(name)
        check_namespace(table.spec, namespace)
        return PineconeCollection(self._url.of_collection(name, namespace), namespace, table)

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        found = self._control().indexes()
        return sorted(
            collection_name(each.name) if tags.is_ours(each.tags or {}) else each.name for each in found
        )

    def namespaces(self, name: str) -> list[str]:
        """Namespaces of a collection, emptied ones too; see :class:`vecbridge.store.Store`."""
        table = self._table(name)
        if not table.spec.namespaced:
            return [""]
        left_out = {each.subject for each in table.losses if each.kind == "namespace"}
        return sorted({table.layout.namespace(each) for each in table.plane.counts()} - left_out)

    def drop(self, name: str, *, namespace: str | None = None) -> None:
        """Deletes an index, or one namespace of it; see :class:`vecbridge.store.Store`.

        Raises:
            BackendError: Its deletion protection is on.
        """
        if namespace is None:
            described = self._described(name)
            self._control().delete(described.name, _GONE_SECONDS)
            self._forget(described.host)
            return
        table = self._table(name)
        wire_name = table.layout.wire_namespace(check_namespace(table.spec, namespace))
        if any(table.layout.namespace(each) == namespace for each in table.plane.counts()):
            table.plane.delete_namespace(wire_name)

    def close(self) -> None:
        """Closes its connections; the next call opens them again."""
        with self._mutex:
            for plane in {each for pair in self._planes.values() for each in pair}:
                plane.close()
            if self._connected is not None:
                self._connected.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _control(self) -> Control:
        from vecbridge.stores.pinecone.control import Control

        with self._mutex:
            if self._connected is None:
                self._connected = Control(self._host, self._key.get_secret_value(), self._options.timeout)
            return self._connected

    def _described(self, name: str) -> Any:
        try:
            return self._control().describe(index_name(name))
        except NotFoundError as exc:
            hint = suggestion(name, self.collections())
            raise NotFoundError(f"no collection {name!r} at {self._host}{hint}") from exc

    def _require_room_for_tags(self, spec: CollectionSpec) -> None:
        taken = 1 + len(tags.chunks(spec))
        reserved = [name for name in self._options.tags if tags.is_reserved(name)]
        if reserved:
            raise ConfigError(f"tags: {reserved[0]!r} is vecbridge's own")
        if taken + len(self._options.tags) > tags.ALL:
            hint = f"an index has {tags.ALL}, and the spec takes {taken} of them"
            raise UnsupportedError("pinecone", f"{len(self._options.tags)} tags", hint)

    def _build(self, spec: CollectionSpec) -> None:
        options = self._options
        self._control().create(
            spec,
            cloud=options.cloud,
            region=options.region,
            protected=options.deletion_protection,
            tags=options.tags | tags.of_spec(spec),
        )
        self._control().wait_ready(index_name(spec.name), _READY_SECONDS)

    def _table(self, name: str) -> Table:
        """What is known of a collection; read again each time, since others may have replaced it.

        Raises:
            NotFoundError: There is none.
        """
        from vecbridge.stores.pinecone import foreign
        from vecbridge.stores.pinecone.table import Table

        described = self._described(name)
        plane, rest = self._plane(described.host)
        known = described.tags or {}
        losses: tuple[Gap, ...] = ()
        if tags.is_ours(known):
            spec = tags.read(name, known)
            own = collection_name(described.name)
            spec = spec if spec.name == own else spec.renamed(own)
            layout = of_spec(spec)
        else:
            spec, layout, losses = foreign.introspected(described, plane)
        return Table(described.name, spec, layout, tags.identity(known), losses, plane, rest, self._control())

    def _plane(self, host: str) -> tuple[Plane, RestPlane]:
        from vecbridge.stores.pinecone.rest import RestPlane

        address = host if "://" in host else f"https://{host}"
        with self._mutex:
            if host not in self._planes:
                given = (address, self._key.get_secret_value(), self._options.timeout)
                rest = RestPlane(*given)
                plane: Plane = rest
                if self._options.transport == "grpc":
                    from vecbridge.stores.pinecone.rpc import RpcPlane

                    plane = RpcPlane(*given)
                self._planes[host] = plane, rest
            return self._planes[host]

    def _forget(self, host: str) -> None:
        with self._mutex:
            for plane in set(self._planes.pop(host, ())):
                plane.close()
