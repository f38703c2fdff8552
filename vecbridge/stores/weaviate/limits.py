"""What Weaviate can do; readable without its client."""

from __future__ import annotations

from typing import Final

from vecbridge.capabilities import Capabilities
from vecbridge.indexes import HNSW, Auto, Flat

#: The most rows that one query without a cursor returns, and that one delete removes (QUERY_MAXIMUM_RESULTS).
WINDOW: Final = 10_000

CAPABILITIES: Final = Capabilities(
    backend="weaviate",
    indexes=frozenset({Auto.kind, Flat.kind, HNSW.kind}),
    quantizers=frozenset({"pq", "sq", "bq", "rq"}),
    max_dim=65_535,
    request_rows=1_000,
    request_bytes=16 << 20,
    max_top_k=WINDOW,
    knobs={"hnsw": frozenset({"stored_ef"})},
    exact_scores=False,
    # The server builds its graph on every core: on two cores the client's own batches are fastest with two to
    # four requests in flight (benchmarks/weaviate_store.py); a server of more cores takes more.
    parallel_requests=3,
    max_parallel_requests=8,
    # its float32 sums of squares overflow beyond, and are rounded to nothing below, in 65,535 dimensions
    vector_lengths=(1e-18, 1.8e19),
    adds_fields=True,
    deletes_where=True,
    counts_where=True,
    splits=True,
    repairs=True,
)
