"""The GPU check: does FAISS find on a GPU what it finds on the CPU, and how fast?"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

import vecbridge as vb
from support.gpu import GpuBench
from support.harness import Line, Samples, Target, in_turns, paired, seconds
from vecbridge.indexes import IndexParams
from vecbridge.query import FloatArray

_DIM: Final = 64
_NLIST: Final = 64
QUERIES: Final = 1000
_K: Final = 10
#: Share of the CPU's hits that the GPU must find: rounding may let rows of nearly one distance change places.
_SAME: Final = 0.999
_NEARLY: Final = 0.01  # of the true neighbours, which another training may lose by quantizing otherwise
INDEXES: Final = (vb.IVFFlat(nlist=_NLIST), vb.IVFSQ8(nlist=_NLIST), vb.IVFPQ(nlist=_NLIST, m=16))

Ids = list[list[str]]


def lists(bench: GpuBench) -> list[Line]:
    """Inverted lists: a device searches an index of the CPU, and one that was trained on the device."""
    if reason := _why_not(bench.device):
        bench.details["faiss"] = f"not compared: {reason}"
        return []
    random = np.random.default_rng(5)
    rows = random.standard_normal((bench.rows, _DIM)).astype(np.float32)
    queries = random.standard_normal((QUERIES, _DIM)).astype(np.float32)
    with vb.connect("memory://") as store:
        nearest = _ids(_stored(store, vb.Flat(), rows), queries)
    lines: list[Line] = []
    for index in INDEXES:
        lines += _one_index(bench, index, rows, queries, nearest)
    return lines


def _one_index(
    bench: GpuBench, index: IndexParams, rows: FloatArray, queries: FloatArray, nearest: Ids
) -> list[Line]:
    of_cpu, trained = (bench.work / f"faiss-{index.kind}-{who}" for who in ("cpu", "trained"))
    for place, device in ((of_cpu, "cpu"), (trained, bench.device)):
        with vb.connect(f"faiss://{place}", device=device) as store:
            _stored(store, index, rows)
    with (
        _opened(of_cpu, "cpu") as cpu,
        _opened(of_cpu, bench.device) as device,
        _opened(trained, bench.device) as own,
    ):
        same = _shared(_ids(device, queries), _ids(cpu, queries))
        right = _shared(_ids(own, queries, _NLIST), nearest)
        least = _shared(_ids(cpu, queries, _NLIST), nearest) - _NEARLY
        query = vb.Query(queries, k=_K)
        rates = in_turns(
            {
                name: lambda side=side: len(queries) / seconds(lambda: side.search(query))
                for name, side in (("cpu", cpu), ("device", device))
            },
            bench.rounds,
        )
    return [
        Line(
            "faiss", f"{index.kind}: hits that are the CPU's", "", same,
            target=Target("figure", ">=", _SAME),
        ),
        Line(
            "faiss", f"{index.kind}, trained on the device: true neighbours in all lists", "", right,
            target=Target("figure", ">=", least),
        ),
        paired(
            "faiss", f"{index.kind}: {len(queries):,} queries in one call", "queries/s",
            Samples(tuple(rates["device"])), Samples(tuple(rates["cpu"])), "the CPU",
        ),
    ]  # fmt: skip


def _stored(store: vb.Store, index: IndexParams, rows: FloatArray) -> Any:
    collection = store.create(vb.CollectionSpec.single("rows", dim=_DIM, metric="l2", index=index))
    collection.upsert(vb.batch(collection.spec, id=[f"{number}" for number in range(len(rows))], vector=rows))
    collection.wait_ready()
    return collection


def _opened(place: Path, device: str) -> Any:
    return vb.open(f"faiss://{place}#rows", device=device)


def _ids(collection: Any, queries: FloatArray, nprobe: int | None = None) -> Ids:
    return [list(hits.ids) for hits in collection.search(vb.Query(queries, k=_K, nprobe=nprobe))]


def _shared(some: Ids, others: Ids) -> float:
    """The share of the hits that both have."""
    both = sum(len(set(a) & set(b)) for a, b in zip(some, others, strict=True))
    return both / sum(map(len, others))


def _why_not(device: str) -> str | None:
    """Why FAISS cannot be asked on a device; None where it can."""
    if find_spec("faiss") is None:
        return "FAISS is not installed"
    import faiss

    if device == "cuda" and not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        return "this FAISS sees no GPU"
    return None
