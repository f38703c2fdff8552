"""Compares what the target is with what the plan says, before any row is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.identity import EmbedderIdentity, embedder_differences, same_embedder
from vecbridge.indexes import HNSW, Auto, IndexParams, describe
from vecbridge.migration.plans import Column, NamespacePlan, Plan
from vecbridge.migration.proof import Finding
from vecbridge.migration.sides import Side
from vecbridge.names import RESERVED
from vecbridge.query import Status
from vecbridge.reserved import is_reserved
from vecbridge.schema import CollectionSpec, VectorField

_UNFINISHED: Final = "it is still being built; wait_ready() waits for it, and starts what nobody has started"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the schemas of both sides say.

    Attributes:
        plan: The plan with the columns alone that can be compared; None if the ids cannot.
        findings: What differs.
        notes: What differs, and may.
        searchable: Vector fields whose searches can be compared.
    """

    plan: Plan | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    searchable: tuple[str, ...]


def derived_plan(source: Side, target: Side) -> Plan:
    """The plan that leaves everything as it is, from the two specs that are stored.

    A source without a schema is laid out by the columns of the target.
    """
    opened, made = source.collection(source.namespace or ""), target.collection(target.namespace or "")
    source_spec, extra = opened.stored_spec, None
    has_json = any(field.name == opened.extra and field.type == "json" for field in made.stored_spec.fields)
    if opened.extra is not None and has_json:
        extra = opened.extra
        source_spec = CollectionSpec.foreign(
            source_spec.name, source_spec.vectors, made.stored_spec.fields, source_spec.id_type,
            namespaced=source_spec.namespaced,
        )  # fmt: skip
    spec = CollectionSpec.foreign(
        target.name, source_spec.vectors, source_spec.fields, source_spec.id_type,
        namespaced=source_spec.namespaced,
    )  # fmt: skip
    namespaces = [
        NamespacePlan(each, each if target.namespace is None else target.namespace)
        for each in source.namespaces()
    ]
    return Plan(
        source.url, target.url, source_spec, opened.identity, spec,
        tuple(Column(name, name) for name in spec.column_names[1:]), extra, tuple(namespaces),
        source.namespace, target.namespace,
    )  # fmt: skip


def agreement(plan: Plan, target: CollectionSpec, *, derived: bool) -> Agreement:
    """Compares the spec of the target with the plan's.

    Args:
        plan: What the target should be.
        target: What it is.
        derived: Whether the plan leaves everything as it is because none was given: then another index is
            no fault.
    """
    findings = list(_id_findings(plan, target))
    notes: list[str] = []
    there = {each.name: each for each in target.vectors}
    kept: list[Any] = []
    for vector in plan.spec.vectors:
        found = list(_vector_findings(vector, there.get(vector.name)))
        findings += found
        if not {each.kind for each in found} & {"dim", f"vector:{vector.name} missing"}:
            kept.append(vector)
            findings += [] if derived else _index_findings(vector, there[vector.name])
            if derived and not _same_index(vector.index, there[vector.name].index):
                notes.append(f"{vector.name!r} has the index {there[vector.name].index} at the target")
    planned = {each.name for each in plan.spec.vectors}
    findings += [
        Finding(f"vector:{name} extra", "the plan has no such vector", column=name)
        for name in there
        if name not in planned
    ]
    types = {field.name: field.type for field in target.fields}
    for field in plan.spec.fields:
        if (type := types.pop(field.name, None)) == field.type:
            kept.append(field)
        elif type is None and derived and is_reserved(field):
            continue  # index --sync had no business there
        elif type is None:
            findings.append(
                Finding(f"field:{field.name} missing", "the target has no such field", column=field.name)
            )
        else:
            detail = f"it is {type} at the target, and should be {field.type}"
            findings.append(Finding(f"field:{field.name} type", detail, column=field.name))
    findings += [
        Finding(f"field:{name} extra", "the plan has no such field", column=name)
        for name in types
        if name not in RESERVED
    ]
    comparable = None
    if target.id_type == plan.spec.id_type:
        comparable = _restricted(plan, kept)
    bad = {each.column for each in findings if each.kind in ("metric", "dim")}
    searchable = tuple(each.name for each in kept if isinstance(each, VectorField) and each.name not in bad)
    return Agreement(comparable, tuple(findings), tuple(notes), searchable)


def built_findings(spec: CollectionSpec, namespace: str, status: Status) -> Iterator[Finding]:
    """What the indexes of the target are, where they are not what its spec declares.

    Args:
        spec: Of the target.
        namespace: Whose status it is.
        status: What the server says of its indexes.
    """
    for field in spec.vectors:
        state = status.indexes.get(field.name, "ready")
        found = status.built.get(field.name)
        if found is not None and not _same_index(field.index, found):
            detail = f"the server has {describe(found)}, and {describe(field.index)} is declared"
            yield Finding("index", detail, namespace, column=field.name)
        elif state == "building":
            yield Finding("index", _UNFINISHED, namespace, column=field.name)
        elif state != "ready" and not state.startswith("exact"):
            yield Finding("index", state, namespace, column=field.name)


def is_unfinished(finding: Finding) -> bool:
    """Whether a finding of :func:`built_findings` is no more than an index that is still being built."""
    return finding.kind == "index" and finding.detail == _UNFINISHED


def require_level(level: str, source: Side, target: Side) -> None:
    """Refuses a level that one of the sides cannot do.

    Raises:
        ConfigError: Names the side.
    """
    if level not in ("content", "search"):
        return
    for what, side in (("source", source), ("target", target)):
        if not side.collection(side.namespace or "").capabilities.lossless_vectors:
            backend = side.store.capabilities.backend
            raise ConfigError(
                f"level={level!r}: the {what}, {backend}, does not give vectors back bit by bit; "
                f"level='ids' can be verified"
            )


def _id_findings(plan: Plan, target: CollectionSpec) -> Iterator[Finding]:
    if target.id_type != plan.spec.id_type:
        detail = f"ids are {target.id_type} at the target, and should be {plan.spec.id_type}"
        yield Finding("id_type", detail, column="id")
    if plan.spec.namespaced and not target.namespaced:
        yield Finding("namespace", "the target has no namespaces, and the source has")


def _vector_findings(planned: VectorField, found: VectorField | None) -> Iterator[Finding]:
    name = planned.name
    if found is None:
        yield Finding(f"vector:{name} missing", "the target has no such vector", column=name)
        return
    if found.metric is not planned.metric:
        detail = f"it is {found.metric} at the target, and should be {planned.metric}"
        yield Finding("metric", detail, column=name)
    if found.dim != planned.dim:
        detail = f"it has {found.dim} dimensions at the target, and should have {planned.dim}"
        yield Finding("dim", detail, column=name)
    yield from _embedder_findings(name, planned.embedder, found.embedder)


def _embedder_findings(
    name: str, planned: EmbedderIdentity | None, found: EmbedderIdentity | None
) -> Iterator[Finding]:
    if planned is None or (found is not None and same_embedder(planned, found)):
        return
    model = f"the model is {planned.model} {planned.revision}"
    if found is None:
        detail = f"{model}; the target says none"
    else:
        changed = " and ".join(embedder_differences(planned, found))
        detail = f"{model}; the target says {found.model} {found.revision}, another {changed}"
    yield Finding("embedder", detail, column=name)


def _index_findings(planned: VectorField, found: VectorField) -> list[Finding]:
    if _same_index(planned.index, found.index):
        return []
    detail = f"it is {found.index} at the target, and should be {planned.index}"
    return [Finding("index", detail, column=planned.name)]


def _same_index(declared: IndexParams, found: IndexParams) -> bool:
    """Whether an index is what was declared: Auto may be any; a stored ``ef`` is no part of the graph."""
    if isinstance(declared, Auto) or isinstance(found, Auto):
        return True
    if isinstance(declared, HNSW) and isinstance(found, HNSW):
        return replace(declared, ef=None) == replace(found, ef=None)
    return declared == found


def _restricted(plan: Plan, kept: list[Any]) -> Plan:
    """The plan with some of its columns alone."""
    names = {each.name for each in kept}
    if names == set(plan.spec.column_names[1:]):
        return plan
    try:
        spec = CollectionSpec.foreign(
            plan.spec.name,
            tuple(each for each in plan.spec.vectors if each.name in names),
            tuple(each for each in plan.spec.fields if each.name in names),
            plan.spec.id_type,
            namespaced=plan.spec.namespaced,
        )
    except SchemaError as exc:
        raise ConfigError(f"the plan cannot be compared with the target: {exc}") from exc
    return replace(plan, spec=spec, columns=tuple(each for each in plan.columns if each.name in names))
