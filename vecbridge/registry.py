"""From a URL to a store: ours by name, third parties' by the entry-point group ``vecbridge.stores``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from vecbridge.errors import ConfigError, InvalidURLError
from vecbridge.schema import suggestion
from vecbridge.store import Collection, Store
from vecbridge.urls import StoreURL, parse

GROUP: Final = "vecbridge.stores"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a store lives.

    Attributes:
        target: "module:Class"; the class takes (url, **options) and has ``capabilities``.
        extra: The extra of vecbridge that installs its SDK; "" if it needs none.
    """

    target: str
    extra: str = ""


BUILT_IN: Final[dict[str, Entry]] = {
    "memory": Entry("vecbridge.stores.memory:MemoryStore"),
    "faiss": Entry("vecbridge.stores.faiss.store:FaissStore", extra="faiss"),
    "milvus": Entry("vecbridge.stores.milvus.store:MilvusStore", extra="milvus"),
    "pinecone": Entry("vecbridge.stores.pinecone.store:PineconeStore", extra="pinecone"),
    "milvus+lite": Entry("vecbridge.stores.milvus.store:MilvusLiteStore", extra="milvus"),
    "weaviate": Entry("vecbridge.stores.weaviate.store:WeaviateStore", extra="weaviate"),
}


def schemes() -> dict[str, Entry]:
    """Every URL scheme that can be connected to."""
    return dict(_third_parties()) | BUILT_IN


def store_class(scheme: str) -> Any:
    """The class behind a scheme; imports its room, not its SDK.

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
    store: Store = store_class(parsed.scheme)(parsed, **options)
    return store


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
    """
    parsed = parse(url)
    name = parsed.require_collection()
    store = connect(parsed.without_collection(), **options)
    try:
        collection = store.open(name, namespace=parsed.namespace or "")
    except BaseException:
        store.close()
        raise
    return _owning(collection, store)


def _owning(collection: Collection, store: Store) -> Collection:
    """Makes the collection's close() close its store as well."""
    close_collection = collection.close

    def close() -> None:
        try:
            close_collection()
        finally:
            store.close()

    collection.close = close  # type: ignore[method-assign]
    return collection


def _third_parties() -> Iterator[tuple[str, Entry]]:
    for each in entry_points(group=GROUP):
        if ":" not in each.value:
            raise ConfigError(f"entry point {each.name!r} of {GROUP}: {each.value!r} is not 'module:Class'")
        yield each.name, Entry(each.value)
