"""Search by text, by picture, by stored record and by mixtures of these, in one or several vector fields.

    parts ──> one vector a model ──> a search of each target ──> lists of hits ──> fusion ──> hits
    (or, with mix=False, one vector a part)

A target is a vector field of a collection. One target and one vector make one list, which is returned as the
store has it; several lists are fused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from vecbridge.apps.fusion import Fusion, Ranking, fuse, require_fusion
from vecbridge.apps.parts import Part, Target, as_parts, part_names
from vecbridge.apps.queryvectors import QueryVectors
from vecbridge.embed.base import Embedder
from vecbridge.errors import ConfigError, NotFoundError, SchemaError, suggestion
from vecbridge.filters import AnyFilter
from vecbridge.query import Hit, Hits, Include, Query
from vecbridge.store import Collection
from vecbridge.texts import shown

_LEAST_DEPTH: Final = 100
_UNSET: Final = np.ones((1, 1), np.float32)  # stands for the vectors until they are known
_DEPTH: Final = 5  # hits of each list, in multiples of k
Key: TypeAlias = "tuple[str, str | int]"


@dataclass(frozen=True, slots=True)
class CrossModalHit(Hit):
    """One row that was found, with what each list says of it.

    Attributes:
        id: The row's id.
        score: The common score, larger is better; of a search with one list, the store's own score, in the
            direction of its metric.
        record: The id and the included columns by name, None if there are none.
        scores: The store's own score in each list that has the row, by the name of the list: that of the
            target, of the part, or ``target/part`` where there are several of both.
        collection: The collection that it was found in; with ``same_ids``, the first of them.

    Example:
        >>> CrossModalHit("a", 0.94, None, {"text": 0.31, "picture": 0.88}, "photos").scores["text"]
        0.31
    """

    scores: Mapping[str, float]
    collection: str


@dataclass(frozen=True, slots=True, eq=False)
class _List:
    """A ranking, and the hits behind it by key."""

    ranking: Ranking[Key]
    rows: Mapping[Key, int]
    hits: Hits
    target: Target


class CrossModalSearch:
    """Searches vector fields for texts, pictures, stored records, and mixtures of them.

    Args:
        targets: A collection, or targets and collections; several are fused.
        embedder: The model of the query; a search for stored records alone needs none.
        same_ids: Whether equal ids in several collections mean the same thing, as in one collection of
            pictures and one of their captions.

    Raises:
        ConfigError: No targets, two of one name, or weights that sum to 0.
        SchemaError: No such vector field, or several and none was named.

    Example:
        >>> import vecbridge as vb
        >>> from vecbridge.apps import Record, Text
        >>> words = ["a red heart", "a sailing boat", "a dog", "a wolf"]
        >>> with vb.embedder("bundled") as clip, vb.connect("memory://") as store:
        ...     spec = vb.CollectionSpec.single("words", dim=clip.dim, embedder=clip.identity)
        ...     collection = store.create(spec)
        ...     report = collection.upsert(vb.batch(spec, id=words, vector=clip.embed_texts(words)))
        ...     search = CrossModalSearch(collection, clip)
        ...     found = search.search("un perro", k=1)
        ...     mixed = search.search([Record("a dog"), Text("sea", weight=0.5)], k=1, mix=False)
        >>> [hit.id for hit in found], sorted(mixed[0].scores)
        (['a dog'], ['record', 'text'])
    """

    def __init__(
        self,
        targets: Collection | Target | Sequence[Collection | Target],
        embedder: Embedder | None = None,
        *,
        same_ids: bool = False,
    ) -> None:
        self._targets = _as_targets(targets)
        self._embedder = embedder
        self._same_ids = same_ids

    @property
    def targets(self) -> Mapping[str, Target]:
        """The targets by name."""
        return dict(self._targets)

    def search(
        self,
        query: Part | str | Sequence[Part | str],
        *,
        k: int = 10,
        filter: AnyFilter | None = None,
        include: Include = (),
        mix: bool = True,
        fusion: Fusion = "weighted",
        depth: int | None = None,
        ef: int | None = None,
        nprobe: int | None = None,
        allow_empty: bool = False,
    ) -> list[CrossModalHit]:
        """The best rows of all targets.

        Args:
            query: What to search for; a plain string is a text.
            k: How many hits, at most.
            filter: Only rows that match, in every target.
            include: Columns to return with the hits, "all" or names.
            mix: Whether the parts become one vector, the mean of their unit vectors by weight, before
                anything is searched. Otherwise each part is searched for on its own, and the lists are fused.
            fusion: How several lists become one: "weighted" or "rrf"; see :func:`vecbridge.apps.fusion.fuse`.
            depth: Hits of each list where there are several; None is 5 k and at least 100, or what the store
                can give.
            ef: Breadth of an HNSW search.
            nprobe: Lists that an IVF search visits.
            allow_empty: Whether collections that hold no records at all give no hits, instead of an error.

        Returns:
            At most k hits, best first.

        Raises:
            ConfigError: A query, a weight or a fusion that cannot be; no embedder; parts that cancel each
                other.
            InvalidRecordError: A picture cannot be read.
            NotFoundError: A record that is searched for is not there, or the collections hold nothing at all.
            EmbedderMismatchError: The collection holds vectors of another model.
            SchemaError: A k that is none, or a filter or column that does not fit the collection.
        """
        parts = as_parts(query)
        require_fusion(fusion)
        asked = Query(_UNSET, k, filter=filter, include=include, ef=ef, nprobe=nprobe)
        if depth is not None and depth < k:
            raise ConfigError(f"depth={shown(depth)}: at least k={k}")
        lists = self._lists(asked, parts, self._groups(parts, mix), depth)
        if filter is None and not allow_empty and not any(len(each.hits) for each in lists):
            self._require_records()
        if len(lists) > 1:
            best = list(fuse([each.ranking for each in lists], fusion).items())[:k]
        else:
            best = list(zip(lists[0].rows, lists[0].hits.scores.tolist(), strict=True))
        return [_joined(lists, key, score) for key, score in best]

    def _lists(
        self, asked: Query, parts: Sequence[Part], groups: Mapping[str, Sequence[Part]], depth: int | None
    ) -> list[_List]:
        """The hits of each group of parts in each target."""
        vectors = QueryVectors(parts, self._targets, self._embedder)
        deep = depth or max(_DEPTH * asked.k, _LEAST_DEPTH)
        lists = []
        for name, target in self._targets.items():
            k = asked.k if len(groups) * len(self._targets) == 1 else depth or _most(target, deep)
            query = replace(
                asked,
                vectors=np.stack([vectors.mixture(group, target) for group in groups.values()]),
                k=k,
                include=self._columns(asked.include, target),
                using=target.field.name,
                embedder=vectors.identity(target),
            )
            found = _found(target, query, vectors.excluded(target, same_ids=self._same_ids))
            for (part, group), hits in zip(groups.items(), found, strict=True):
                lists.append(self._list(name, part, group, target, hits))
        return lists

    def _groups(self, parts: Sequence[Part], mix: bool) -> dict[str, list[Part]]:
        """The parts that share a vector, by the name of their list."""
        if mix or len(parts) == 1:
            return {"": list(parts)}
        for part in parts:
            if part.weight < 0:
                raise ConfigError(f"weight={part.weight:g} with mix=False: a list counts 0 or more")
        return {name: [part] for name, part in zip(part_names(parts), parts, strict=True)}

    def _list(self, name: str, part: str, group: Sequence[Part], target: Target, hits: Hits) -> _List:
        label = "/".join(each for each in (name if len(self._targets) > 1 or not part else "", part) if each)
        weight = target.weight * (group[0].weight if part else 1.0)
        place = "" if self._same_ids else target.place
        keys = [(place, key if isinstance(key, str) else int(key)) for key in hits.ids]
        higher = target.field.metric.higher_is_better
        rows = {key: row for row, key in enumerate(keys)}
        return _List(Ranking(label, weight, keys, hits.scores, higher), rows, hits, target)

    def _columns(self, include: Include, target: Target) -> Include:
        """The included columns that a target's collection has, where there are several targets.

        Raises:
            SchemaError: None of the collections has one of them.
        """
        if isinstance(include, str) or len(self._targets) == 1:
            return include
        known = {name for each in self._targets.values() for name in each.collection.spec.column_names}
        for name in include:
            if name not in known:
                raise SchemaError(f"no collection has a field {name!r}{suggestion(name, sorted(known))}")
        return [name for name in include if name in target.collection.spec.column_names]

    def _require_records(self) -> None:
        """Refuses a search of collections without a record, which can only be a mistake."""
        collections = {each.place: each.collection for each in self._targets.values()}
        if not any(each.count() for each in collections.values()):
            names = ", ".join(str(each.url) for each in collections.values())
            raise NotFoundError(f"{names}: no records, so that nothing can be found")


def _as_targets(given: Collection | Target | Sequence[Collection | Target]) -> dict[str, Target]:
    """Targets by name.

    Raises:
        ConfigError: None, two of one name, or weights that sum to 0.
        SchemaError: A vector field that is not there, or not named.
    """
    listed = [given] if isinstance(given, Collection | Target) else list(_sequence(given))
    targets = [each if isinstance(each, Target) else Target(each) for each in listed]
    if not targets:
        raise ConfigError("no targets: a search needs at least one collection")
    if sum(each.weight for each in targets) <= 0:
        raise ConfigError("the weights of the targets sum to 0")
    several = len({each.place for each in targets}) > 1
    named: dict[str, Target] = {}
    for each in targets:
        field = each.field
        name = each.name or (f"{each.collection.spec.name}.{field.name}" if several else field.name)
        if name in named:
            raise ConfigError(f"two targets are called {name!r}: give them a name=")
        named[name] = each
    return named


def _sequence(given: object) -> Iterable[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"targets are collections or Target objects, not {shown(given)}")
    return given


def _found(target: Target, query: Query, excluded: Sequence[str | int]) -> list[Hits]:
    """The hits of each vector in a target, without some records."""
    if not excluded:
        return target.collection.search(query)
    more = max(_most(target, query.k + len(excluded)), query.k)
    found = target.collection.search(replace(query, k=more))
    return [_without(hits, excluded, query.k) for hits in found]


def _most(target: Target, wanted: int) -> int:
    """How many hits can be asked of a target."""
    most = target.collection.capabilities.max_top_k
    return wanted if most is None else min(wanted, most)


def _without(hits: Hits, ids: Sequence[str | int], count: int) -> Hits:
    """The best hits that are none of these records."""
    kept = [row for row, key in enumerate(hits.ids) if key not in ids][:count]
    if len(kept) == len(hits):
        return hits
    rows = None if hits.records is None else hits.records.take(kept)
    keys = hits.ids[kept] if isinstance(hits.ids, np.ndarray) else [hits.ids[row] for row in kept]
    return Hits(keys, hits.scores[kept], rows, hits.json_columns)


def _joined(lists: Sequence[_List], key: Key, score: float) -> CrossModalHit:
    """A hit with what every list says of it; its record has the columns of all collections that have it."""
    found = [(each, each.hits[each.rows[key]]) for each in lists if key in each.rows]
    scores = {each.ranking.name: hit.score for each, hit in found}
    parts = [hit.record for _, hit in reversed(found) if hit.record is not None]
    record = {name: value for part in parts for name, value in part.items()} if parts else None
    return CrossModalHit(key[1], score, record, scores, found[0][0].target.collection.spec.name)
