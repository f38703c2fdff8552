"""A connection that is made when it is first needed, and again after it was closed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None: ...


Made = TypeVar("Made", bound=_Closable)


class Reopened(Generic[Made]):
    """Something of Pinecone's client that holds connections.

    Args:
        make: Makes it; a function shows no key, whatever it knows.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: Made | None = None
        self._mutex = Lock()

    def get(self) -> Made:
        """It; made if it is not there."""
        with self._mutex:
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """Closes it; a second call does nothing."""
        with self._mutex:
            made, self._made = self._made, None
        if made is not None:
            made.close()
