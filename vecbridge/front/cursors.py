"""Cursors: where a scan goes on, as text that is valid in another process.

A cursor belongs to one namespace of one collection and to the filter of its scan; one that was made for
something else is refused, rather than answered with rows that the caller did not ask for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, cast

from vecbridge import filters
from vecbridge.driver import Key
from vecbridge.errors import ConfigError, CursorExpiredError
from vecbridge.filters import Filter

_VERSION: Final = 1
_DIGEST_BYTES: Final = 8
_PARTS: Final = 6


@dataclass(frozen=True, slots=True)
class CursorScope:
    """What a cursor belongs to.

    Attributes:
        name: Name of the collection.
        identity: Which collection of that name.
        namespace: Which namespace of it.
    """

    name: str
    identity: str
    namespace: str

    def write(self, key: Key, digest: str | None) -> str:
        """A cursor.

        Args:
            key: The driver's.
            digest: Of the scan's filter, as :func:`filter_digest` makes it; None fits any filter.
        """
        state = [_VERSION, self.name, self.identity, self.namespace, digest, key]
        text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode()

    def read(self, cursor: object, digest: str) -> Key:
        """The driver's key of a cursor.

        Args:
            cursor: From ``Page.cursor`` or ``split``.
            digest: Of the filter of the scan that goes on.

        Raises:
            ConfigError: No cursor, or one of another collection, namespace or filter.
            CursorExpiredError: The collection was replaced since.
        """
        version, name, identity, namespace, its_filter, key = _state(cursor)
        if version != _VERSION:
            raise ConfigError(f"the cursor is of another version of vecbridge ({version!r})")
        if name != self.name:
            raise ConfigError(f"the cursor belongs to collection {name!r}, not {self.name!r}")
        if namespace != self.namespace:
            raise ConfigError(f"the cursor belongs to namespace {namespace!r}, not {self.namespace!r}")
        if identity != self.identity:
            raise CursorExpiredError(f"{self.name!r} was replaced since: scan from the start")
        if its_filter not in (None, digest):
            raise ConfigError("the cursor belongs to a scan with another filter: give the same filter again")
        return cast("Key", key)


def filter_digest(filter: Filter | None) -> str:
    """A short hash of a normalized filter; "" without one."""
    if filter is None:
        return ""
    text = json.dumps(filters.to_dict(filter), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _state(cursor: object) -> list[Any]:
    try:
        state = json.loads(base64.b64decode(str(cursor).encode(), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as exc:
        raise ConfigError(f"{str(cursor)[:60]!r} is no cursor: Page.cursor and split() give them") from exc
    if not isinstance(state, list) or len(state) != _PARTS:
        raise ConfigError(f"{str(cursor)[:60]!r} is no cursor of this version of vecbridge")
    return state
