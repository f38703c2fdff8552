"""A search whose hits represent the groups of a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import pyarrow as pa

from vecbridge.apps.fairness import Group, Ranking, gains_of, rerank
from vecbridge.capabilities import Capabilities
from vecbridge.errors import ConfigError, suggestion
from vecbridge.query import Hits, Query
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection
from vecbridge.texts import shown

#: Types of fields whose values are groups.
GROUP_TYPES: Final = ("string", "int64", "bool")
_CANDIDATES: Final = 10  # for each hit that is wanted


@dataclass(frozen=True, slots=True, eq=False)
class FairHits:
    """The hits of one query vector, ranked so that groups are represented.

    Attributes:
        hits: In their new order; scores are those of the search, and no longer fall from hit to hit.
        groups: The group of each hit; None of a record without a value.
        ranks: The rank of each hit by score alone, counted from 1.
        ranking: What the new order did, and what it cost.
        candidates: How many records the hits were chosen from.
    """

    hits: Hits
    groups: tuple[Any, ...]
    ranks: tuple[int, ...]
    ranking: Ranking
    candidates: int


def fair_search(
    collection: Collection,
    query: Query,
    *,
    by: str,
    targets: Mapping[Any, float | Fraction] | None = None,
    candidates: int | None = None,
) -> list[FairHits]:
    """Searches, and ranks what is found by DetConstSort so that each prefix represents the groups.

    Args:
        collection: Any.
        query: ``query.k`` hits are returned.
        by: The field whose values are the groups: of type string, int64 or bool. None is a group, too: the
            records without a value.
        targets: The share that each group should have, adding up to 1. None takes the shares among the
            candidates, so that the first hits represent what the search found as a whole.
        candidates: How many records to choose from; None is ten times ``query.k``, or what the backend can
            return where that is less.

    Returns:
        One for each query vector.

    Raises:
        ConfigError: No such field or one of another type, targets that are no shares or are of another type,
            fewer candidates than hits, or no record in the collection.
        SchemaError: A query that does not fit the collection.
        UnsupportedError: More candidates than the backend returns.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2, fields={"lives": "string"})
        >>> vectors, lives = [[1, 0], [1, 0.1], [1, 0.2], [1, 0.9]], ["land", "land", "land", "sea"]
        >>> halves = {"land": 0.5, "sea": 0.5}
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(spec)
        ...     _ = photos.upsert(vb.batch(spec, id=["a", "b", "c", "d"], vector=vectors, lives=lives))
        ...     [found] = fair_search(photos, vb.Query([1, 0], k=2), by="lives", targets=halves)
        >>> found.hits.ids, found.groups, found.ranks
        (['a', 'd'], ('land', 'sea'), (1, 4))
    """
    require_group_field(collection.spec, by)
    _require_targets(collection.spec, by, targets)
    most = _candidates(query, candidates, collection.capabilities)
    include = query.include if query.include == "all" else tuple(dict.fromkeys([*query.include, by]))
    vectors: Any = query.vectors if query.id is None else None  # a query has one of the two
    wide = replace(query, vectors=vectors, k=most, include=include)
    found = collection.search(wide)
    if not any(map(len, found)) and not collection.count():
        raise ConfigError(f"{collection.spec.name!r} holds no records")
    higher = collection.spec.vector_field(query.using).metric.higher_is_better
    return [_ranked(hits, query, by, targets, higher_is_better=higher) for hits in found]


def require_group_field(spec: CollectionSpec, name: str) -> None:
    """Refuses a field whose values are no groups.

    Raises:
        ConfigError: No such field, or one of another type.
    """
    for field in spec.fields:
        if field.name == name:
            if field.type not in GROUP_TYPES:
                types = ", ".join(GROUP_TYPES)
                raise ConfigError(f"field {name!r} is of type {field.type}: groups are values of {types}")
            return
    raise ConfigError(
        f"{spec.name!r} has no field {shown(name)}{suggestion(name, [each.name for each in spec.fields])}"
    )


def group_values(spec: CollectionSpec, by: str, given: Mapping[str, Fraction]) -> dict[Group, Fraction]:
    """Targets whose groups are written as text, such as on a command line, with values of the field's type.

    Raises:
        ConfigError: A text that is no value of the field.
    """
    [kind] = [field.type for field in spec.fields if field.name == by]
    found: dict[Group, Fraction] = {}
    for text, share in given.items():
        value: Group = text
        if kind == "bool":
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif kind == "int64":
            try:
                value = int(text)
            except ValueError:
                value = text
        if kind != "string" and value == text:
            raise ConfigError(f"target {shown(text)}: field {by!r} is of type {kind}")
        found[value] = share
    return found


def _require_targets(spec: CollectionSpec, by: str, targets: Mapping[Any, object] | None) -> None:
    [kind] = [field.type for field in spec.fields if field.name == by]
    wanted = {"string": str, "int64": int, "bool": bool}[kind]
    for group in targets or {}:
        if group is not None and type(group) is not wanted:
            raise ConfigError(f"target {shown(group)}: field {by!r} is of type {kind}")


def _candidates(query: Query, wanted: int | None, capabilities: Capabilities) -> int:
    if wanted is None:
        most = _CANDIDATES * query.k
        limit = capabilities.max_top_k
        return most if limit is None else max(query.k, min(most, limit))
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < query.k:
        raise ConfigError(f"candidates={shown(wanted)}: a whole number from k={query.k}")
    return wanted


def _ranked(
    hits: Hits,
    query: Query,
    by: str,
    targets: Mapping[Any, float | Fraction] | None,
    *,
    higher_is_better: bool,
) -> FairHits:
    groups = [] if hits.records is None else hits.records.column(by).to_pylist()
    gains = gains_of(hits.scores, higher_is_better=higher_is_better)
    ranking = rerank(groups, gains, query.k, targets)
    order = list(ranking.order)
    records = hits.records
    if records is not None:
        records = records.take(pa.array(order, pa.int64()))
        if query.include != "all" and by not in query.include:
            records = records.drop_columns([by]) if query.include else None
    ids = [hits.ids[row] for row in order] if isinstance(hits.ids, list) else hits.ids[order]
    return FairHits(
        Hits(ids, hits.scores[order], records, hits.json_columns),
        tuple(groups[row] for row in order),
        tuple(row + 1 for row in order),
        ranking,
        len(groups),
    )
