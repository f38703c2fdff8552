"""The state of a collection's handle: open, closed, forked, dropped or replaced.

A handle is checked where a call begins, and again where a call failed, because the reason may be that the
handle was closed, or its collection replaced, meanwhile::

    made ──────────> open ── close(), of the handle or its store ──> closed    every call: ConfigError
                     │  ^
      fork, in the   │  │ the next call describes the collection again, with the child's own driver,
      child          v  │ and compares its identity with the one that was opened
                    forked
                     │
                     └── another identity, or none, also without a fork ──> gone    every call: NotFoundError
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from vecbridge import reserved
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.closing import Closing
from vecbridge.driver import CollectionDriver, Deadline, Described, outdated
from vecbridge.errors import (
    BackendError,
    ConfigError,
    NotFoundError,
    SchemaError,
    UnavailableError,
    UnsupportedError,
    VecbridgeError,
)
from vecbridge.front import processes
from vecbridge.front.connection import Connection
from vecbridge.front.queries import QueryResolver
from vecbridge.schema import CollectionSpec
from vecbridge.urls import StoreURL

Result = TypeVar("Result")

_LOOK_SECONDS: Final = 5.0  # for asking, after an error, whether the collection was replaced
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Attached:
    """What a call works with; replaced as a whole where fields are added, so that no call meets half of it.

    Attributes:
        driver: Of the collection.
        described: The collection as the driver knows it.
        resolver: Checks filters and queries against it.
        public: Its spec without reserved fields.
    """

    driver: CollectionDriver
    described: Described
    resolver: QueryResolver
    public: CollectionSpec

    @property
    def spec(self) -> CollectionSpec:
        """What the collection holds, reserved fields too."""
        return self.described.spec


class CollectionHandle(Closing):
    """What :class:`vecbridge.Collection` knows of itself; its methods are there.

    Attributes:
        url: Where it is; its text never shows a password.
        namespace: Which namespace it is.
    """

    def __init__(self, connection: Connection, described: Described, namespace: str) -> None:
        self.url: StoreURL = connection.driver.url.of_collection(described.name, namespace)
        self.namespace = namespace
        self._connection = connection
        self._owns_store = False
        self._closed = False
        self._attach(described)

    def _attach(self, described: Described) -> None:
        connection = self._connection
        self._dropped_key = (str(connection.driver.url), described.name, described.identity.value)
        self._epoch = connection.epoch
        self._attached = Attached(
            connection.driver.attach(described, self.namespace),
            described,
            QueryResolver(described.spec, connection.capabilities),
            reserved.public(described.spec),
        )
        self._looked_at = time.monotonic()

    @property
    def spec(self) -> CollectionSpec:
        """What it holds, as this handle knows it."""
        return self._attached.public

    @property
    def stored_spec(self) -> CollectionSpec:
        """What it holds with the reserved fields, if it has them; see :mod:`vecbridge.reserved`."""
        return self._attached.described.spec

    @property
    def capabilities(self) -> Capabilities:
        """What the server that it lives on can do."""
        return self._connection.capabilities

    @property
    def losses(self) -> Sequence[Gap]:
        """What the collection holds that ``spec`` cannot say, if vecbridge did not make it."""
        return self._attached.described.losses

    @property
    def extra(self) -> str | None:
        """The json column that takes every key outside the other columns, if vecbridge did not make it."""
        return self._attached.described.extra

    @property
    def identity(self) -> str:
        """Which collection of its name it is: another value after it was dropped and made anew."""
        return self._attached.described.identity.value

    def close(self) -> None:
        """Closes this handle alone, or its store too if :func:`vecbridge.open` made both."""
        self._closed = True
        if self._owns_store:
            self._connection.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def _own_store(self) -> Self:
        """Has ``close()`` close the store as well from now on."""
        self._owns_store = True
        return self

    def _enter(self) -> Attached:
        """The driver and what belongs to it, if this handle can be used in this process now.

        It is on the path of a search that takes 100 µs, so that it takes no lock and calls little.
        """
        connection = self._connection
        if connection.process != os.getpid():  # a fork made without Python's knowledge
            connection.after_fork()
        if self._closed or connection.closed:
            raise ConfigError(f"{self.url} is closed")
        if self._epoch != connection.epoch:
            self._attach_in_child()
        if processes.was_dropped(self._dropped_key):
            raise self._gone()
        return self._attached

    def _enter_for_reading(self) -> Attached:
        """The first line of every call that reads."""
        here = self._enter()
        trust = self._connection.capabilities.trust_reads
        if trust < _FOREVER:
            self._require_current(here, trust)
        return here

    def _enter_for_writing(self) -> Attached:
        """The first line of every call that writes; before it sends, it calls :meth:`_require_current`."""
        here = self._enter()
        self._connection.require_writable()
        return here

    def _attach_in_child(self) -> None:
        """In a forked child: finds the collection again with the child's own driver."""
        known = self._attached.described
        described = self._connection.describe(known.name)
        if described is None or described.identity != known.identity:
            raise self._gone()
        self._attach(described)

    def _require_current(self, here: Attached, trust: float, *, writing: bool = False) -> None:
        """Refuses to use a collection that took the place of the one that was opened.

        Args:
            here: What the call works with.
            trust: Seconds for which the last look is believed.
            writing: Refuse also to write where fields were added, which a written row would set to null.

        Raises:
            NotFoundError: It was dropped or replaced.
            SchemaError: Fields were added to it.
        """
        now = time.monotonic()
        if now - self._looked_at < trust:
            return
        identity, known = (
            self._call("look at", here.driver.identity, self._deadline()),
            here.described.identity,
        )
        if identity is None or identity != known:
            raise self._gone()
        if writing and identity.schema != known.schema:
            raise outdated(here.spec.name)
        self._looked_at = now

    def _require_verb(self, flag: str, feature: str) -> None:
        """Refuses what the backend does not declare."""
        if not getattr(self.capabilities, flag):
            hint = f"capabilities.{flag} says which backends do"
            raise UnsupportedError(self.capabilities.backend, feature, hint)

    def _call(self, what: str, verb: Callable[..., Result], *arguments: object) -> Result:
        """Calls a verb of the driver; what it raises becomes one of our errors."""
        try:
            return verb(*arguments)
        except Exception as exc:
            error = self._mapped(exc, what)
            if error is exc:
                raise
            raise error from exc

    def _mapped(self, exc: Exception, what: str) -> VecbridgeError:
        """What an exception of the driver becomes, now that the state of this handle is known."""
        if self._closed or self._connection.closed:
            return ConfigError(f"{self.url} was closed during the call")
        error = self._connection.mapped(exc, f"{what} {self.spec.name!r}")
        if _may_be_of_a_replacement(error):
            with suppress(Exception):  # the first error tells more than one of this look
                here = self._attached
                if here.driver.identity(Deadline.after(_LOOK_SECONDS)) != here.described.identity:
                    return self._gone()
        return error

    def _gone(self) -> NotFoundError:
        return NotFoundError(
            f"collection {self.spec.name!r} was dropped or replaced since it was opened: open it again"
        )

    def _deadline(self) -> Deadline:
        """The deadline of one request."""
        return self._connection.deadline()


def _may_be_of_a_replacement(error: VecbridgeError) -> bool:
    """Whether an error is one that a collection of another shape, or none, would give."""
    if isinstance(error, UnavailableError):
        return error.unsent
    return isinstance(error, NotFoundError | SchemaError) or type(error) is BackendError
