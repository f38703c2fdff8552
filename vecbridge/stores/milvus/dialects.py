"""What each kind of Milvus can do; readable without pymilvus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from vecbridge.capabilities import Capabilities
from vecbridge.indexes import HNSW, IVFPQ, IVFSQ8, Auto, Flat, IVFFlat

INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Dialect:
    """A kind of Milvus.

    Attributes:
        capabilities: What it can do.
        seals: Whether rows reach an index in sealed segments, some time after they were written.
        filters_after_index: Whether an index is asked first and its answers are filtered then, so that a
            selective filter leaves too few.
        merges_upserts: Whether an upsert leaves keys of the dynamic field that it does not name.
        largest_id: The largest int64 id that it gives back.
    """

    capabilities: Capabilities
    seals: bool
    filters_after_index: bool
    merges_upserts: bool = False
    largest_id: int = INT64_MAX


_KNOBS: Final = {
    "hnsw": frozenset({"ef"}),
    "ivf_flat": frozenset({"nprobe"}),
    "ivf_sq8": frozenset({"nprobe"}),
    "ivf_pq": frozenset({"nprobe"}),
}

#: Standalone and cluster. 2.3 refuses a second vector field, which :data:`SINGLE_VECTOR` says.
SERVER: Final = Dialect(
    Capabilities(
        backend="milvus",
        indexes=frozenset(each.kind for each in (Auto, Flat, IVFFlat, IVFSQ8, IVFPQ, HNSW)),
        max_dim=32_768,
        max_vectors=4,
        request_rows=5_000,
        request_bytes=16 << 20,
        max_top_k=16_384,
        text_bytes=65_000,
        knobs=_KNOBS,
        consistency="eventual",
        exact_scores=False,
        parallel_requests=8,
    ),
    seals=True,
    filters_after_index=False,
    largest_id=INT64_MAX - 1,
)

SINGLE_VECTOR: Final = replace(SERVER, capabilities=replace(SERVER.capabilities, max_vectors=1))

LITE: Final = Dialect(
    replace(
        SERVER.capabilities,
        backend="milvus-lite",
        indexes=SERVER.capabilities.indexes - {IVFPQ.kind},
        knobs={kind: knobs for kind, knobs in _KNOBS.items() if kind != IVFPQ.kind},
        consistency="strong",
        parallel_requests=1,
    ),
    seals=False,
    filters_after_index=True,
    merges_upserts=True,
)


def of_server(version: str) -> Dialect:
    """The dialect of a server, from what it says of its version ("v2.3.5", "2.6.1-gpu")."""
    numbers = version.lstrip("v").split("-")[0].split(".")
    try:
        known = tuple(int(each) for each in numbers[:2])
    except ValueError:
        return SERVER
    return SINGLE_VECTOR if known < (2, 4) else SERVER
