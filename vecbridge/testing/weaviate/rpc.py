"""The gRPC calls: rows in and out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import grpc

from vecbridge.stores.weaviate.stubs import (
    aggregate_pb2,
    batch_delete_pb2,
    batch_pb2,
    search_get_pb2,
    tenants_pb2,
    weaviate_pb2_grpc,
)
from vecbridge.testing.weaviate import filters, queries
from vecbridge.testing.weaviate.errors import NotEmulated, Refused, Unsearchable, placed
from vecbridge.testing.weaviate.messages import require_only, result, sent_properties, sent_vectors
from vecbridge.testing.weaviate.objects import Collection, Database, Shard

_REFUSED: Final = grpc.StatusCode.UNKNOWN  # whatever it is
_UNEMULATED: Final = grpc.StatusCode.UNIMPLEMENTED


def _answered(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """A call of the service: whoever calls is known, nobody else is served meanwhile, refusals are told."""

    @wraps(method)
    def call(self: Service, request: Any, context: Any) -> Any:
        started = time.perf_counter()
        try:
            self.require_key(dict(context.invocation_metadata()).get("authorization", ""))
            with self.database.lock:
                reply = method(self, request)
        except Refused as refused:
            context.abort(_UNEMULATED if isinstance(refused, NotEmulated) else _REFUSED, refused.message)
        reply.took = time.perf_counter() - started
        return reply

    return call


class Service(weaviate_pb2_grpc.WeaviateServicer):  # type: ignore[misc]
    """The calls of ``weaviate.v1.Weaviate`` that vecbridge makes.

    Args:
        database: What is served.
        api_key: The key that it takes; "" takes anybody.
    """

    def __init__(self, database: Database, api_key: str) -> None:
        self.database = database
        self._wanted = f"Bearer {api_key}" if api_key else ""

    def require_key(self, authorization: str) -> None:
        """Refuses whoever has another key.

        Raises:
            Refused: It is not the one.
        """
        if self._wanted and authorization != self._wanted:
            raise Refused("extract auth: unauthorized: invalid api key")

    @_answered
    def Search(self, request: Any) -> Any:
        """Rows near a vector, rows that match, or rows from a UUID on."""
        collection = self._collection(request.collection)
        kinds, found = queries.answered(collection, request)
        described, asked = collection.described, request.metadata
        return search_get_pb2.SearchReply(
            results=[result(row, described, kinds, asked, distance) for row, distance in found]
        )

    @_answered
    def BatchObjects(self, request: Any) -> Any:
        """Writes rows, and tells which of them it did not take."""
        sent = [(each, sent_properties(each), sent_vectors(each)) for each in request.objects]
        self._add_tenants(request.objects)
        errors = []
        lengths: dict[Shard, dict[str, int]] = {}
        for place, (each, properties, vectors) in enumerate(sent):
            try:
                self.database.write(each.collection, each.tenant, each.uuid, properties, vectors, lengths)
            except Refused as refused:
                errors.append(batch_pb2.BatchObjectsReply.BatchError(index=place, error=refused.message))
        return batch_pb2.BatchObjectsReply(errors=errors)

    @_answered
    def BatchDelete(self, request: Any) -> Any:
        """Removes the rows that match, 10,000 at most."""
        where = "batch delete params: "
        collection = self._collection(request.collection, where)
        if not request.HasField("filters"):
            raise Refused(f"{where}no filters in batch delete request")
        finding = "batch delete: cannot find objects: "
        with placed(finding):
            shard = collection.shard(request.tenant)
        searching = f'{finding}find matching doc ids in shard "{shard.name}": docIds: '
        with placed(searching, Unsearchable), placed(where, but=Unsearchable):
            match = filters.of_request(request, collection.described)
        uuids = [row.uuid for row in filters.matching(shard.rows.values(), match)]
        removed = uuids[: queries.WINDOW]
        if not request.dry_run:
            shard.remove(removed)
        return batch_delete_pb2.BatchDeleteReply(matches=len(uuids), successful=len(removed))

    @_answered
    def TenantsGet(self, request: Any) -> Any:
        """Names of the tenants."""
        where = "get tenants: failed to execute query: could not get tenants: could not get tenants: "
        if request.HasField("names") and not request.names.values:
            raise Refused("get tenants: must specify at least one tenant name")
        collection = self.database.find(request.collection)
        if collection is None:
            raise Refused(f"{where}class not found")
        if not collection.tenants:
            raise Refused(f'{where}multi-tenancy is not enabled for class "{collection.name}"')
        wanted = set(request.names.values) if request.HasField("names") else set(collection.shards)
        hot = tenants_pb2.TENANT_ACTIVITY_STATUS_HOT
        return tenants_pb2.TenantsGetReply(
            tenants=[
                tenants_pb2.Tenant(name=each, activity_status=hot)
                for each in collection.shards
                if each in wanted
            ]
        )

    @_answered
    def Aggregate(self, request: Any) -> Any:
        """How many rows there are, or match."""
        require_only(request, ("collection", "tenant", "objects_count", "filters"))
        collection = self._collection(request.collection, "parse params: ")
        reply = aggregate_pb2.AggregateReply()
        reply.single_result.objects_count = 0
        if not request.objects_count:
            return reply
        with placed("aggregate: "):
            shard = collection.shard(request.tenant)
        searching = f"aggregate: shard {shard.name}: retrieve doc IDs from searcher: "
        with placed(searching, Unsearchable), placed("parse params: extract filters: ", but=Unsearchable):
            match = filters.of_request(request, collection.described)
        reply.single_result.objects_count = len(filters.matching(shard.rows.values(), match))
        return reply

    def _collection(self, name: str, where: str = "") -> Collection:
        collection = self.database.find(name)
        if collection is None:
            raise Refused(f"{where}could not find class {name} in schema")
        return collection

    def _add_tenants(self, objects: Any) -> None:
        """Adds the tenants of a batch where a class has them added by whoever writes."""
        wanted: dict[str, dict[str, None]] = {}
        for each in objects:
            if each.tenant:
                wanted.setdefault(each.collection, {})[each.tenant] = None
        for name, tenants in wanted.items():
            collection = self.database.find(name)
            if collection is None or not collection.described["multiTenancyConfig"]["autoTenantCreation"]:
                continue
            with placed(f'auto create tenants: auto-tenant: add tenants to collection "{name}": '):
                collection.add_tenants(list(tenants))
