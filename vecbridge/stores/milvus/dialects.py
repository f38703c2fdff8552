"""What each kind of Milvus can do; readable without pymilvus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from vecbridge.capabilities import Capabilities
from vecbridge.indexes import DISKANN, HNSW, IVFPQ, IVFSQ8, SCANN, Auto, Flat, IVFFlat

INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Dialect:
    """A kind of Milvus.

    Attributes:
        capabilities: What it can do.
        seals: Whether rows reach an index in sealed segments, some time after they were written.
        filters_after_index: Whether an index is asked first and its answers are filtered then, so that a
            selective filter leaves too few.
        reads_all: Whether a query costs a pass over all rows, however few it answers with.
        merges_upserts: Whether an upsert leaves keys of the dynamic field that it does not name.
        largest_id: The largest int64 id that it gives back.
        nullable_fields: Whether a typed field can be null.
        list_elements: Elements that a list in a typed column may have, or None.
        indexes_arrays: Whether it has a scalar index for lists.
    """

    capabilities: Capabilities
    seals: bool
    filters_after_index: bool
    reads_all: bool = False
    merges_upserts: bool = False
    largest_id: int = INT64_MAX
    nullable_fields: bool = True
    list_elements: int | None = 4_096
    indexes_arrays: bool = True


_KNOBS: Final = {
    "hnsw": frozenset({"ef"}),
    "ivf_flat": frozenset({"nprobe"}),
    "ivf_sq8": frozenset({"nprobe"}),
    "ivf_pq": frozenset({"nprobe"}),
    "scann": frozenset({"nprobe"}),
}

#: Standalone and cluster of 2.5 and later. Earlier ones have no compressed HNSW (:data:`BEFORE_2_5`); 2.3
#: refuses a second vector field, too, and never answers a search of a DISKANN (:data:`SINGLE_VECTOR`).
SERVER: Final = Dialect(
    Capabilities(
        backend="milvus",
        indexes=frozenset(index.kind for index in (Auto, Flat, IVFFlat, IVFSQ8, IVFPQ, HNSW, SCANN, DISKANN)),
        quantizers=frozenset({"sq", "pq"}),
        max_dim=32_768,
        max_vectors=4,
        max_top_k=16_384,
        request_rows=5_000,
        request_bytes=16 << 20,
        # On two cores a hand-written loop was fastest with four requests of 1,000 rows in flight
        # (benchmarks/milvus_store.py), and ours are five times as large; a server of more cores takes more.
        parallel_requests=2,
        max_parallel_requests=8,
        id_operators=frozenset({"==", "!=", "in", "<", "<=", ">", ">="}),
        record_bytes=65_536,
        text_bytes=65_000,
        filter_depth=40,  # 2.3.5 searches with 47 levels and not with 48, while it counts with more than 64
        filter_leaves=3_000,  # half a second, as a balanced tree
        vector_lengths=(1e-18, 1.8e19),  # their squares as float32 neither vanish nor overflow
        knobs=_KNOBS,
        consistency="eventual",
        exact_scores=False,
        adds_fields=True,
        counts_where=True,
    ),
    seals=True,
    filters_after_index=False,
    largest_id=INT64_MAX - 1,
)

BEFORE_2_5: Final = replace(
    SERVER,
    capabilities=replace(SERVER.capabilities, quantizers=frozenset()),
    nullable_fields=False,
)

SINGLE_VECTOR: Final = replace(
    BEFORE_2_5,
    capabilities=replace(
        BEFORE_2_5.capabilities,
        indexes=BEFORE_2_5.capabilities.indexes - {DISKANN.kind},
        max_vectors=1,
    ),
)

_LITE_INDEXES: Final = frozenset(index.kind for index in (Auto, Flat, IVFFlat, IVFSQ8, HNSW))

LITE: Final = Dialect(
    replace(
        SERVER.capabilities,
        backend="milvus-lite",
        indexes=_LITE_INDEXES,
        quantizers=frozenset({"sq"}),
        knobs={kind: knobs for kind, knobs in _KNOBS.items() if kind in _LITE_INDEXES},
        consistency="strong",
        filter_depth=64,
        parallel_requests=1,
        max_parallel_requests=1,  # it runs in this process and writes one request after the other
    ),
    seals=False,
    filters_after_index=True,
    reads_all=True,
    merges_upserts=True,
    list_elements=None,
    indexes_arrays=False,
)


def of_server(version: str) -> Dialect:
    """The dialect of a server, by its version ("v2.3.5", "2.6.1-gpu", "milvus_lite-3.2.2")."""
    if version.startswith("milvus_lite"):
        return LITE
    numbers = version.lstrip("v").split("-")[0].split(".")
    try:
        release = tuple(map(int, numbers[:2]))
    except ValueError:
        return SERVER
    return SINGLE_VECTOR if release < (2, 4) else BEFORE_2_5 if release < (2, 5) else SERVER
