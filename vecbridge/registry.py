"""From a URL to a store: ours by name, third parties' by the entry-point group ``vecbridge.stores``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from vecbridge.errors import ConfigError, InvalidURLError, suggestion
from vecbridge.store import Collection, Store
from vecbridge.urls import SCHEME, StoreURL, parse

GROUP: Final = "vecbridge.stores"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a store lives.

    Attributes:
        target: "module:Class"; the class is a :class:`vecbridge.driver.StoreDriver`.
        extra: The extra of vecbridge that installs its SDK; "" if it needs none.
    """

    target: str
    extra: str = ""


BUILT_IN: Final[dict[str, Entry]] = {
    "memory": Entry("vecbridge.stores.memory:MemoryDriver"),
    "faiss": Entry("vecbridge.stores.faiss.driver:FaissDriver", extra="faiss"),
    "milvus": Entry("vecbridge.stores.milvus.driver:MilvusDriver", extra="milvus"),
    "milvus+lite": Entry("vecbridge.stores.milvus.lite:MilvusLiteDriver", extra="milvus"),
    "pinecone": Entry("vecbridge.stores.pinecone.driver:PineconeDriver", extra="pinecone"),
    "snapshot": Entry("vecbridge.stores.snapshot.driver:SnapshotDriver"),
    "weaviate": Entry("vecbridge.stores.weaviate.driver:WeaviateDriver", extra="weaviate"),
}


_REGISTERED: Final[dict[str, Entry]] = {}


def register(scheme: str, target: str) -> None:
    """Makes a driver known in this process; a package that is installed names it by an entry point instead.

    Args:
        scheme: Of its URLs, in small letters.
        target: "module:Class"; it is imported by the first :func:`connect`.

    Raises:
        ConfigError: No scheme, no target, or a scheme of vecbridge's own.

    Example:
        >>> register("scratch", "vecbridge.stores.memory:MemoryDriver")
        >>> connect("scratch://").collections()
        []
    """
    if not SCHEME.fullmatch(scheme) or scheme in BUILT_IN:
        raise ConfigError(f"scheme {scheme!r}: small letters and digits, and none of {', '.join(BUILT_IN)}")
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"target {target!r} is not 'module:Class'")
    _REGISTERED[scheme] = Entry(target)


def schemes() -> dict[str, Entry]:
    """Every URL scheme that can be connected to."""
    return dict(_third_parties()) | _REGISTERED | BUILT_IN


def driver_class(scheme: str) -> Any:
    """The driver behind a scheme; imports its room, not its SDK.

    Raises:
        InvalidURLError: No store has that scheme.
    """
    known = schemes()
    if scheme not in known:
        raise InvalidURLError(f"no store is called {scheme!r}{suggestion(scheme, known)}")
    module, _, name = known[scheme].target.partition(":")
    return getattr(import_module(module), name)


def connect(url: str | StoreURL, **options: Any) -> Store:
    """A store, from its URL; nothing is sent yet.

    Args:
        url: Such as ``faiss:///data/vectors``.
        **options: As in the URL; they stand above it. Keys and passwords belong here or in the environment.

    Returns:
        A store; use it as a context manager.

    Raises:
        InvalidURLError: A URL that cannot be read, an unknown scheme, or one that names a collection.
        UnknownOptionError: An option that the store does not have.

    Example:
        >>> with connect("memory://") as store:
        ...     store.collections()
        []
    """
    parsed = parse(url)
    if parsed.collection:
        raise InvalidURLError(
            f"{parsed} names a collection: vecbridge.open() opens one, connect() takes the store"
        )
    if parsed.namespace is not None:
        raise InvalidURLError(f"{parsed} names a namespace and no collection")
    return Store(driver_class(parsed.scheme), parsed, options)


def open(url: str | StoreURL, **options: Any) -> Collection:
    """One collection, from its URL; closing it closes its store.

    Args:
        url: Such as ``faiss:///data/vectors?namespace=eu#photos``.
        **options: As for :func:`connect`.

    Returns:
        The collection; use it as a context manager.

    Raises:
        InvalidURLError: The URL names no collection.
        NotFoundError: It does not exist.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory:///shared") as store:
        ...     photos = store.create(vb.CollectionSpec.single("photos", dim=4), if_exists="open")
        ...     with vb.open("memory:///shared#photos") as opened:
        ...         opened.spec == photos.spec
        True
    """
    parsed = parse(url)
    name = parsed.require_collection()
    store = connect(parsed.without_collection(), **options)
    try:
        return store.open(name, namespace=parsed.namespace or "")._own_store()
    except BaseException:
        store.close()
        raise


def _third_parties() -> Iterator[tuple[str, Entry]]:
    for each in entry_points(group=GROUP):
        if ":" not in each.value:
            raise ConfigError(f"entry point {each.name!r} of {GROUP}: {each.value!r} is not 'module:Class'")
        yield each.name, Entry(each.value)
