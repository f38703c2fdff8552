"""Makes collections for tests, and proves the refusal of those that a store does not declare."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from vecbridge.errors import UnsupportedError
from vecbridge.schema import CollectionSpec, Field
from vecbridge.store import Collection, Store


class Undeclared(Exception):
    """Ends a test whose feature the store does not declare, after the store refused it as it must.

    The plugin reports the test as undeclared, not as passed. Raise it by :func:`undeclared`, which proves
    the refusal; by itself only where nothing is refused, as recall of a store that compares every row.
    """


def undeclared(feature: str, *refused: Callable[[], Any]) -> NoReturn:
    """Ends a test of a feature that the store does not declare, once every call of it was refused.

    Args:
        feature: What the store does not declare, as the report says it.
        *refused: Calls that use it; one at least.

    Raises:
        Undeclared: Each of them raised UnsupportedError.
    """
    assert refused, "without a call that is refused, nothing is proven"
    for call in refused:
        with pytest.raises(UnsupportedError):
            call()
    raise Undeclared(feature)


def require_nulls(store: Store) -> None:
    """Ends a test of null on a store that does not tell it from empty, which a gap must say."""
    if not store.capabilities.nulls:
        gaps = store.capabilities.check(
            CollectionSpec.single("nulls", dim=4, fields=[Field("year", "int64")])
        )
        assert "null" in {gap.kind for gap in gaps}
        raise Undeclared("null apart from empty values")


class Maker:
    """Makes collections under names of their own and remembers them, so that they can be dropped.

    Args:
        store: Where to make them.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.names: list[str] = []

    def spec(self, **changes: Any) -> CollectionSpec:
        """A spec with a fresh name; four dimensions unless said otherwise.

        Args:
            **changes: As for :meth:`vecbridge.CollectionSpec.single`.
        """
        return CollectionSpec.single(self.name(), **({"dim": 4} | changes))

    def name(self) -> str:
        """A name that no collection has."""
        self.names.append(f"t{uuid.uuid4().hex[:16]}")
        return self.names[-1]

    def __call__(self, **changes: Any) -> Collection:
        """A new collection of :meth:`spec`."""
        return self.create(self.spec(**changes))

    def create(self, spec: CollectionSpec, **options: Any) -> Collection:
        """Creates a collection; where the store does not declare the spec, proves the refusal instead.

        Args:
            spec: What to create.
            **options: As for :meth:`vecbridge.Store.create`.

        Raises:
            Undeclared: The store refused the spec, as its capabilities say; the test ends as undeclared.
        """
        blocking = [gap for gap in self.store.capabilities.check(spec) if gap.blocking]
        if not blocking:
            return self.store.create(spec, **options)
        with pytest.raises(UnsupportedError):
            self.store.create(spec, **options)
        assert spec.name not in self.store.collections()
        raise Undeclared(blocking[0].detail)
