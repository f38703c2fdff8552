"""How the processes of a Ray cluster reach a store: by a recipe without secrets, never by a client."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vecbridge.capabilities import Capabilities
from vecbridge.driver import StoreDriver
from vecbridge.errors import ConfigError, UnsupportedError
from vecbridge.registry import connect, driver_class
from vecbridge.store import Store
from vecbridge.urls import StoreURL

_WAY_OUT = "write to a server, or write Parquet files from Ray and load them with `vecbridge load`"


class Address:
    """Where a store is; picklable, and holds no client.

    A pickled store is its URL and its options without secrets, which each process reads from its own
    environment.

    Args:
        url: Of the store.
        options: Keyword options of :func:`vecbridge.connect`.

    Attributes:
        text: The URL, for messages.

    Raises:
        ConfigError: A password or a key, which would not reach the workers.
        UnsupportedError: The store lives in the memory of one process.
    """

    def __init__(self, url: StoreURL, options: Mapping[str, Any]) -> None:
        self.text = str(url)
        self._driver: type[StoreDriver] = driver_class(url.scheme)
        if self._driver.on_fork == "keep":
            raise UnsupportedError(
                self.capabilities.backend, "writing and reading from other processes", _WAY_OUT
            )
        if self.embedded and not url.path.startswith("/"):  # a worker has a working directory of its own
            url = replace(url, path=str(Path(url.path).expanduser().absolute()))
        with connect(url, **options) as store:
            _, (_, _, kept) = store.__reduce__()
            secrets = sorted(set(options) - set(kept))
            if url.password or secrets:
                what = ", ".join(f"{name}=" for name in secrets) or "the password in the URL"
                raise ConfigError(
                    f"{what} is a secret, and secrets are not pickled: put it into the environment variable "
                    "that the store reads, on every node, as in ray.init(runtime_env={'env_vars': {…}})"
                )
            self._recipe = pickle.dumps(store)

    @property
    def capabilities(self) -> Capabilities:
        """The most that a server of this kind can do; nothing is asked."""
        return self._driver.capabilities

    @property
    def embedded(self) -> bool:
        """Whether the store is files that one process at a time writes to, and not a server."""
        return self._driver.on_fork != "reopen"

    @property
    def exclusive(self) -> bool:
        """Whether only one process at a time can use the store at all."""
        return self._driver.on_fork == "refuse"

    def connect(self) -> Store:
        """A store of this process; making it sends nothing."""
        store: Store = pickle.loads(self._recipe)
        return store


class HeldStore:
    """The store that a worker process keeps from one task of a run to the next."""

    def __init__(self) -> None:
        self._run = ""
        self._store: Store | None = None

    def of(self, run: str, address: Address) -> Store:
        """The store of a run: that of the run's last task here, or a new one.

        Args:
            run: Tells runs apart, since a later one may find other collections.
            address: Where the store is.
        """
        if self._store is None or self._run != run:
            self.release()
            self._run, self._store = run, address.connect()
        return self._store

    def release(self) -> None:
        """Closes it, with its locks and connections."""
        store, self._store = self._store, None
        if store is not None:
            store.close()
