"""The collection that ``index`` and ``load`` write to: an existing one that fits, or a new one to be made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import CollectionExistsError, ConfigError, SchemaError

if TYPE_CHECKING:
    from vecbridge.bulk import ExistingCollection, NewCollection
    from vecbridge.indexes import IndexParams
    from vecbridge.schema import CollectionSpec, VectorField
    from vecbridge.store import Store
    from vecbridge.urls import StoreURL

NEW_PANEL: Final = "A new collection"
IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="KIND",
        help="auto, flat, hnsw, ivf_flat, ivf_sq8, ivf_pq, scann or diskann, with parameters as in "
        '"hnsw(m=16, ef_construction=200)".',
        rich_help_panel=NEW_PANEL,
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="NAME", help="cosine (the default), dot or l2.", rich_help_panel=NEW_PANEL
    ),
]


def parse_index(text: str) -> IndexParams:
    """Reads ``hnsw(m=16, ef_construction=200)``.

    Raises:
        ConfigError: No such index, or no such parameter of it.

    Example:
        >>> parse_index("hnsw(m=8)")
        HNSW(m=8, ef_construction=200, quantizer=None, ef=None)
    """
    from vecbridge.errors import suggestion
    from vecbridge.indexes import from_dict

    match = re.fullmatch(r"\s*([A-Za-z_0-9]+)\s*(?:\((.*)\))?\s*", text)
    if match is None:
        raise ConfigError(f"--index {text!r}: as in hnsw or hnsw(m=16, ef_construction=200)")
    values: dict[str, Any] = {"kind": match[1].lower()}
    for part in (match[2] or "").split(","):
        if not part.strip():
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or name == "kind" or name in values:
            raise ConfigError(
                f"--index {text!r}: {part.strip()!r} is not name=value, or the name comes twice"
            )
        values[name] = _value(value)
    try:
        default = from_dict({"kind": values["kind"]})
        known = {parameter.name for parameter in fields(default)}
        for name in values.keys() - known - {"kind"}:
            raise SchemaError(f"{default.kind} has no {name!r}{suggestion(name, sorted(known))}")
        return from_dict(values)
    except SchemaError as exc:
        raise ConfigError(f"--index {text!r}: {exc}") from None


def existing_spec(store: Store, url: StoreURL) -> CollectionSpec | None:
    """The spec of the collection that a URL names; None if it does not exist."""
    if url.collection not in store.collections():
        return None
    with store.open(url.collection, namespace=url.namespace or "") as collection:
        return collection.spec


def choose_target(
    store: Store,
    spec: CollectionSpec,
    *,
    namespace: str,
    index: str | None,
    metric: str | None,
    grow: bool = False,
    track: bool = False,
    remedy: str = "name another collection after #",
) -> ExistingCollection | NewCollection:
    """Opens the collection if the records fit it; if it does not exist, it is made with its first record.

    Index and metric are compared only if an option names them. A field of the collection that the records
    lack becomes null.

    Args:
        store: The store of the collection.
        spec: A spec that fits the records.
        namespace: The namespace to write to.
        index: Value of ``--index``.
        metric: Value of ``--metric``.
        grow: Add the fields that an existing collection lacks, before its first record is written.
        track: Add the reserved fields, if the spec has them and an existing collection lacks them.
        remedy: The end of the error message: what to do if the records do not fit.

    Raises:
        EmbedderMismatchError: The collection holds vectors of another model.
        CollectionExistsError: The collection differs in something else; every difference is listed.
        UnsupportedError: The store cannot build it.
    """
    from vecbridge import reserved
    from vecbridge.bulk import ExistingCollection, NewCollection

    if spec.name not in store.collections():
        return NewCollection(store, spec, namespace)
    collection = store.open(spec.name, namespace=namespace)
    lacking = reserved.missing(collection.stored_spec) if track and reserved.is_tracking(spec) else ()
    spec = reserved.public(spec)
    try:
        known = set(collection.spec.column_names)
        new = tuple(field for field in spec.fields if field.name not in known) if grow else ()
        shared = replace(spec, fields=tuple(field for field in spec.fields if field not in new))
        reasons = _differences(collection.spec, shared, index=index is not None, metric=metric is not None)
        if reasons:
            raise CollectionExistsError(
                f"collection {spec.name!r} exists and does not take these records: "
                f"{'; '.join(reasons)}: {remedy}"
            )
        return ExistingCollection(collection, (*new, *lacking))
    except BaseException:
        collection.close()
        raise


def report_target(url: StoreURL, target: ExistingCollection | NewCollection) -> None:
    """Prints which collection is written to, and its dimension, metric and index."""
    from vecbridge.indexes import describe

    vector = target.spec.vector
    state = "New collection" if target.collection is None else "Collection"
    output.note(f"{state}: {url} ({vector.dim} dimensions, {vector.metric}, {describe(vector.index)}).")


def _differences(existing: CollectionSpec, wanted: CollectionSpec, *, index: bool, metric: bool) -> list[str]:
    """Why the records do not fit the collection, a sentence each.

    Raises:
        EmbedderMismatchError: The vectors are of another model.
    """
    from vecbridge.agreement import differences
    from vecbridge.records import require_same_embedder

    existing_vectors = {vector.name: vector for vector in existing.vectors}
    reasons: list[str] = []
    vectors: list[VectorField] = []
    for vector in wanted.vectors:
        stored = existing_vectors.get(vector.name)
        if stored is not None:
            require_same_embedder(stored, vector.embedder)
            reasons += _vector_differences(stored, vector, index=index, metric=metric)
        vectors.append(stored or vector)
    names = {field.name for field in wanted.fields}
    columns = (*wanted.fields, *(field for field in existing.fields if field.name not in names))
    comparable = replace(wanted, vectors=tuple(vectors), fields=columns, namespaced=existing.namespaced)
    return reasons + differences(existing, comparable)


def _vector_differences(
    existing: VectorField, wanted: VectorField, *, index: bool, metric: bool
) -> Iterator[str]:
    from vecbridge.indexes import describe

    if existing.dim != wanted.dim:
        yield f"{existing.name!r} has {existing.dim} dimensions, not {wanted.dim}"
    if metric and existing.metric != wanted.metric:
        yield f"the metric of {existing.name!r} is {existing.metric}, not {wanted.metric}"
    if index and existing.index != wanted.index:
        stored, asked = describe(existing.index), describe(wanted.index)
        yield f"the index of {existing.name!r} is {stored}, not {asked}"


def _value(text: str) -> Any:
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if text.lower() in ("none", "null"):
        return None
    return text.strip("'\"")
