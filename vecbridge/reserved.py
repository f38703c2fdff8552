"""Reserved fields: what a row was made from, for ``index --sync``.

``_vb_source`` says which file, ``_vb_digest`` what was in it. For a driver and for a migration they are
columns as any other; :attr:`vecbridge.Collection.spec` and ``include="all"`` leave them out, and
:attr:`vecbridge.Collection.stored_spec` and ``include=["_vb_source"]`` do not. Rows that come without them,
from :meth:`vecbridge.Collection.upsert` say, have null there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vecbridge import names
from vecbridge.schema import CollectionSpec, Field

FIELDS: Final = tuple(Field(name, "string") for name in names.RESERVED)


def is_reserved(field: Field) -> bool:
    """Whether a field is one of those that no user sees."""
    return field.name in names.RESERVED


def public(spec: CollectionSpec) -> CollectionSpec:
    """The spec without its reserved fields.

    Example:
        >>> spec = CollectionSpec.single("photos", dim=512, fields={"year": "int64"})
        >>> tracking(spec).column_names
        ('id', 'vector', 'year', '_vb_source', '_vb_digest')
        >>> public(tracking(spec)) == spec
        True
    """
    fields = tuple(each for each in spec.fields if not is_reserved(each))
    if len(fields) == len(spec.fields):
        return spec
    shown = object.__new__(CollectionSpec)  # one of another program may have names that none is built with
    for name in CollectionSpec.__dataclass_fields__:
        object.__setattr__(shown, name, fields if name == "fields" else getattr(spec, name))
    return shown


def tracking(spec: CollectionSpec) -> CollectionSpec:
    """The spec with the reserved fields at its end."""
    return spec.grown(FIELDS) or spec


def is_tracking(spec: CollectionSpec) -> bool:
    """Whether a spec, as it is stored, has the reserved fields."""
    return set(FIELDS) <= set(spec.fields)


def missing(stored: CollectionSpec) -> tuple[Field, ...]:
    """The reserved fields that a collection lacks."""
    return tuple(each for each in FIELDS if each not in stored.fields)


def without_unasked(stored: CollectionSpec, wanted: Iterable[Field]) -> CollectionSpec:
    """A stored spec without the reserved fields that nobody asked for, to be compared with what was."""
    return stored if any(is_reserved(each) for each in wanted) else public(stored)
