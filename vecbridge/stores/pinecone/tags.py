"""The spec of a collection, kept in the tags of its index.

Tags belong to the control plane: no search, count, scan or list of namespaces shows them, and they are there
before the first record. One holds up to 120 characters of a small alphabet, so that the spec is compressed,
written in base64url and cut into pieces.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, Final

from vecbridge.driver import Identity
from vecbridge.errors import CorruptStoreError, SchemaError
from vecbridge.schema import CollectionSpec

MOST: Final = 19  # tags that a spec may take: an index has 20, and one holds the token
ALL: Final = 20
_LENGTH: Final = 120
_PREFIX: Final = "vecbridge-spec-"
_TOKEN: Final = "vecbridge"


def chunks(spec: CollectionSpec) -> list[str]:
    """The spec in pieces that fit a tag each."""
    text = base64.urlsafe_b64encode(zlib.compress(spec.to_json().encode(), 9)).decode().rstrip("=")
    return [text[start : start + _LENGTH] for start in range(0, len(text), _LENGTH)]


def of_spec(spec: CollectionSpec, token: str) -> dict[str, str]:
    """The tags of a new index: the spec, and a token that no other index has."""
    pieces = chunks(spec)
    named = {f"{_PREFIX}{number:02}": piece for number, piece in enumerate(pieces)}
    return {_TOKEN: f"1-{len(pieces)}-{token}"} | named


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
    if _TOKEN in (known := index.tags or {}):
        return Identity(known[_TOKEN].split("-", 2)[-1])
    return Identity(f"{index.host} {index.dimension} {index.metric}", certain=False)


def read(name: str, tags: Mapping[str, str]) -> CollectionSpec:
    """The spec of an index that vecbridge made.

    Raises:
        CorruptStoreError: Somebody changed its tags, or a later version wrote them.
    """
    try:
        version, count, _ = tags[_TOKEN].split("-", 2)
        if version != "1":
            raise CorruptStoreError(f"{name!r} was made by a later version of vecbridge")
        text = "".join(tags[f"{_PREFIX}{number:02}"] for number in range(int(count)))
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return CollectionSpec.from_json(zlib.decompress(packed).decode())
    except (KeyError, ValueError, binascii.Error, zlib.error, SchemaError) as exc:
        raise CorruptStoreError(f"{name!r}: the spec in the tags of its index is damaged: {exc}") from exc
