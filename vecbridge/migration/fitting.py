"""The nearest collection that a target can build, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vecbridge.capabilities import Gap
from vecbridge.errors import UnsupportedError
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, IndexParams, Other, describe
from vecbridge.migration.plans import Loss
from vecbridge.schema import CollectionSpec, VectorField
from vecbridge.store import Store

_INDEXES = frozenset({"index", "quantization", "recall while growing"})


def fitted(wanted: CollectionSpec, store: Store) -> tuple[CollectionSpec, list[Gap]]:
    """What the target can build, and every gap but those of indexes, which :func:`index_losses` compares.

    A metric that the target does not have stays in the spec, and is a gap: the plan is made, and refused.

    Args:
        wanted: What would keep everything.
        store: The target; it is connected to, since servers differ.

    Raises:
        UnsupportedError: Nothing near can be built.
    """
    metrics = {vector.name: vector.metric for vector in wanted.vectors}
    found = [gap for gap in store.check(wanted) if gap.kind == "metric"]
    lacking, present = {gap.subject for gap in found}, sorted(store.capabilities.metrics)

    def buildable(vector: VectorField) -> VectorField:
        index = Auto() if isinstance(vector.index, Other) else vector.index
        metric = present[0] if vector.name in lacking and present else vector.metric
        return replace(vector, index=index, metric=metric)

    wanted = replace(wanted, vectors=tuple(map(buildable, wanted.vectors)))
    proposal, given_up = store.capabilities.nearest(wanted)
    proposal, refused = _without_refused(proposal, store)
    found += [*given_up, *refused, *(gap for gap in store.check(proposal) if not gap.blocking)]
    vectors = tuple(replace(each, metric=metrics[each.name]) for each in proposal.vectors)
    return replace(proposal, vectors=vectors), [gap for gap in found if gap.kind not in _INDEXES]


def index_losses(
    source: Iterable[VectorField], target: CollectionSpec, names: Mapping[str, str], *, exists: bool
) -> list[Loss]:
    """Which vectors are not indexed at the target as they are at the source.

    Args:
        source: Vectors of the source.
        target: What the target has, or will have.
        names: The target's name of each column, by the source's.
        exists: Whether the target is there already.
    """
    built = {vector.name: vector.index for vector in target.vectors}
    losses = []
    for vector in source:
        old, new = vector.index, built.get(names.get(vector.name, ""))
        if new is None or new == old:
            continue
        if exists:
            detail = f"the target exists with {describe(new)}, and the source has {describe(old)}"
        elif isinstance(old, Other):
            detail = f"{describe(old)} is none of vecbridge's indexes; the target gets {describe(new)}"
        else:
            detail = f"the target does not build {describe(old)}; it gets {describe(new)}"
        losses += [Loss(kind, vector.name, detail) for kind in _changes(old, new)]
    return losses


def _without_refused(spec: CollectionSpec, store: Store) -> tuple[CollectionSpec, list[Gap]]:
    """The spec without the columns that the driver does not take, such as names that are too long."""
    refused = [gap for gap in store.check(spec) if gap.blocking]
    columns = {
        gap.subject for gap in refused if gap.kind in (f"field:{gap.subject}", f"vector:{gap.subject}")
    }
    vectors = [each for each in spec.vectors if each.name not in columns]
    if vectors:
        fields = tuple(each for each in spec.fields if each.name not in columns)
        spec = replace(spec, vectors=tuple(vectors), fields=fields)
    if blocking := [gap for gap in store.check(spec) if gap.blocking]:
        backend, gap = store.capabilities.backend, blocking[0]
        raise UnsupportedError(backend, f"{gap.kind} of {gap.subject!r}", gap.detail)
    return spec, [replace(gap, detail=f"{gap.detail}; under another name it may be kept") for gap in refused]


def _changes(old: IndexParams, new: IndexParams) -> list[str]:
    """The kinds of losses that another index is."""
    if isinstance(old, HNSW) and isinstance(new, HNSW) and replace(old, quantizer=new.quantizer) == new:
        return ["quantization"]
    return ["index"] if _quantizer(old) == _quantizer(new) else ["index", "quantization"]


def _quantizer(index: IndexParams) -> str | None:
    """How an index compresses vectors; None if it does not, or nobody knows."""
    if isinstance(index, HNSW):
        return index.quantizer
    return {IVFSQ8: "sq", IVFPQ: "pq", SCANN: "pq", DISKANN: "pq"}.get(type(index))
