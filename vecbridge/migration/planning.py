"""Makes plans: looks at both sides, changes neither."""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vecbridge import agreement, filters
from vecbridge.errors import ConfigError, SchemaError
from vecbridge.filters import AnyFilter
from vecbridge.migration import fitting, losses, naming, sizing
from vecbridge.migration.conversion import keeps_apart, parse_template
from vecbridge.migration.plans import Column, Loss, NamespacePlan, Plan
from vecbridge.migration.sides import Side
from vecbridge.reserved import missing, without_unasked
from vecbridge.schema import CollectionSpec, Field
from vecbridge.store import Collection
from vecbridge.urls import StoreURL


@dataclass(frozen=True, slots=True)
class Transform:
    """What is changed on the way, as the user asks.

    Attributes:
        rename: New names of columns, by their names at the source.
        drop: Columns that are left out.
        filter: Only rows that match, as JSON; None is all.
        id_template: How ids are built, such as "{namespace}/{id}"; None leaves them.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    drop: Names[str] = ()
    filter: Mapping[str, Any] | None = None
    id_template: str | None = None

    @classmethod
    def of(
        cls,
        rename: Mapping[str, str] | None,
        drop: Names[str],
        filter: AnyFilter | None,
        id_template: str | None,
    ) -> Transform:
        """From the arguments of :func:`vecbridge.plan` and :func:`vecbridge.migrate`.

        Raises:
            ConfigError: Something of another type, or a template that cannot be one.
            SchemaError: No filter.
        """
        if rename is not None and not _is_renaming(rename):
            raise ConfigError(f"rename={rename!r}: new names by the old ones, as in {{'year': 'made'}}")
        dropped = (drop,) if isinstance(drop, str) else tuple(drop)
        if not all(isinstance(name, str) for name in dropped):
            raise ConfigError(f"drop={drop!r}: names of columns")
        if id_template is not None:
            parse_template(id_template)
        condition = None
        if filter is not None:
            parsed = filters.from_dict(filter) if isinstance(filter, Mapping) else filter
            condition = filters.to_dict(parsed)
        return cls(dict(rename or {}), dropped, condition, id_template)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for the header of a journal; nothing where nothing is changed."""
        values = {
            "rename": dict(self.rename),
            "drop": list(self.drop),
            "filter": self.filter,
            "id_template": self.id_template,
        }
        return {name: value for name, value in values.items() if value}


def _is_renaming(rename: object) -> bool:
    return isinstance(rename, Mapping) and all(
        isinstance(name, str) and isinstance(new, str) for name, new in rename.items()
    )


def plan(
    source: str | StoreURL,
    target: str | StoreURL,
    *,
    rename: Mapping[str, str] | None = None,
    drop: Names[str] = (),
    filter: AnyFilter | None = None,
    id_template: str | None = None,
    scan: bool = False,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> Plan:
    """Says what a migration would do, lose and cost; nothing is written.

    Args:
        source: URL of a collection; with ``?namespace=`` that one alone is copied.
        target: URL of the collection to make; with ``?namespace=`` all rows go there.
        rename: New names of columns, by their names at the source.
        drop: Columns that are left out.
        filter: Only rows that match.
        id_template: How ids are built, such as "{namespace}/{id}"; all namespaces go to one then.
        scan: Look at every row and count those that the target cannot keep, and not at a sample.
        source_options: Of the source's store, such as keys and passwords.
        target_options: Of the target's.

    Returns:
        The plan; ``migrate``, ``verify`` and ``sync`` take it.

    Raises:
        NotFoundError: The source does not exist.
        ConfigError: A column that there is not, two of one name, or namespaces that would be mixed.
        SchemaError: The target exists and differs.
        UnsupportedError: The target cannot keep such a collection at all.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory:///shop") as store:
        ...     spec = vb.CollectionSpec.single("items", dim=2, fields={"year": "int64"})
        ...     items = store.create(spec, if_exists="replace")
        ...     vb.plan("memory:///shop#items", "memory:///new#goods", rename={"year": "made"}).renamed
        {'year': 'made'}
    """
    transform = Transform.of(rename, drop, filter, id_template)
    with Side(source, source_options) as from_side:
        name = naming.collection_name(from_side.name)
        with Side(target, target_options, name=name) as to_side:
            return build(from_side, to_side, transform, scan=scan)


def build(
    source: Side, target: Side, transform: Transform = Transform(), *, scan: bool = False, sized: bool = True
) -> Plan:
    """The plan of a migration; nothing is written.

    Args:
        source: Must exist.
        target: Where it exists, its indexes are taken as they are, and all else must agree.
        transform: What is changed on the way.
        scan: Look at every row, and not at a sample.
        sized: Whether to look at rows at all; without, the plan has no size and its namespaces no rows.

    Raises:
        VecbridgeError: As :func:`plan`.
    """
    opened = source.collection(source.namespace or "")
    existing = target.collection(target.namespace or "") if target.exists() else None
    left_out = {*transform.drop, *(_untracked(opened, existing) - transform.rename.keys())}
    names = naming.column_names(opened.stored_spec, transform.rename, left_out)
    if transform.filter is not None:
        opened.capabilities.resolve_filter(filters.from_dict(transform.filter), opened.stored_spec)
    wanted = _wanted(opened.stored_spec, names, target, transform, existing)
    spec, gaps = fitting.fitted(wanted, target.store)
    if existing is not None:
        spec = _as_it_stands(existing, spec)
    found = [
        *losses.of_source(opened.losses, opened.stored_spec),
        *losses.of_target(gaps, wanted, names),
        *fitting.index_losses(opened.stored_spec.vectors, spec, names, exists=existing is not None),
    ]
    into = _into(target, transform, opened.stored_spec, spec)
    sources = {new: name for name, new in names.items()}
    planned = Plan(
        source.url, target.url, opened.stored_spec, opened.identity, spec,
        tuple(Column(name, sources[name]) for name in spec.column_names[1:]), opened.extra,
        tuple(_namespaces(source, into, transform, counted=sized)), source.namespace, into, transform.filter,
        transform.id_template, _relevant(found, names, source),
    )  # fmt: skip
    _require_apart(planned)
    _require_elsewhere(planned, source, target, existing)
    if sized:
        planned = sizing.sized(planned, source, target, scan=scan)
    return planned.with_losses([*planned.losses, *_namespace_losses(planned), *_template_losses(planned)])


def derive(source: Side, target: Side) -> Plan:
    """The plan that two collections which exist suggest: columns of one name and type are the same.

    A source without a schema, whose columns are others from one look to the next, is laid out by the columns
    of the target. Everything else that differs is left to who compares the specs.

    Raises:
        SchemaError: They have no vector field in common, or ids of another type.
    """
    mine, theirs = source.collection(source.namespace or ""), target.collection(target.namespace or "")
    if mine.spec.id_type != theirs.spec.id_type:
        raise SchemaError(
            f"{source.url} has {mine.spec.id_type} ids and {target.url} {theirs.spec.id_type} ids: without "
            "the plan of the migration, nothing says which rows belong together"
        )
    source_spec = mine.stored_spec
    if mine.extra is not None and Field(mine.extra, "json") in theirs.stored_spec.fields:
        source_spec = replace_spec(mine.stored_spec, fields=theirs.stored_spec.fields)
    types = {field.name: field.type for field in source_spec.fields}
    dims = {vector.name: vector.dim for vector in source_spec.vectors}
    vectors = tuple(each for each in theirs.stored_spec.vectors if dims.get(each.name) == each.dim)
    fields = tuple(each for each in theirs.stored_spec.fields if types.get(each.name) == each.type)
    if not vectors:
        raise SchemaError(f"{source.url} and {target.url} have no vector field of one name and dim in common")
    spec = replace_spec(theirs.stored_spec, vectors=vectors, fields=fields)
    return Plan(
        source.url, target.url, source_spec, mine.identity, spec,
        tuple(Column(name, name) for name in spec.column_names[1:]), mine.extra,
        tuple(_namespaces(source, target.namespace, Transform())), source.namespace, target.namespace,
    )  # fmt: skip


def replace_spec(spec: CollectionSpec, **changes: Any) -> CollectionSpec:
    """A spec with other vectors or fields, also of a collection that vecbridge did not make."""
    values = {
        "vectors": spec.vectors, "fields": spec.fields, "id_type": spec.id_type, "namespaced": spec.namespaced
    } | changes  # fmt: skip
    namespaced = values.pop("namespaced")
    return CollectionSpec.foreign(spec.name, **values, namespaced=namespaced)


def _wanted(
    source: CollectionSpec,
    names: Mapping[str, str],
    target: Side,
    transform: Transform,
    existing: Collection | None,
) -> CollectionSpec:
    """What the target would be if it kept everything.

    Raises:
        SchemaError: The target's name cannot be one.
    """
    vectors = tuple(replace(each, name=names[each.name]) for each in source.vectors if each.name in names)
    fields = tuple(replace(each, name=names[each.name]) for each in source.fields if each.name in names)
    name = target.name if existing is None else naming.collection_name(target.name)
    templated = transform.id_template is not None
    if target.namespace is not None:
        namespaced = target.namespace != ""
    else:
        namespaced = source.namespaced and not templated
    if existing is not None and not namespaced:  # the default namespace is everywhere
        namespaced = existing.stored_spec.namespaced
    id_type = "string" if templated else source.id_type
    ids = None if templated else source.ids
    return CollectionSpec(name, vectors, fields, id_type, namespaced, ids=ids)


def _untracked(source: Collection, existing: Collection | None) -> set[str]:
    """Reserved fields of the source that a target which exists lacks: its rows are tracked by nobody."""
    if existing is None:
        return set()
    lacking = {field.name for field in missing(existing.stored_spec)}
    return {field.name for field in source.stored_spec.fields if field.name in lacking}


def _as_it_stands(existing: Collection, wanted: CollectionSpec) -> CollectionSpec:
    """The spec of a target that exists.

    Raises:
        SchemaError: It differs from what is wanted in more than indexes; lists every difference.
    """
    indexes = {each.name: each.index for each in existing.stored_spec.vectors}
    vectors = tuple(replace(each, index=indexes.get(each.name, each.index)) for each in wanted.vectors)
    if differing := agreement.differences(existing.stored_spec, replace_spec(wanted, vectors=vectors)):
        raise SchemaError(
            f"{existing.url} exists and differs from what is planned: {'; '.join(differing)}: name another "
            "collection, or drop it first"
        )
    return without_unasked(existing.stored_spec, wanted.fields)


def _into(target: Side, transform: Transform, source: CollectionSpec, planned: CollectionSpec) -> str | None:
    """The one namespace of the target, where there is one alone."""
    if target.namespace is not None:
        return target.namespace
    if transform.id_template is not None or (source.namespaced and not planned.namespaced):
        return ""
    return None


def _namespaces(
    source: Side, into: str | None, transform: Transform, *, counted: bool = True
) -> list[NamespacePlan]:
    planned = []
    condition = None if transform.filter is None else filters.from_dict(transform.filter)
    for name in source.namespaces():
        rows = source.collection(name).count(condition) if counted else 0
        planned.append(NamespacePlan(name, name if into is None else into, rows))
    return planned


def _relevant(found: Iterable[Loss], names: Mapping[str, str], source: Side) -> tuple[Loss, ...]:
    """The losses that concern what is copied: not dropped columns, nor namespaces beside the one."""
    columns = source.collection(source.namespace or "").stored_spec.column_names
    return tuple(
        loss
        for loss in found
        if not (loss.subject in columns[1:] and loss.subject not in names)
        and not (loss.kind == "namespace" and source.namespace is not None)
    )


def _require_apart(plan: Plan) -> None:
    """Refuses to mix namespaces whose rows may have the same ids.

    Raises:
        ConfigError: Names the way out.
    """
    several = len(plan.namespaces)
    if several > 1 and plan.into is not None and plan.id_template is None:
        raise ConfigError(
            f"{plan.source} has {several} namespaces, and they would go to one: name one of them by "
            "?namespace=, or give id_template='{namespace}/{id}'"
        )


def _require_elsewhere(plan: Plan, source: Side, target: Side, existing: Collection | None) -> None:
    """Refuses to copy a collection onto itself.

    Raises:
        ConfigError: Source and target are the same, or may become so.
    """
    if existing is None or existing.identity != plan.source_identity:
        return
    same = source.store.url == target.store.url and source.name == target.name
    if same and (plan.only is None or plan.into is None or plan.only == plan.into):
        raise ConfigError(f"{plan.source}: source and target are the same collection")


def _namespace_losses(plan: Plan) -> Iterable[Loss]:
    """Namespaces of another program whose names no collection of vecbridge has."""
    for each in plan.namespaces:
        if not plan.reaches(each.source):
            detail = (
                "the target's namespaces have names of 1 to 64 of A-Z a-z 0-9 _ -: "
                "name one by ?namespace= of the target, or give id_template='{namespace}/{id}'"
            )
            yield Loss("namespace", each.source, detail, certain=True, rows=each.rows)


def _template_losses(plan: Plan) -> Iterable[Loss]:
    """What a template may do to ids; nothing that a look at the rows would count."""
    if plan.id_template is None or not plan.source_spec.namespaced or plan.only is not None:
        return
    if not keeps_apart(plan.id_template):
        detail = "rows of several namespaces whose ids become the same replace each other"
        yield Loss(
            "id", "id", f"{detail}: id_template='{{namespace}}/{{id}}' keeps them apart", certain=False
        )
