"""Names that every backend takes, for what another program named.

A column keeps its name if that is legal. Of names that are equal but for case, the first keeps its own, and
the others are given ``_2``, ``_3`` and so on at their end. In every other name, each character that is no
letter, digit or ``_`` becomes ``_``; if it does not begin with a letter then, or is one that vecbridge
keeps for itself, ``f_`` is put in front. Where that makes two names the same, nothing is guessed: the user
renames one of them. A collection's name is written in small letters besides, begins with ``c_`` where it
would begin with no letter, and is cut after 41 characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from vecbridge.errors import ConfigError, SchemaError, suggestion
from vecbridge.names import is_field_name
from vecbridge.reserved import FIELDS
from vecbridge.schema import CollectionSpec

_OTHERS: Final = re.compile(r"[^A-Za-z0-9_]")
_LONGEST_COLLECTION: Final = 41


def collection_name(name: str) -> str:
    """A legal name for a collection.

    Example:
        >>> collection_name("My-Photos"), collection_name("2020")
        ('my_photos', 'c_2020')
    """
    legal = _OTHERS.sub("_", name).lower()
    if not legal[:1].isalpha():
        legal = f"c_{legal}"
    return legal[:_LONGEST_COLLECTION]


def column_names(spec: CollectionSpec, rename: Mapping[str, str], drop: Iterable[str]) -> dict[str, str]:
    """The target's name of each column that is kept, by its name at the source; "id" apart.

    Args:
        spec: Of the source.
        rename: What the user wants; taken as it is.
        drop: Columns that are left out.

    Raises:
        ConfigError: A column that there is not, or two that would have one name.
        SchemaError: A name that cannot be.

    Example:
        >>> from vecbridge.schema import CollectionSpec, Field, VectorField
        >>> fields = (Field("Title", "string"), Field("title", "string"), Field("taken-at", "timestamp"))
        >>> spec = CollectionSpec.foreign("photos", (VectorField("vector", 2),), fields, "string")
        >>> column_names(spec, {}, [])
        {'vector': 'vector', 'Title': 'Title', 'title': 'title_2', 'taken-at': 'taken_at'}
    """
    vectors = {vector.name for vector in spec.vectors}
    known, dropped = spec.column_names[1:], set(drop)
    _require_known(known, vectors, rename, dropped)
    kept = [name for name in known if name not in dropped]
    reserved = {each.name for each in spec.fields if each in FIELDS}
    taken: dict[str, str] = {}  # the source's name, by the target's in small letters
    names: dict[str, str] = {}
    for name in kept:
        if (wanted := rename.get(name)) is not None:
            if not _is_legal(wanted, vector=name in vectors):
                raise SchemaError(
                    f"rename: {wanted!r} is no name for a column: a letter, then letters, digits, _"
                )
            names[name] = _take(wanted, name, taken)
    renamed = set(taken)
    later = []
    for name in kept:
        if name in rename:
            continue
        if name in reserved:
            names[name] = _take(name, name, taken)
        elif not _is_legal(name, vector=name in vectors) or name.lower() in taken.keys() - renamed:
            later.append(name)
        else:
            names[name] = _take(name, name, taken)
    for name in later:
        if _is_legal(name, vector=name in vectors):
            names[name] = _take(_numbered(name, taken), name, taken)
        else:
            names[name] = _take(_legal(name, vector=name in vectors), name, taken)
    return {name: names[name] for name in kept}


def _require_known(
    known: Iterable[str], vectors: set[str], rename: Mapping[str, str], dropped: set[str]
) -> None:
    """Refuses columns that there are not, and a target without vectors."""
    for what, names in (("rename", rename), ("drop", dropped)):
        for name in sorted(names):
            if name not in known:
                raise ConfigError(f"{what}: the source has no column {name!r}{suggestion(name, known)}")
    if both := dropped & rename.keys():
        raise ConfigError(f"{min(both)!r} is both renamed and dropped")
    if vectors <= dropped:
        raise ConfigError(f"drop: {', '.join(sorted(vectors))}: at least one vector is needed")


def _take(wanted: str, name: str, taken: dict[str, str]) -> str:
    """Gives a column a name of the target.

    Raises:
        ConfigError: Another one has it.
    """
    if (other := taken.setdefault(wanted.lower(), name)) != name:
        raise ConfigError(
            f"rename: {other!r} and {name!r} would both be {wanted!r} (case does not count): "
            "rename or drop one of them"
        )
    return wanted


def _numbered(name: str, taken: Mapping[str, str]) -> str:
    """The name with the first number that is free."""
    number = 2
    while f"{name}_{number}".lower() in taken:
        number += 1
    return f"{name}_{number}"


def _legal(name: str, *, vector: bool) -> str:
    legal = _OTHERS.sub("_", name)
    return legal if _is_legal(legal, vector=vector) else f"f_{legal}"


def _is_legal(name: str, *, vector: bool) -> bool:
    return is_field_name(name) and (vector or name != "vector")
