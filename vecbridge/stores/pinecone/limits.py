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
NAME_LENGTH: Final = 45


class PineconeCapabilities(Capabilities):
    """Capabilities, with the gaps that only Pinecone has."""

    __slots__ = ()

    def _gaps(self, spec: CollectionSpec) -> Iterator[Gap]:
        yield from Capabilities._gaps(self, spec)
        if spec.name.endswith("_"):
            detail = "an index is called after its collection, and its name cannot end in -"
            yield Gap("index", spec.name, detail, blocking=True)
        if (needed := len(tags.chunks(spec))) > tags.MOST:
            detail = f"the spec takes {needed} tags of an index, which has {tags.MOST} for it"
            yield Gap("size", spec.name, detail, blocking=True)
        if spec.id_type == "string":
            detail = f"ids of more than {ID_BYTES} bytes of ASCII are refused; é counts as %C3%A9"
            yield Gap("id", "id", detail, blocking=False)
        if spec.fields:
            detail = f"records whose fields take more than {METADATA_BYTES:,} bytes of JSON are refused"
            yield Gap("size", spec.name, detail, blocking=False)
        for vector in spec.vectors:
            detail = "vectors that are all zeros are refused"
            yield Gap(f"vector:{vector.name}", vector.name, detail, blocking=False)


#: request_rows and request_bytes are what one upsert may well take: it is packed into requests by what
#: records take as they are sent, and the more there are of them, the less room the last one leaves.
CAPABILITIES: Final[Capabilities] = PineconeCapabilities(
    backend="pinecone",
    indexes=frozenset({Auto.kind}),
    ordered_types=frozenset({"int64", "float64"}),
    max_dim=20_000,
    max_vectors=1,
    request_rows=10_000,
    request_bytes=32 << 20,
    max_top_k=10_000,
    text_bytes=40_000,
    filter_depth=12,  # over gRPC a level is up to six nested messages, and protobuf parses a hundred
    consistency="eventual",
    parallel_requests=8,
)
