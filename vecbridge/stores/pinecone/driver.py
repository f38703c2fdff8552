"""The driver of Pinecone: the indexes of a project as collections."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.driver import Deadline, Described, OnFork
from vecbridge.errors import (
    CollectionExistsError,
    ConfigError,
    MissingDependencyError,
    NotFoundError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.schema import CollectionSpec
from vecbridge.stores.pinecone import limits, tags
from vecbridge.stores.pinecone.layout import Location, collection_name, index_name, of_spec
from vecbridge.stores.pinecone.options import PineconeOptions, api_key, control_host
from vecbridge.urls import StoreURL

if TYPE_CHECKING:
    from vecbridge.stores.pinecone.collection import PineconeCollection
    from vecbridge.stores.pinecone.control import Control
    from vecbridge.stores.pinecone.encoding import PineconeEncoder
    from vecbridge.stores.pinecone.planes import Plane
    from vecbridge.stores.pinecone.rest import RestPlane
    from vecbridge.stores.pinecone.rpc import RpcPlane

_SETTLING: Final = 1.0  # seconds that a request to the control plane may take until its change is there
_INDEX: Final = re.compile(r"[a-z0-9-]{1,45}")


class PineconeDriver:
    """The serverless indexes of a Pinecone project; see :class:`vecbridge.driver.StoreDriver`.

    Args:
        url: ``pinecone://``, or ``pinecone://host:port`` for an emulator.
        options: How to reach it, and what new indexes are like.
        read_only: Changes nothing: the service has no writers to exclude.

    Raises:
        ConfigError: No key.
        MissingDependencyError: Pinecone's client is not installed.
    """

    capabilities: ClassVar[Capabilities] = limits.CAPABILITIES
    options: ClassVar[type[PineconeOptions]] = PineconeOptions
    on_fork: ClassVar[OnFork] = "reopen"

    def __init__(self, url: StoreURL, options: PineconeOptions, *, read_only: bool = False) -> None:
        self.url = url
        self._options = options
        self._host = control_host(url, options)
        self._key = api_key(options)
        self._mutex = Lock()
        self._closed = False
        self._connected: Control | None = None
        self._planes: dict[str, tuple[Plane, RestPlane]] = {}
        for package in ("pinecone", "orjson"):
            if find_spec(package) is None:
                raise MissingDependencyError(package, extra="pinecone")

    @classmethod
    def gaps(cls, spec: CollectionSpec) -> Iterable[Gap]:
        """What the capabilities' figures cannot say about a spec."""
        return limits.gaps(spec)

    def connect(self, deadline: Deadline) -> Capabilities:
        """What every server can do; sends nothing."""
        return self.capabilities

    def names(self, deadline: Deadline) -> Iterable[str]:
        """Names of the collections, those of other programs' indexes as they are."""
        return [
            collection_name(index.name) if tags.is_ours(index.tags or {}) else index.name
            for index in self._control().indexes()
        ]

    def describe(self, name: str, deadline: Deadline) -> Described | None:
        """One collection; of an index made elsewhere, a sample of its records is read."""
        if not _INDEX.fullmatch(index_name(name)):
            return None
        index = self._control().describe(index_name(name))
        return None if index is None else self._described(index, deadline)

    def create(
        self, spec: CollectionSpec, token: str, replacing: Described | None, deadline: Deadline
    ) -> Described:
        """Makes an index and waits until it takes requests."""
        if reserved := [name for name in self._options.tags if tags.is_reserved(name)]:
            raise ConfigError(f"tags: {reserved[0]!r} is vecbridge's own")
        tags.require_room(spec, self._options.tags)
        control, index = self._control(), index_name(spec.name)
        if replacing is not None:
            self.drop(replacing, None, deadline)
        try:
            control.create(spec, self._options, tags.of_spec(spec, token))
            control.wait_ready(index, deadline)
            return self._described(control.describe(index), deadline)
        except BaseException as exc:
            if not isinstance(exc, CollectionExistsError) and not getattr(exc, "unsent", False):
                with suppress(VecbridgeError):
                    made = control.describe(index)
                    if made is not None and tags.identity(made).value == token:
                        control.delete(index)
            raise

    def attach(self, found: Described, namespace: str) -> PineconeCollection:
        """The driver of one namespace; sends nothing."""
        from vecbridge.stores.pinecone.collection import PineconeCollection

        return PineconeCollection(found, namespace, self._control(), *self._plane(found.state.host))

    def encoder(self, spec: CollectionSpec, found: Described | None, namespace: str) -> PineconeEncoder:
        """What encodes rows by the layout that the index has, or would have."""
        from vecbridge.stores.pinecone.encoding import PineconeEncoder

        layout = of_spec(spec) if found is None else found.state.layout
        return PineconeEncoder(spec, layout, namespace, self._plane_class())

    def namespaces(self, found: Described, deadline: Deadline) -> Iterable[str]:
        """Namespaces of a collection, emptied ones too."""
        plane, _ = self._plane(found.state.host)
        return {found.state.layout.namespace(name) for name in plane.counts(deadline)}

    def drop(self, found: Described, namespace: str | None, deadline: Deadline) -> None:
        """Deletes an index, or one namespace of it.

        Raises:
            BackendError: Its deletion protection is on.
        """
        from vecbridge.stores.pinecone.control import poll

        if namespace is not None:
            plane, _ = self._plane(found.state.host)
            with suppress(NotFoundError):
                plane.delete_namespace(found.state.layout.wire_namespace(namespace), deadline)
            return
        control, index = self._control(), index_name(found.name)
        control.delete(index)
        poll(lambda: control.describe(index) is None, deadline, f"index {index!r} is not gone")
        with self._mutex:
            for plane in set(self._planes.pop(found.state.host, ())):
                plane.close()

    def add_fields(self, found: Described, spec: CollectionSpec, deadline: Deadline) -> Described | None:
        """Writes the new spec into the tags, in one request: a record without the key of a field has null.

        The service changes tags whether or not they are still those that were read, so that of two calls at
        the same moment the later one wins. Each waits until the other's change must be there and looks again:
        the earlier one sees that it lost.

        Raises:
            NotFoundError: The index is gone.
            UnsupportedError: It was made elsewhere, or has too many other tags.
        """
        if not found.state.layout.own:
            hint = "its columns are the keys of its records: write new ones into 'extra', and open it again"
            raise UnsupportedError("pinecone", "adding fields to an index made elsewhere", hint)
        index = self._standing(found)
        now = self._described(index, deadline)
        if now.identity == found.identity and now.spec == found.spec:
            self._control().tag(index.name, tags.changed(index.tags, spec))
            deadline.pause(_SETTLING, f"whether {found.name!r} has its new fields is not known")
            now = self._described(self._standing(found), deadline)
        return now if now.identity == found.identity and now.spec == spec else None

    def error(self, exc: Exception, what: str) -> VecbridgeError | None:
        """Maps an exception of Pinecone's client to one of ours."""
        from pinecone.errors import PineconeError

        from vecbridge.stores.pinecone import errors

        return errors.of(exc, what) if isinstance(exc, PineconeError) else None

    def forked(self) -> None:
        """Nothing: there are no locks, and the parent's connections are not to be touched."""

    def close(self) -> None:
        """Closes its connections."""
        with self._mutex:
            self._closed = True
            for plane in {plane for pair in self._planes.values() for plane in pair}:
                plane.close()
            if self._connected is not None:
                self._connected.close()

    def _standing(self, found: Described) -> Any:
        """The index that has the name of a collection now, as the client describes it."""
        if (index := self._control().describe(index_name(found.name))) is None:
            raise NotFoundError(f"collection {found.name!r} was dropped")
        return index

    def _described(self, index: Any, deadline: Deadline) -> Described:
        from vecbridge.stores.pinecone import foreign

        if not tags.is_ours(index.tags or {}):
            plane, _ = self._plane(index.host)
            return foreign.introspected(index, plane, deadline)
        name = collection_name(index.name)
        stored = tags.read(name, index.tags)
        spec = stored.spec if stored.spec.name == name else stored.spec.renamed(name)
        layout = of_spec(spec, copies_ids=stored.copies_ids)
        return Described(name, spec, tags.identity(index), state=Location(index.host, layout))

    def _control(self) -> Control:
        from vecbridge.stores.pinecone.control import Control

        with self._mutex:
            if self._connected is None:
                self._require_open()
                self._connected = Control(self._host, self._key.get_secret_value(), self._options.timeout)
            return self._connected

    def _plane(self, host: str) -> tuple[Plane, RestPlane]:
        """The data plane of an index, and the one over REST, which alone tells what a reader sees."""
        from vecbridge.stores.pinecone.rest import RestPlane

        plane_class = self._plane_class()
        address = host if "://" in host else f"https://{host}"
        given = (address, self._key.get_secret_value(), self._options.timeout)
        with self._mutex:
            if host not in self._planes:
                self._require_open()
                rest = RestPlane(*given)
                plane: Plane = rest if plane_class is RestPlane else plane_class(*given)
                self._planes[host] = plane, rest
            return self._planes[host]

    def _plane_class(self) -> type[RestPlane] | type[RpcPlane]:
        """What carries the data plane in this process."""
        from vecbridge.stores.pinecone.rest import RestPlane

        if self._options.transport == "grpc":
            from vecbridge.stores.pinecone import rpc

            if rpc.works_here():
                return rpc.RpcPlane
        return RestPlane

    def _require_open(self) -> None:
        if self._closed:
            raise ConfigError(f"{self.url} is closed")
