"""What Weaviate can do; readable without its client."""

from __future__ import annotations

from typing import Final

from vecbridge.capabilities import Capabilities
from vecbridge.indexes import HNSW, Auto, Flat

#: Counting over gRPC came with it.
OLDEST_VERSION: Final = (1, 29)
#: The most rows that one query without a cursor returns, and that one delete removes (QUERY_MAXIMUM_RESULTS).
WINDOW: Final = 10_000

CAPABILITIES: Final = Capabilities(
    backend="weaviate",
    indexes=frozenset(each.kind for each in (Auto, Flat, HNSW)),
    quantizers=frozenset({"pq", "sq", "bq", "rq"}),
    max_dim=65_535,
    request_rows=1_000,
    request_bytes=16 << 20,
    max_top_k=WINDOW,
    knobs={"hnsw": frozenset({"stored_ef"})},
    exact_scores=False,
    parallel_requests=8,
)
