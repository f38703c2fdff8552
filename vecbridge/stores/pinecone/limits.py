"""What Pinecone can do, and its numbers; readable without its client.

https://docs.pinecone.io/reference/api/database-limits and Pinecone's OpenAPI description, version 2026-04.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from vecbridge.capabilities import Capabilities, Gap
from vecbridge.indexes import Auto
from vecbridge.schema import CollectionSpec
from vecbridge.stores.pinecone import tags

Transport = Literal["rest", "grpc"]

REQUEST_BYTES: Final = 2 * 1024 * 1024
REQUEST_ROWS: Final = 1_000
ANSWER_BYTES: Final = 4 * 1024 * 1024
METADATA_BYTES: Final = 40 * 1024
ID_BYTES: Final = 512
IDS_LISTED: Final = 100
IDS_DELETED: Final = 1_000
FILTER_VALUES: Final = 10_000
#: Of longer vectors float32 cannot hold the squares and products, of shorter ones not their last digits.
VECTOR_LENGTHS: Final = (1e-17, 1e19)

CAPABILITIES: Final = Capabilities(
    backend="pinecone",
    indexes=frozenset({Auto.kind}),
    ordered_types=frozenset({"int64", "float64", "timestamp"}),
    max_dim=20_000,
    max_vectors=1,
    max_top_k=10_000,
    request_rows=REQUEST_ROWS,
    request_bytes=REQUEST_BYTES,
    # The service takes 50 MB and 100 upserts a second for a namespace. If a request takes 0.3 s, 8 of 2 MB
    # reach the first limit, and 30 small ones the second.
    parallel_requests=8,
    max_parallel_requests=32,
    record_bytes=METADATA_BYTES,
    id_bytes=ID_BYTES,
    text_bytes=40_000,
    vector_lengths=VECTOR_LENGTHS,
    zero_vectors=False,
    filter_depth=12,  # over gRPC a level is up to six nested messages, and protobuf parses a hundred
    consistency="eventual",
    adds_fields=True,
    counts_deletes=False,
    deletes_where=True,
    trust_reads=10.0,
    trust_writes=10.0,
)


def gaps(spec: CollectionSpec) -> Iterator[Gap]:
    """The gaps that no figure of the capabilities tells."""
    if spec.name.endswith("_"):
        detail = "an index is called after its collection, and its name cannot end in -"
        yield Gap("index", spec.name, detail, blocking=True)
    if (needed := len(tags.chunks(spec))) > tags.MOST:
        detail = f"the spec takes {needed} tags of an index, which has {tags.MOST} for it"
        yield Gap("size", spec.name, detail, blocking=True)
