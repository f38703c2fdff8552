"""The data plane of one index: a method an operation, from the body of a request to that of its answer.

Bodies are those of REST (camelCase); the gRPC room translates its messages to them. Every method is called
under the index's lock.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from vecbridge.testing.pinecone import limits
from vecbridge.testing.pinecone.errors import ApiError, invalid, not_found
from vecbridge.testing.pinecone.filters import Match, compiled
from vecbridge.testing.pinecone.limits import member
from vecbridge.testing.pinecone.namespaces import Change, Namespace, Record

Body = Mapping[str, Any]

#: Picks the records that a write means, when it is applied: writes accepted before it count.
Chosen = Callable[[dict[str, Record]], list[Record]]

#: What a write's answer, and what a query's, says of the log, as REST headers and gRPC metadata.
WRITTEN, SEEN = "x-pinecone-request-lsn", "x-pinecone-max-indexed-lsn"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation returns."""

    body: dict[str, Any]
    headers: Mapping[str, str]
    status: int = 200


class Data:
    """The records of one index.

    Args:
        dimension: Of its dense vectors; None where it holds sparse ones only.
        metric: ``cosine``, ``dotproduct`` or ``euclidean`` (reported squared, as the service does).
        delay: Seconds until a write is visible.
    """

    def __init__(self, dimension: int | None, metric: str, delay: float) -> None:
        self.dimension = dimension
        self.metric = metric
        self._delay = delay
        self._namespaces: dict[str, Namespace] = {}
        self._lock = threading.Lock()
        self._operations: dict[str, Callable[[Body], Answer]] = {
            "upsert": self._upsert,
            "update": self._update,
            "delete": self._delete,
            "query": self._query,
            "fetch": self._fetch,
            "fetch_by_metadata": self._fetch_by_metadata,
            "list": self._list,
            "describe_index_stats": self._stats,
            "list_namespaces": self._list_namespaces,
            "create_namespace": self._create_namespace,
            "describe_namespace": self._describe_namespace,
            "delete_namespace": self._delete_namespace,
        }

    def call(self, operation: str, body: Body) -> Answer:
        """Carries out an operation.

        Raises:
            ApiError: It is refused.
        """
        with self._lock, np.errstate(over="ignore"):  # to infinity, which is refused, or a score
            return self._operations[operation](body)

    # -- writes

    def _upsert(self, body: Body) -> Answer:
        vectors = member(body, "vectors", list, [])
        if not vectors:
            raise invalid("vectors must contain at least one vector")
        if len(vectors) > limits.UPSERT_ROWS:
            raise invalid(f"The upsert has {len(vectors)} vectors, the limit is {limits.UPSERT_ROWS}")
        records = {record.id: record for record in map(self._record, vectors)}
        name = limits.namespace(body.get("namespace", ""))
        answer = {"upsertedCount": len(vectors)}
        return self._write(self._namespaces.setdefault(name, self._new()), _put(records), answer)

    def _update(self, body: Body) -> Answer:
        changes, match = self._changes(body), self._filter(body)
        ids = [limits.identifier(body["id"])] if member(body, "id", str, "") else []
        if ids and match:
            raise invalid("Cannot specify both id and filter")
        if ids:
            return self._write(self._existing(body), _patch(_listed(ids), changes), {})
        if match is None or "metadata" not in changes or len(changes) > 1:
            raise invalid("An update takes an id, or a filter and setMetadata")
        space = self._existing(body)
        answer = {"matchedRecords": len(space.matching(match))}
        if member(body, "dryRun", bool, False):
            return Answer(answer, {})
        return self._write(space, _patch(_meant(match), changes), answer)

    def _delete(self, body: Body) -> Answer:
        ids, everything = limits.identifiers(body), member(body, "deleteAll", bool, False)
        match = self._filter(body)
        if not (ids or everything or match):
            raise invalid("Delete takes ids, deleteAll or a filter")
        if everything and (ids or match):
            raise invalid("deleteAll cannot be combined with ids or a filter")
        if everything:
            return self._write(self._existing(body), dict.clear, {})
        # Given both, the service takes the filter alone.
        return self._write(self._existing(body), _drop(_meant(match) if match else _listed(ids)), {})

    def _write(self, space: Namespace, change: Change, answer: dict[str, Any]) -> Answer:
        return Answer(answer, {WRITTEN: str(space.write(change))})

    # -- reads

    def _query(self, body: Body) -> Answer:
        k = limits.count(body, "topK", 1, limits.TOP_K)
        if member(body, "queries", list):
            raise invalid("queries is deprecated, use vector or id")
        space = self._space(body)
        query = self._asked(body, space)
        match = self._filter(body)
        found = space.search(self.metric, query, match, k) if query else []
        values, metadata = (member(body, name, bool, False) for name in ("includeValues", "includeMetadata"))
        matches = [{"score": score} | _shown(record, values, metadata) for record, score in found]
        if sum(map(_size, matches)) > limits.RESULT_BYTES:
            raise invalid(f"The result exceeds the limit of {limits.RESULT_BYTES} bytes; choose a lower topK")
        return _read(body, {"matches": matches}, {SEEN: str(space.indexed)})

    def _asked(self, body: Body, space: Namespace) -> Record | None:
        vector, id = limits.floats(body, "vector"), member(body, "id", str)
        sparse = self._sparse(body, "sparseVector")
        if id and (len(vector) or sparse):
            raise invalid("Cannot specify both id and vector")
        if id:
            return space.records.get(limits.identifier(id))
        if not len(vector) and not sparse:
            raise invalid("A query takes a vector or an id")
        return Record("", limits.dense(vector, self.dimension) if len(vector) else None, sparse)

    def _fetch(self, body: Body) -> Answer:
        ids = limits.identifiers(body)
        if not ids:
            raise invalid("Fetch takes at least one id")
        records = self._space(body).records
        return _read(body, {"vectors": {id: _shown(records[id]) for id in ids if id in records}})

    def _fetch_by_metadata(self, body: Body) -> Answer:
        limit, after = limits.count(body, "limit", 1, limits.TOP_K, limits.PAGE), _resumed(body)
        match = self._filter(body)
        if match is None:
            raise invalid("A filter is required")
        found = sorted((r for r in self._space(body).matching(match) if r.id > after), key=lambda r: r.id)
        page = found[:limit]
        answer: dict[str, Any] = {"vectors": {record.id: _shown(record) for record in page}}
        return _read(body, answer | _more([record.id for record in page], len(found) > limit))

    def _list(self, body: Body) -> Answer:
        limit = limits.count(body, "limit", 1, limits.PAGE, limits.PAGE)
        prefix = member(body, "prefix", str, "")
        ids = self._space(body).page(_resumed(body), prefix, limit + 1)
        answer: dict[str, Any] = {"vectors": [{"id": id} for id in ids[:limit]]}
        return _read(body, answer | _more(ids[:limit], len(ids) > limit))

    def _stats(self, body: Body) -> Answer:
        if self._filter(body):
            text = "Serverless and Starter indexes do not support"
            raise invalid(f"{text} describing index stats with metadata filtering")
        counts = {name: len(space.records) for name, space in self._namespaces.items()}
        answer = {
            "namespaces": {name or "__default__": {"vectorCount": rows} for name, rows in counts.items()},
            "indexFullness": 0.0,
            "totalVectorCount": sum(counts.values()),
            "metric": self.metric,
            "vectorType": "sparse" if self.dimension is None else "dense",
        }
        return Answer(answer | ({"dimension": self.dimension} if self.dimension else {}), {})

    # -- namespaces

    def _list_namespaces(self, body: Body) -> Answer:
        limit, after = limits.count(body, "limit", 1, limits.PAGE, limits.PAGE), _resumed(body)
        prefix = member(body, "prefix", str, "")
        names = sorted(name or "__default__" for name in self._namespaces)
        names = [name for name in names if name.startswith(prefix)]
        rest = [name for name in names if name > after]
        answer = {"namespaces": [self._described(name) for name in rest[:limit]], "total_count": len(names)}
        return Answer(answer | _more(rest[:limit], len(rest) > limit), {})

    def _create_namespace(self, body: Body) -> Answer:
        name = limits.identifier(body.get("name"), "Namespace")
        schema = member(body, "schema", dict, {})
        if not all(isinstance(item, dict) for item in (schema, *member(schema, "fields", dict, {}).values())):
            raise invalid("schema.fields must hold objects")
        if name == "__default__" or name in self._namespaces:
            raise ApiError("ALREADY_EXISTS", f"Namespace {name} already exists")
        self._namespaces[name] = self._new()
        return Answer(self._described(name), {})

    def _describe_namespace(self, body: Body) -> Answer:
        self._existing(body)
        return Answer(self._described(body["namespace"]), {})

    def _delete_namespace(self, body: Body) -> Answer:
        self._existing(body)
        del self._namespaces[limits.namespace(body["namespace"])]
        return Answer({}, {})

    def _described(self, name: str) -> dict[str, Any]:
        # The service sends this number as a string, whatever its description says.
        return {"name": name, "record_count": str(len(self._namespaces[limits.namespace(name)].records))}

    # -- what requests have in common

    def _new(self) -> Namespace:
        return Namespace(self._delay)

    def _space(self, body: Body) -> Namespace:
        """The namespace to read; an unknown one reads as empty."""
        return self._namespaces.get(limits.namespace(body.get("namespace", "")), self._new())

    def _existing(self, body: Body) -> Namespace:
        name = limits.namespace(body.get("namespace", ""))
        if name not in self._namespaces:
            raise not_found("Namespace not found")
        return self._namespaces[name]

    def _filter(self, body: Body) -> Match | None:
        given = member(body, "filter", dict)
        return compiled(given) if given else None

    def _sparse(self, body: Body, name: str) -> dict[int, float]:
        """A sparse vector; empty where none came."""
        given = member(body, name, dict)
        if given and self.metric != "dotproduct":
            raise invalid("Sparse values need an index of the dotproduct metric")
        return limits.sparse(given) if given else {}

    def _record(self, vector: Any) -> Record:
        if not isinstance(vector, dict):
            raise invalid("vectors must hold objects")
        id = limits.identifier(vector.get("id"))
        values, sparse = limits.floats(vector, "values"), self._sparse(vector, "sparseValues")
        if not sparse and self.dimension is None:
            raise invalid(f"Vector ID '{id}' has no sparse values")
        dense = limits.dense(values, self.dimension, id) if self.dimension or len(values) else None
        return Record(id, dense, sparse, limits.metadata(member(vector, "metadata", dict, {})))

    def _changes(self, body: Body) -> dict[str, Any]:
        """What an update sets, by the fields of a record."""
        changes: dict[str, Any] = {}
        if len(values := limits.floats(body, "values")):
            changes["values"] = limits.dense(values, self.dimension, str(body.get("id")))
        if sparse := self._sparse(body, "sparseValues"):
            changes["sparse"] = sparse
        if (metadata := member(body, "setMetadata", dict)) is not None:
            changes["metadata"] = limits.metadata(metadata)
        return changes


def _put(records: Mapping[str, Record]) -> Change:
    return lambda stored: stored.update(records)


def _listed(ids: list[str]) -> Chosen:
    return lambda stored: [stored[id] for id in ids if id in stored]


def _meant(match: Match) -> Chosen:
    return lambda stored: [record for record in stored.values() if match(record.metadata)]


def _drop(chosen: Chosen) -> Change:
    def change(stored: dict[str, Record]) -> None:
        for record in chosen(stored):
            stored.pop(record.id, None)  # an id may be listed twice

    return change


def _patch(chosen: Chosen, changes: Mapping[str, Any]) -> Change:
    def change(stored: dict[str, Record]) -> None:
        for record in chosen(stored):
            merged = {**record.metadata, **changes.get("metadata", {})}
            stored[record.id] = replace(record, **{**changes, "metadata": merged})

    return change


def _shown(record: Record, values: bool = True, metadata: bool = True) -> dict[str, Any]:
    """A record as an answer shows it; what is empty is left out."""
    shown: dict[str, Any] = {"id": record.id, "values": []}
    if values and record.values is not None:
        shown["values"] = record.values
    if values and record.sparse:
        shown["sparseValues"] = {"indices": list(record.sparse), "values": list(record.sparse.values())}
    if metadata and record.metadata:
        shown["metadata"] = record.metadata
    return shown


def _size(match: Mapping[str, Any]) -> int:
    """About what a match takes in an answer."""
    metadata = match.get("metadata")
    return len(match["id"]) + 4 * len(match["values"]) + (len(orjson.dumps(metadata)) if metadata else 0)


def _read(body: Body, answer: dict[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    common = {"namespace": body.get("namespace") or "", "usage": {"readUnits": 1}}
    return Answer(answer | common, headers or {})


def _more(page: list[str], more: bool) -> dict[str, Any]:
    """Where the next page starts, if there is one."""
    if not more:
        return {}
    return {"pagination": {"next": base64.b64encode(orjson.dumps({"skip_past": page[-1]})).decode()}}


def _resumed(body: Body) -> str:
    """The last name of the page before, from its token."""
    token = member(body, "paginationToken", str, "")
    try:
        return str(orjson.loads(base64.b64decode(token, validate=True))["skip_past"]) if token else ""
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise invalid("Invalid pagination token") from None
