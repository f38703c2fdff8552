"""The spec of a collection, kept in the tags of its index.

One tag, ``vecbridge``, is ``<version>-<pieces>-<token>``, and so many others are the pieces of the spec. From
version 2 on records have a copy of their id among their metadata. Fields are added by writing all these tags
again, in one request: the token stays, and so does the version, since the records do.

Tags belong to the control plane: no search, count, scan or list of namespaces shows them, and they are there
before the first record. One holds up to 120 characters of a small alphabet, so that the spec is compressed,
written in base64url and cut into pieces.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from vecbridge.driver import Identity
from vecbridge.errors import CorruptStoreError, SchemaError, UnsupportedError
from vecbridge.schema import CollectionSpec

MOST: Final = 19  # tags that a spec may take: an index has 20, and one holds the token
ALL: Final = 20
_LENGTH: Final = 120
_PREFIX: Final = "vecbridge-spec-"
_TOKEN: Final = "vecbridge"
_VERSIONS: Final = ("1", "2")


class Stored(NamedTuple):
    """What the tags of an index say: the version of its records, the token, the spec."""

    version: str
    token: str
    spec: CollectionSpec

    @property
    def copies_ids(self) -> bool:
        """Whether records have a copy of their id among their metadata."""
        return self.version != "1"


def chunks(spec: CollectionSpec) -> list[str]:
    """The spec in pieces that fit a tag each."""
    text = base64.urlsafe_b64encode(zlib.compress(spec.to_json().encode(), 9)).decode().rstrip("=")
    return [text[start : start + _LENGTH] for start in range(0, len(text), _LENGTH)]


def of_spec(spec: CollectionSpec, token: str, version: str = _VERSIONS[-1]) -> dict[str, str]:
    """The tags of an index.

    Args:
        spec: What it holds.
        token: What no other index has.
        version: Of its records.
    """
    pieces = chunks(spec)
    named = {f"{_PREFIX}{number:02}": piece for number, piece in enumerate(pieces)}
    return {_TOKEN: f"{version}-{len(pieces)}-{token}"} | named


def changed(tags: Mapping[str, str], spec: CollectionSpec) -> dict[str, str]:
    """The tags to set so that an index has another spec; an empty one is to be removed.

    Args:
        tags: All of its tags.
        spec: What it is to hold.

    Raises:
        UnsupportedError: It has too many others.
    """
    require_room(spec, [name for name in tags if not is_reserved(name)])
    stored = read(spec.name, tags)
    removed = {name: "" for name in tags if is_reserved(name)}
    return removed | of_spec(spec, stored.token, stored.version)


def require_room(spec: CollectionSpec, others: Collection[str]) -> None:
    """Refuses a spec that an index cannot have beside other tags."""
    taken = 1 + len(chunks(spec))
    if taken + len(others) > ALL:
        hint = f"an index has {ALL}, and the spec takes {taken} of them"
        raise UnsupportedError("pinecone", f"{len(others)} tags", hint)


def is_ours(tags: Mapping[str, str]) -> bool:
    """Whether vecbridge made the index."""
    return _TOKEN in tags


def is_reserved(name: str) -> bool:
    """Whether a tag is one of vecbridge's."""
    return name == _TOKEN or name.startswith(_PREFIX)


def identity(index: Any) -> Identity:
    """Which index of its name it is.

    An index that vecbridge did not make has neither a number nor a time of creation, and the service may give
    its successor the same host.

    Args:
        index: As the client describes it.
    """
    if is_ours(index.tags or {}):
        stored = read(index.name, index.tags)
        return Identity(stored.token, schema=len(stored.spec.fields))
    return Identity(f"{index.host} {index.dimension} {index.metric}", certain=False)


def read(name: str, tags: Mapping[str, str]) -> Stored:
    """What the tags of an index say that vecbridge made.

    Raises:
        CorruptStoreError: Somebody changed its tags, or a later version wrote them.
    """
    try:
        version, count, token = tags[_TOKEN].split("-", 2)
        if version not in _VERSIONS:
            raise CorruptStoreError(f"{name!r} was made by a later version of vecbridge")
        text = "".join(tags[f"{_PREFIX}{number:02}"] for number in range(int(count)))
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return Stored(version, token, CollectionSpec.from_json(zlib.decompress(packed).decode()))
    except (KeyError, ValueError, binascii.Error, zlib.error, SchemaError) as exc:
        raise CorruptStoreError(f"{name!r}: the spec in the tags of its index is damaged: {exc}") from exc
