"""Source and target of a migration: a collection with all its namespaces, or the one that its URL names."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vecbridge.closing import Closing
from vecbridge.errors import NotFoundError
from vecbridge.registry import connect
from vecbridge.store import Collection, Store
from vecbridge.urls import StoreURL, parse


class Side(Closing):
    """One side; opens its store, and each namespace once. Thread-safe.

    Args:
        url: Of the collection.
        options: Of its store, such as keys and passwords.
        name: The collection where the URL names none.

    Attributes:
        name: The collection.
        namespace: The one that the URL names; None is all of them.
        store: Its store.

    Raises:
        InvalidURLError: A URL that cannot be read, or that names no collection.
    """

    def __init__(
        self, url: str | StoreURL, options: Mapping[str, Any] | None = None, *, name: str = ""
    ) -> None:
        parsed = parse(url)
        if not parsed.collection and name:
            parsed = replace(parsed, collection=name)
        self.name = parsed.require_collection()
        self.namespace = parsed.namespace
        self.store: Store = connect(parsed.without_collection(), **(options or {}))
        self._open: dict[str, Collection] = {}
        self._mutex = threading.Lock()

    @property
    def url(self) -> str:
        """Its URL, without login."""
        plain = replace(self.store.url, user="", password="")
        return str(replace(plain, collection=self.name, namespace=self.namespace))

    def exists(self) -> bool:
        """Whether the collection is there."""
        try:
            self.collection(self.namespace or "")
        except NotFoundError:
            return False
        return True

    def collection(self, namespace: str = "") -> Collection:
        """One namespace.

        Raises:
            NotFoundError: The collection does not exist.
        """
        with self._mutex:
            if (opened := self._open.get(namespace)) is None:
                opened = self._open[namespace] = self.store.open(self.name, namespace=namespace)
            return opened

    def namespaces(self) -> list[str]:
        """The namespaces that were written to, sorted; only the one that the URL names.

        Raises:
            NotFoundError: The collection does not exist.
        """
        return self.store.namespaces(self.name) if self.namespace is None else [self.namespace]

    def forget(self) -> None:
        """Closes the opened collections, so that the next ones see the schema as it is then."""
        with self._mutex:
            for opened in self._open.values():
                opened.close()
            self._open.clear()

    def close(self) -> None:
        """Closes the store and every collection of it."""
        self.store.close()
