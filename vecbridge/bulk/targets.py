"""Where a bulk write goes: a collection that is there, or one that is made once a row for it was read.

A run that fails before any row was acknowledged leaves nothing of its own behind::

    source ── first batch with a good row ──> open() ── upserts ──> done
       │                                        │          └─ none acknowledged: abandon()
       └─ an error, or no good row: nothing was made
"""

from __future__ import annotations

from typing import Protocol

from vecbridge.capabilities import Capabilities
from vecbridge.closing import Closing
from vecbridge.errors import NotFoundError, UnsupportedError, VecbridgeError
from vecbridge.schema import CollectionSpec, Field
from vecbridge.store import Collection, Store


class Target(Protocol):
    """Where a bulk write goes.

    Attributes:
        collection: It, once it is open; None before.
        waits: Whether opening it changes something, so that a good row is to be read first.
    """

    collection: Collection | None
    waits: bool

    @property
    def spec(self) -> CollectionSpec:
        """What the collection holds, or will hold once it is open; reserved fields too."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Of the store."""
        ...

    def open(self) -> Collection:
        """The collection, made where it is not there."""
        ...

    def abandon(self) -> str | None:
        """No row was acknowledged: removes what :meth:`open` made; what is left of it, in a sentence."""
        ...


class ExistingCollection(Closing):
    """A collection that is there.

    Args:
        collection: It.
        new_fields: Fields that :meth:`open` adds to it; they cannot be taken back.
    """

    def __init__(self, collection: Collection, new_fields: tuple[Field, ...] = ()) -> None:
        self.collection: Collection | None = collection
        self.waits = bool(new_fields)
        self._collection = collection
        self._new_fields = new_fields

    @property
    def spec(self) -> CollectionSpec:
        """With the new fields."""
        spec = self._collection.stored_spec
        return (spec.grown(self._new_fields) if self._new_fields else None) or spec

    @property
    def capabilities(self) -> Capabilities:
        """Of its store."""
        return self._collection.capabilities

    def open(self) -> Collection:
        """Adds the new fields."""
        if self._new_fields:
            self._collection.add_fields(self._new_fields)
        return self._collection

    def abandon(self) -> str | None:
        """Nothing: it was there before."""
        return None

    def close(self) -> None:
        """Closes the handle."""
        self._collection.close()


class NewCollection(Closing):
    """A collection that is made once a row for it was read, and removed if none was acknowledged.

    Args:
        store: Where.
        spec: What it holds.
        namespace: The namespace that is written to.

    Attributes:
        collection: It; None until a row for it was read, and after it was removed again.

    Raises:
        UnsupportedError: This very server cannot build it; nothing was made.

    Example:
        >>> import vecbridge as vb
        >>> from vecbridge.bulk import NewCollection
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> with vb.connect("memory://") as store, NewCollection(store, spec) as photos:
        ...     report = vb.write(photos, [[{"id": "a", "vector": [0, 0]}]])
        ...     report.failed, store.collections()
        (1, [])
    """

    waits = True

    def __init__(self, store: Store, spec: CollectionSpec, namespace: str = "") -> None:
        self.collection: Collection | None = None
        self._store, self._spec, self._namespace = store, spec, namespace
        for gap in store.check(spec):
            if gap.blocking:
                backend = store.capabilities.backend
                raise UnsupportedError(backend, f"{gap.kind} of {gap.subject!r}", gap.detail)

    @property
    def spec(self) -> CollectionSpec:
        """What it holds, or will hold."""
        return self._spec if self.collection is None else self.collection.stored_spec

    @property
    def capabilities(self) -> Capabilities:
        """Of its store."""
        return self._store.capabilities

    def open(self) -> Collection:
        """Makes it.

        Raises:
            CollectionExistsError: Somebody else has made one of the name meanwhile.
        """
        if self.collection is None:
            self.collection = self._store.create(self._spec, namespace=self._namespace)
        return self.collection

    def abandon(self) -> str | None:
        """Removes it, if it is still the one that was made here and nobody has written to it."""
        made = self.collection
        if made is None:
            return None
        try:
            if not remove_empty(self._store, made.spec.name, made.identity):
                return None  # somebody else's, or in use by somebody else
        except VecbridgeError as exc:
            return f"the empty collection {made.spec.name!r} that was made for it could not be removed: {exc}"
        self.collection = None
        made.close()
        return None

    def close(self) -> None:
        """Closes the handle, if there is one."""
        if self.collection is not None:
            self.collection.close()


def as_target(collection: Collection | Target) -> Target:
    """A target as it is; a collection as a target."""
    if isinstance(collection, NewCollection | ExistingCollection):
        return collection
    return ExistingCollection(collection)  # type: ignore[arg-type]  # whatever else behaves as a collection


def remove_empty(store: Store, name: str, identity: str) -> bool:
    """Drops a collection that a failed run has made, unless it is another one by now or has rows.

    Args:
        store: Where it is.
        name: Its name.
        identity: Of the collection that the run made.

    Returns:
        Whether it is gone.
    """
    try:
        for namespace in store.namespaces(name):
            with store.open(name, namespace=namespace) as opened:
                if opened.identity != identity:
                    return True  # it was dropped and made anew: the one that this run made is gone
                if opened.count():
                    return False
        store.drop_exactly(name, identity)
    except NotFoundError:
        pass
    return True
