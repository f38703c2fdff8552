"""Whether the collection that exists is the one that a spec asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vecbridge.errors import CollectionExistsError
from vecbridge.identity import same_embedder
from vecbridge.reserved import without_unasked
from vecbridge.schema import CollectionSpec


def differences(existing: CollectionSpec, wanted: CollectionSpec) -> list[str]:
    """What two specs disagree about, a sentence each.

    An unknown embedder disagrees with nothing, nor do reserved fields of what exists that were not asked for.
    """
    existing = without_unasked(existing, wanted.fields)
    found: list[str] = []
    if existing.id_type != wanted.id_type:
        found.append(f"id_type is {existing.id_type}, not {wanted.id_type}")
    if existing.namespaced != wanted.namespaced:
        found.append(f"namespaced is {existing.namespaced}, not {wanted.namespaced}")
    found += _set_differences("field", _by_name(existing.fields), _by_name(wanted.fields))
    mine, theirs = _by_name(existing.vectors), _by_name(wanted.vectors)
    for name in mine.keys() & theirs.keys():
        stored, asked = mine[name].embedder, theirs[name].embedder
        if stored is None or asked is None or same_embedder(stored, asked):
            mine[name], theirs[name] = (
                replace(mine[name], embedder=None),
                replace(theirs[name], embedder=None),
            )
    return found + _set_differences("vector", mine, theirs)


def require_agreement(
    existing: CollectionSpec, wanted: CollectionSpec, *, other_fields: bool = False
) -> None:
    """Lets ``create(spec, if_exists="open")`` open only what it would have built.

    Args:
        existing: What there is.
        wanted: What was asked for.
        other_fields: Whether each may have fields that the other has not.

    Raises:
        CollectionExistsError: Lists every difference.
    """
    if other_fields:
        shared = {field.name for field in existing.fields} & {field.name for field in wanted.fields}
        existing, wanted = _only(existing, shared), _only(wanted, shared)
    found = differences(existing, wanted)
    if found:
        raise CollectionExistsError(f"collection {existing.name!r} exists and differs: {'; '.join(found)}")


def _only(spec: CollectionSpec, names: set[str]) -> CollectionSpec:
    return replace(spec, fields=tuple(field for field in spec.fields if field.name in names))


def _by_name(fields: Sequence[Any]) -> dict[str, Any]:
    return {each.name: each for each in fields}


def _set_differences(what: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    found = [f"{what} {name!r} is missing from the spec" for name in mine if name not in theirs]
    found += [f"{what} {name!r} is not in the collection" for name in theirs if name not in mine]
    for name, value in mine.items():
        if name in theirs and value != theirs[name]:
            found.append(f"{what} {name!r} is {value}, not {theirs[name]}")
    return found
