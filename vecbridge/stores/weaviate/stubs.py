"""The gRPC stubs that weaviate-client brings along; importing this imports the client."""

from __future__ import annotations

import warnings

# authlib, which the client imports and this adapter has no use for, warns of its own future
with warnings.catch_warnings(record=True):
    from weaviate.proto.v1 import (
        aggregate_pb2,
        base_pb2,
        base_search_pb2,
        batch_delete_pb2,
        batch_pb2,
        search_get_pb2,
        tenants_pb2,
        weaviate_pb2_grpc,
    )

__all__ = [
    "aggregate_pb2",
    "base_pb2",
    "base_search_pb2",
    "batch_delete_pb2",
    "batch_pb2",
    "search_get_pb2",
    "tenants_pb2",
    "weaviate_pb2_grpc",
]
