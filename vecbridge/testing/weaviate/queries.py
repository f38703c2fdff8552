"""What a search request asks for, and which rows that are."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, TypeAlias

import numpy as np

from vecbridge.testing.weaviate import filters, schema
from vecbridge.testing.weaviate.errors import NoSuchIndex, NotEmulated, Refused, Unsearchable, placed
from vecbridge.testing.weaviate.messages import require_only
from vecbridge.testing.weaviate.objects import Collection, Row
from vecbridge.testing.weaviate.search import FloatArray, nearest
from vecbridge.testing.weaviate.values import parsed_uuid

#: The most rows that a search reaches, and that one delete removes.
WINDOW: Final = 10_000
_DEFAULT_LIMIT: Final = 10
_LISTING: Final = "explorer: list class: search: "
_NEARING: Final = "explorer: get class: concurrentTargetVectorSearch): explorer: get class: vector search: "
_SEARCHED: Final = (
    "collection", "tenant", "properties", "metadata", "limit", "offset", "after", "filters", "near_vector",
    "consistency_level", "uses_123_api", "uses_125_api", "uses_127_api",
)  # fmt: skip
_NEAR: Final = ("vector", "vector_bytes", "vectors", "targets", "vector_for_targets")

Found: TypeAlias = list[tuple[Row, float | None]]


def answered(collection: Collection, request: Any) -> tuple[dict[str, str], Found]:
    """The properties to give with the type of each, and the rows with their distances.

    Args:
        collection: Where to look.
        request: Near a vector, from a UUID on, or whatever matches.

    Raises:
        Refused: As the server refuses it.
    """
    require_only(request, _SEARCHED)
    with suppress(Unsearchable):  # what does not agree with the schema is refused before anything else
        filters.of_request(request, collection.described)
    target = _target(request.near_vector, collection) if request.HasField("near_vector") else None
    kinds = _asked_properties(request, collection)
    if request.after:
        _require_cursor(request)
    if target is None:
        return kinds, _listed(collection, request)
    return kinds, _near(collection, request, target)


def _target(near: Any, collection: Collection) -> tuple[str, FloatArray]:
    """Which vector is searched, and for what."""
    require_only(near, _NEAR)
    named = list(collection.described.get("vectorConfig") or {})
    targets = list(near.targets.target_vectors)
    for each in targets:
        if each not in named:
            raise Refused(
                f"extract target vectors: class {collection.name} does not have named vector {each} "
                f"configured. Available named vectors [{' '.join(sorted(named))}]"
            )
    if len(targets) > 1:
        raise NotEmulated("a search of several vectors at once")
    if len(named) > 1 and not targets:
        raise Refused(
            f"extract target vectors: class {collection.name} has multiple vectors, but no target "
            "vectors were provided"
        )
    target = targets[0] if targets else next(iter(named), "")
    sent = _sent_vector(near, target)
    if len(sent) < 4:
        raise NotEmulated("a search for a vector without components")
    return target, np.frombuffer(sent[: len(sent) // 4 * 4], "<f4")


def _sent_vector(near: Any, target: str) -> bytes:
    vectors = near.vectors
    if near.vector_for_targets:
        given = {each.name: each.vectors for each in near.vector_for_targets}
        if target not in given:
            raise Refused(
                f"near_vector: vector for target {target} is required. All target vectors: [{target}] "
                f"all vectors for targets [{' '.join(given)}]"
            )
        vectors = given[target]
    if len(vectors) > 1:
        raise Refused(f"near_vector: only 1 vector supported, found {len(vectors)} vectors")
    if vectors:
        return bytes(vectors[0].vector_bytes)
    if near.vector_bytes or near.vector:
        return bytes(near.vector_bytes) or np.array(near.vector, "<f4").tobytes()
    raise Refused("near_vector: vector is required")


def _asked_properties(request: Any, collection: Collection) -> dict[str, str]:
    """The properties to give, and the type of each."""
    known = schema.properties(collection.described)
    asked = request.properties
    require_only(asked, ("non_ref_properties", "return_all_nonref_properties"))
    names = [schema.uncapitalised(each) for each in asked.non_ref_properties]
    if not request.HasField("properties") or asked.return_all_nonref_properties:
        names = list(known)
    for each in names:
        if each not in known:
            raise Refused(
                f"extract properties request: get property by name {each} for class {collection.name}: no "
                f"such prop with name '{each}' found in class '{collection.name}' in the schema. Check your "
                "schema files for which properties in this class are available"
            )
    return {each: known[each]["dataType"][0] for each in names}


def _require_cursor(request: Any) -> None:
    problem = ""
    if request.HasField("near_vector"):
        problem = "other params cannot be set with after and limit parameters"
    elif request.HasField("filters"):
        problem = "where cannot be set with after and limit parameters"
    elif request.offset:
        problem = "offset cannot be set with after and limit parameters"
    else:
        try:
            parsed_uuid(request.after)
        except Refused as exc:
            problem = f"after parameter '{request.after}' is not a valid uuid: {exc.message}"
    if problem:
        raise Refused(f"cursor api: invalid 'after' parameter: {problem}")


def _window(request: Any, where: str) -> tuple[int, int]:
    """From which row to which."""
    limit = request.limit or _DEFAULT_LIMIT
    if request.offset + limit > WINDOW:
        raise Refused(
            f"{where}invalid pagination params: query maximum results exceeded: the total limit calculated "
            f"from the provided offset '{request.offset}' and limit '{limit}' exceeds the configured value "
            f"for QUERY_MAXIMUM_RESULTS '{WINDOW}'. If you've supplied a negative offset or limit, this may "
            "be an underflow error"
        )
    return request.offset, request.offset + limit


def _listed(collection: Collection, request: Any) -> Found:
    start, end = _window(request, _LISTING)
    index = collection.name.lower()
    where = f"{_LISTING}object search at index {index}: "
    with placed(where):
        shard = collection.shard(request.tenant)
    searching = f"{where}local shard object search {index}_{shard.name}: "
    with placed(searching, Unsearchable, but=NoSuchIndex):
        match = filters.of_request(request, collection.described)
    if match is not None:
        rows = filters.matching(shard.rows.values(), match)[:end]
    else:
        rows = shard.beyond(parsed_uuid(request.after) if request.after else "", end)
    return [(row, None) for row in rows[start:]]


def _near(collection: Collection, request: Any, target: tuple[str, FloatArray]) -> Found:
    start, end = _window(request, _NEARING)
    index = collection.name.lower()
    where = f"{_NEARING}object vector search at index {index}: "
    with placed(where):
        shard = collection.shard(request.tenant)
    where += f"shard {index}_{shard.name}: "
    with placed(f"{where}build inverted filter allow list: ", Unsearchable):
        match = filters.of_request(request, collection.described)
    name, vector = target
    metric = schema.vector_configs(collection.described)[name]["vectorIndexConfig"]["distance"]
    with placed(f"{where}vector search: "):
        return list(nearest(shard, name, metric, vector, match, end)[start:])
