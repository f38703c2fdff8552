"""Where ``index`` and ``load`` write: a collection that is there, if it agrees, or a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import CollectionExistsError, ConfigError, SchemaError

if TYPE_CHECKING:
    from vecbridge.indexes import IndexParams
    from vecbridge.schema import CollectionSpec, VectorField
    from vecbridge.store import Collection, Store
    from vecbridge.urls import StoreURL

NEW_PANEL: Final = "A new collection"
IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="KIND",
        help="auto, flat, hnsw, ivf_flat, ivf_sq8 or ivf_pq, with parameters as in "
        '"hnsw(m=16, ef_construction=200)".',
        rich_help_panel=NEW_PANEL,
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="NAME", help="cosine (without it), dot or l2.", rich_help_panel=NEW_PANEL
    ),
]


def parse_index(text: str) -> IndexParams:
    """Reads ``hnsw(m=16, ef_construction=200)``.

    Raises:
        ConfigError: No such index, or parameters that it does not have.

    Example:
        >>> parse_index("hnsw(m=8)")
        HNSW(m=8, ef_construction=200, quantizer=None, ef=None)
    """
    from vecbridge.indexes import from_dict
    from vecbridge.schema import suggestion

    found = re.fullmatch(r"\s*([A-Za-z_0-9]+)\s*(?:\((.*)\))?\s*", text)
    if found is None:
        raise ConfigError(f"--index {text!r}: as in hnsw or hnsw(m=16, ef_construction=200)")
    values: dict[str, Any] = {"kind": found[1].lower()}
    for part in (found[2] or "").split(","):
        if not part.strip():
            continue
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not name or name == "kind" or name in values:
            raise ConfigError(f"--index {text!r}: {part.strip()!r} is not name=value, once each")
        values[name] = _value(value)
    try:
        default = from_dict({"kind": values["kind"]})
        known = {each.name for each in fields(default)}
        for name in values.keys() - known - {"kind"}:
            raise SchemaError(f"{default.kind} has no {name!r}{suggestion(name, sorted(known))}")
        return from_dict(values)
    except SchemaError as exc:
        raise ConfigError(f"--index {text!r}: {exc}") from None


def open_target(
    store: Store,
    spec: CollectionSpec,
    *,
    namespace: str,
    index: str | None,
    metric: str | None,
    way_out: str = "name another collection after #",
) -> tuple[Collection, bool]:
    """Opens the collection if it takes such records, or builds it.

    An index or metric that nobody asked for is the collection's own; a field of the collection that the
    records lack is null.

    Args:
        store: Where.
        spec: What the records need.
        namespace: Which namespace to write to.
        index: What ``--index`` says.
        metric: What ``--metric`` says.
        way_out: What to do where the collection does not take such records.

    Returns:
        The collection, and whether it is new.

    Raises:
        EmbedderMismatchError: The collection holds another model's vectors.
        CollectionExistsError: It differs in something else; every difference is listed.
    """
    if spec.name not in store.collections():
        return store.create(spec, namespace=namespace), True
    collection = store.open(spec.name, namespace=namespace)
    try:
        found = _differences(collection.spec, spec, index=index is not None, metric=metric is not None)
        if found:
            reasons = "; ".join(found)
            raise CollectionExistsError(
                f"collection {spec.name!r} is there and does not take these records: {reasons}: {way_out}"
            )
    except BaseException:
        collection.close()
        raise
    return collection, False


def say_target(url: StoreURL, spec: CollectionSpec, *, new: bool) -> None:
    """Tells where the records go, and what kind of collection that is."""
    from vecbridge.cli.inspect import describe_index

    vector = spec.vector
    state = "New collection" if new else "Collection"
    output.note(f"{state}: {url} ({vector.dim} dimensions, {vector.metric}, {describe_index(vector.index)}).")


def _differences(existing: CollectionSpec, wanted: CollectionSpec, *, index: bool, metric: bool) -> list[str]:
    """What keeps the records out of the collection; another model raises."""
    from vecbridge.records import require_same_embedder
    from vecbridge.schema import differences

    own = {each.name: each for each in existing.vectors}
    found: list[str] = []
    vectors: list[VectorField] = []
    for each in wanted.vectors:
        stands = own.get(each.name)
        if stands is not None:
            require_same_embedder(stands, each.embedder)
            found += _vector_differences(stands, each, index=index, metric=metric)
        vectors.append(stands or each)
    kept = {each.name for each in wanted.fields}
    columns = (*wanted.fields, *(each for each in existing.fields if each.name not in kept))
    asked = replace(wanted, vectors=tuple(vectors), fields=columns, namespaced=existing.namespaced)
    return found + differences(existing, asked)


def _vector_differences(
    existing: VectorField, wanted: VectorField, *, index: bool, metric: bool
) -> Iterator[str]:
    from vecbridge.cli.inspect import describe_index

    if existing.dim != wanted.dim:
        yield f"{existing.name!r} has {existing.dim} dimensions, not {wanted.dim}"
    if metric and existing.metric != wanted.metric:
        yield f"the metric of {existing.name!r} is {existing.metric}, not {wanted.metric}"
    if index and existing.index != wanted.index:
        built, asked = describe_index(existing.index), describe_index(wanted.index)
        yield f"the index of {existing.name!r} is {built}, not {asked}"


def _value(text: str) -> Any:
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if text.lower() in ("none", "null"):
        return None
    return text.strip("'\"")
