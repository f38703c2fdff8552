"""Where ``index`` and ``load`` write: a collection that is there, if it agrees, or a new one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import CollectionExistsError, ConfigError, EmbedderMismatchError, SchemaError

if TYPE_CHECKING:
    from vecbridge.indexes import IndexParams
    from vecbridge.schema import CollectionSpec
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
        return from_dict(values)
    except SchemaError as exc:
        raise ConfigError(f"--index {text!r}: {exc}") from None


def open_target(
    store: Store, spec: CollectionSpec, *, namespace: str, index: str | None, metric: str | None
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
        _require_fit(collection.spec, spec, index=index is not None, metric=metric is not None)
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


def _require_fit(existing: CollectionSpec, wanted: CollectionSpec, *, index: bool, metric: bool) -> None:
    from vecbridge.records import require_same_embedder
    from vecbridge.schema import differences

    own = {each.name: each for each in existing.vectors}
    vectors = []
    for each in wanted.vectors:
        if each.name in own:
            _same_model(require_same_embedder, own[each.name], each.embedder)
            each = replace(
                each,
                index=each.index if index else own[each.name].index,
                metric=each.metric if metric else own[each.name].metric,
            )
        vectors.append(each)
    kept = {each.name for each in wanted.fields}
    fields = (*wanted.fields, *(each for each in existing.fields if each.name not in kept))
    asked = replace(wanted, vectors=tuple(vectors), fields=fields, namespaced=existing.namespaced)
    found = differences(existing, asked)
    if found:
        raise CollectionExistsError(
            f"collection {existing.name!r} is there and does not take these records: {'; '.join(found)}"
        )


def _same_model(require: Any, field: Any, identity: Any) -> None:
    try:
        require(field, identity)
    except EmbedderMismatchError as exc:
        raise EmbedderMismatchError(
            f"{exc}. Leave --model out to use {field.embedder.model}, or name another collection after #"
        ) from None


def _value(text: str) -> Any:
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if text.lower() in ("none", "null"):
        return None
    return text.strip("'\"")
