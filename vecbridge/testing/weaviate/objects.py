"""Rows: where they are kept, and what the server checks before it keeps them."""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vecbridge.testing.weaviate import schema
from vecbridge.testing.weaviate.errors import Refused, placed
from vecbridge.testing.weaviate.values import checked, guessed_type, parsed_uuid

#: How many rows each quantizer that learns wants to see before it is trained.
_ROWS_TO_TRAIN: Final = {"pq": 256, "sq": 1}
#: From how many rows on the others compress, by themselves.
_ROWS_AT_ONCE: Final = {"bq": 0, "rq": 1}


@dataclass(slots=True)
class Row:
    """One object.

    Attributes:
        uuid: In small letters.
        properties: Values as JSON has them; an int is an int however it was sent.
        vectors: By name, as little-endian float32.
        nulls: The properties of which the index knows that there is no value: not those added later.
        created: Milliseconds of the epoch.
    """

    uuid: str
    properties: dict[str, Any]
    vectors: dict[str, bytes]
    nulls: frozenset[str] = frozenset()
    created: int = field(default_factory=lambda: time.time_ns() // 1_000_000)


class Shard:
    """The rows of one tenant, or of a class without tenants.

    Args:
        name: As the server calls it: the tenant's, or a random one.

    Attributes:
        dims: How long the vectors of each name are, from the first that was stored on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[str, Row] = {}
        self.trained = False
        self.dims: dict[str, int] = {}
        self._sorted: list[str] | None = None
        self._matrices: dict[str, tuple[list[Row], npt.NDArray[np.float32]]] = {}

    def put(self, row: Row) -> None:
        """Keeps a row, in the place of the one of the same UUID.

        Raises:
            Refused: The row is kept, and one of its vectors has another length than the first of that name.
        """
        old = self.rows.pop(row.uuid, None)
        if old is not None and old.vectors == row.vectors:  # the index is told of changes alone
            row.nulls -= {name for name in row.nulls - old.nulls if is_null(old.properties.get(name))}
        self.rows[row.uuid] = row
        self._changed()
        for name, vector in row.vectors.items():
            length = len(vector) // 4
            if length != self.dims.setdefault(name, length):
                raise Refused(
                    "insert to vector index: insert doc id 0 to vector index: find and connect neighbors: "
                    "at level 0: pick entrypoint at level beginning: calculate distance between insert node "
                    f"and entrypoint: {length} vs {self.dims[name]}: vector lengths don't match"
                )

    def remove(self, uuids: Sequence[str]) -> None:
        """Forgets rows; vectors stay as long as they were."""
        for each in uuids:
            del self.rows[each]
        self._changed()

    def beyond(self, after: str, count: int) -> list[Row]:
        """Rows in the order of their UUIDs, from the first beyond one of them on."""
        if self._sorted is None:
            self._sorted = sorted(self.rows)
        start = bisect_right(self._sorted, after)
        return [self.rows[each] for each in self._sorted[start : start + count]]

    def matrix(self, name: str) -> tuple[list[Row], npt.NDArray[np.float32]]:
        """The rows that the index of a vector has, and their vectors of shape (n, dim)."""
        if name not in self._matrices:
            size = 4 * self.dims.get(name, 0)
            rows = [each for each in self.rows.values() if len(each.vectors.get(name, b"")) == size > 0]
            joined = b"".join(each.vectors[name] for each in rows)
            self._matrices[name] = rows, np.frombuffer(joined, "<f4").reshape(len(rows), -1 if rows else 0)
        return self._matrices[name]

    def _changed(self) -> None:
        self._sorted = None
        self._matrices.clear()


class Collection:
    """A class and its shards.

    Args:
        described: As REST shows it.
    """

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described
        self.shards: dict[str, Shard] = {}
        if not self.tenants:
            self.shards[""] = Shard(secrets.token_urlsafe(9).replace("-", "a").replace("_", "b"))

    @property
    def name(self) -> str:
        """What the class is called."""
        return str(self.described["class"])

    @property
    def tenants(self) -> bool:
        """Whether it has tenants."""
        return bool(self.described["multiTenancyConfig"]["enabled"])

    def shard(self, tenant: str) -> Shard:
        """The rows of a tenant.

        Raises:
            Refused: There is none of that name, or it is asked for where there are none at all.
        """
        if tenant and not self.tenants:
            raise Refused(f"class {self.name} has multi-tenancy disabled, but request was with tenant")
        if self.tenants and not tenant:
            raise Refused(f"class {self.name} has multi-tenancy enabled, but request was without tenant")
        if tenant not in self.shards:
            raise Refused(f'tenant not found: "{tenant}"')
        return self.shards[tenant]

    def add_tenants(self, names: Sequence[str]) -> None:
        """Adds tenants; those that are there stay as they are.

        Raises:
            Refused: A name that no tenant can have; none of them is added.
        """
        for place, name in enumerate(names):
            schema.require_tenant_name(name, place)
        for name in names:
            self.shards.setdefault(name, Shard(name))

    def train(self) -> None:
        """Trains the quantizers of the shards that have rows enough."""
        wanted = [_ROWS_TO_TRAIN[each] for each in schema.quantizers(self.described) & _ROWS_TO_TRAIN.keys()]
        for shard in self.shards.values():
            shard.trained |= bool(wanted) and len(shard.rows) >= max(wanted)

    def compressed(self, shard: Shard) -> bool:
        """Whether the server says that searches read quantized vectors."""
        wanted = [_ROWS_AT_ONCE[each] for each in schema.quantizers(self.described) & _ROWS_AT_ONCE.keys()]
        return shard.trained or (bool(wanted) and len(shard.rows) >= max(wanted))


class Database:
    """All classes; whoever reads or changes them holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.collections: dict[str, Collection] = {}

    def find(self, name: str) -> Collection | None:
        """A class, whatever its first letter was asked for as."""
        return self.collections.get(schema.capitalised(name))

    def create(self, body: Mapping[str, Any]) -> Collection:
        """Adds a class.

        Raises:
            Refused: The server would not take it, or has it. One with an unknown metric stays all the same.
        """
        described = schema.described(body)
        name = described["class"]
        if name in self.collections:
            raise Refused(f"class name {name} already exists")
        similar = [each for each in self.collections if each.lower() == name.lower()]
        if similar:
            raise Refused(f'class already exists: found similar class "{similar[0]}"')
        made = self.collections[name] = Collection(described)
        for target, config in schema.vector_configs(described).items():
            schema.require_metric(config, name, target, [each.name for each in made.shards.values()])
        return made

    def write(
        self,
        name: str,
        tenant: str,
        key: str,
        properties: Mapping[str, Any],
        vectors: Mapping[str, bytes],
        lengths: dict[Shard, dict[str, int]],
    ) -> None:
        """Writes one object, as a batch does: what it lacks in the schema is added.

        Args:
            name: The class.
            tenant: Its tenant; "" without.
            key: Its UUID.
            properties: Values as JSON has them.
            vectors: By name; "" is the one without.
            lengths: How long the vectors of each shard were when the batch began. Where that is not known
                yet, a row whose vector has another length is refused and kept all the same.

        Raises:
            Refused: It cannot be stored.
        """
        uuid_ = parsed_uuid(key)
        collection = self._with_schema(name, properties)
        kept = checked(collection.described, properties)
        _require_vectors(collection, vectors)
        shard = collection.shard(tenant)
        _require_lengths(lengths.setdefault(shard, dict(shard.dims)), uuid_, vectors)
        nulls = {name for name in schema.properties(collection.described) if is_null(kept.get(name))}
        shard.put(Row(uuid_, kept, _whole(vectors), frozenset(nulls)))

    def _with_schema(self, name: str, properties: Mapping[str, Any]) -> Collection:
        """The class with all the properties of an object; made where it is missing."""
        collection = self.find(name)
        if collection is None:
            with placed("auto-schema: create collection: "):
                collection = self.create({"class": name, "description": _generated(), "properties": []})
        known = schema.properties(collection.described)
        for key, value in properties.items():
            if value is None or schema.uncapitalised(key) in known:
                continue
            sent = {"name": key, "dataType": [guessed_type(value)], "description": _generated()}
            with placed("auto-schema: update collection: "):
                schema.add_property(collection.described, sent)
        return collection


def is_null(value: Any) -> bool:
    """Whether the index takes a value for none."""
    return value in (None, "", [])


def _require_vectors(collection: Collection, vectors: Mapping[str, bytes]) -> None:
    known = schema.vector_configs(collection.described)
    for name in vectors:
        if name in known:
            continue
        if not name:
            raise Refused(f"collection {collection.name} configuration does not have single vector index")
        raise Refused(f"collection {collection.name} does not have configuration for vector {name}")


def _whole(vectors: Mapping[str, bytes]) -> dict[str, bytes]:
    """Vectors without the bytes that make no component, and without those that have none."""
    whole = {name: vector[: len(vector) // 4 * 4] for name, vector in vectors.items()}
    return {name: vector for name, vector in whole.items() if vector}


def _require_lengths(lengths: Mapping[str, int], key: str, vectors: Mapping[str, bytes]) -> None:
    for name, vector in vectors.items():
        length, wanted = len(vector) // 4, lengths.get(name)
        if length and wanted and length != wanted:
            where = f"index {name} for target vector {key}" if name else f"index for {key}"
            raise Refused(
                f"Validate vector {where}: new node has a vector with length {length}. Existing nodes have "
                f"vectors with length {wanted}: vector dimensions do not match the index dimensions",
                status=500,
            )


def _generated() -> str:
    return f"This property was generated by Weaviate's auto-schema feature on {time.ctime()}"
