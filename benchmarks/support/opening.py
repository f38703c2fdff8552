"""A collection ten times as large: opening it in a fresh process, and filters never seen before."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import vecbridge as vb
from support import data
from support.bench import HNSW, Bench, raw_hnsw
from support.harness import Line, Samples, Target, child, compared, in_turns, seconds
from vecbridge import field
from vecbridge.filters import Filter
from vecbridge.indexes import IndexParams
from vecbridge.store import Collection

NAME = "large"
OPENINGS = 5
FILTERS = 15  # of each kind
NLIST = 1024
_PER_LIST = 64
LIMIT = Target("figure", "<=", 20)


def large(bench: Bench) -> list[Line]:
    """Opening and fresh filters."""
    mixture = data.Mixture(bench.large_dim)
    spec = data.spec(NAME, bench.large_dim, _index(bench))
    with bench.directory() as path:
        vectors, columns = [], []
        with vb.connect(f"faiss://{path}/store") as store:
            collection = store.create(spec)
            for chunk in data.chunks(spec, mixture, bench.large_rows):
                collection.upsert(chunk)
                vectors.append(vb.vectors(chunk))
                columns.append(chunk.drop_columns(["id", "vector"]))
            collection.wait_ready()
        raw = path / "raw.index"
        faiss.write_index(_raw_index(bench, np.concatenate(vectors)), str(raw))
        del vectors
        bench.details["large"] = {
            "rows": bench.large_rows,
            "dim": bench.large_dim,
            "index": bench.large_index,
        }
        opening = _opening(bench, path, raw, mixture)
        with vb.open(f"faiss://{path}/store#{NAME}") as collection:
            table = pa.Table.from_batches(columns).combine_chunks()
            return [opening, *_fresh_filters(bench, collection, table, mixture)]


def _index(bench: Bench) -> IndexParams:
    if bench.large_index == "hnsw":
        return HNSW
    return vb.Flat() if bench.large_index == "flat" else vb.IVFFlat(nlist=_lists(bench))


def _lists(bench: Bench) -> int:
    return min(NLIST, bench.large_rows // _PER_LIST)


def _raw_index(bench: Bench, vectors: np.ndarray) -> Any:
    if bench.large_index == "hnsw":
        index = raw_hnsw(bench.large_dim)
    elif bench.large_index == "flat":
        index = faiss.IndexFlatIP(bench.large_dim)
    else:
        quantizer = faiss.IndexFlatIP(bench.large_dim)
        index = faiss.IndexIVFFlat(quantizer, bench.large_dim, _lists(bench), faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
    index.add(vectors)
    return index


def _opening(bench: Bench, path: Path, raw: Path, mixture: data.Mixture) -> Line:
    query = path / "query.npy"
    np.save(query, mixture.queries(1))
    jobs = {
        "own": partial(child, "open", f"faiss://{path}/store#{NAME}", str(query)),
        "raw": partial(child, "open-raw", str(raw), str(query)),
    }
    in_turns(jobs, 1)  # so that every file is in the page cache
    runs = in_turns(jobs, OPENINGS)
    bench.details["opening"] = {
        name: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for name, each in runs.items()
    }
    totals = {name: Samples(tuple(run["total_s"] for run in each)) for name, each in runs.items()}
    return compared("open", f"{bench.large_rows:,} rows: connect, open, first search", "s", totals["own"],
                    totals["raw"], "read_index and first search", Target("figure", "<=", 0.5))  # fmt: skip


def _fresh_filters(
    bench: Bench, collection: Collection, table: pa.Table, mixture: data.Mixture
) -> list[Line]:
    """Each filter is asked for once, with literals that no other has."""
    query = mixture.queries(1)
    _search(collection, query, None)
    collection.count(field("year") == 0)  # whatever is set up once
    lines, searches = [], []
    for name, make in KINDS.items():
        literals = make(bench.large_rows)
        own, raw = [], []
        for _ in range(FILTERS):
            filter, kernel = next(literals)
            times = in_turns({"own": partial(seconds, partial(collection.count, filter)),
                              "raw": partial(seconds, partial(kernel, table))}, 1)  # fmt: skip
            if collection.count(filter) != kernel(table):
                raise RuntimeError(f"vecbridge and Arrow disagree on {filter}")
            own.append(1000 * times["own"][0])
            raw.append(1000 * times["raw"][0])
        fresh = [next(literals)[0] for _ in range(FILTERS)]
        what = f"{bench.large_rows:,} rows, {name}"
        against = "Arrow kernels in memory"
        lines.append(compared("fresh", f"count, {what}", "ms", *_both(own, raw), against, LIMIT))
        own, raw = [], []
        for filter in fresh:
            times = in_turns({"raw": partial(_search, collection, query, None),
                              "own": partial(_search, collection, query, filter)}, 1)  # fmt: skip
            own += times["own"]
            raw += times["raw"]
        searches.append(compared("fresh", f"search, {what}", "ms", *_both(own, raw), "unfiltered", LIMIT))
    return lines + searches


def _search(collection: Collection, query: np.ndarray, filter: Filter | None) -> float:
    return 1000 * seconds(partial(collection.search, vb.Query(query, filter=filter)))


def _both(own: list[float], raw: list[float]) -> tuple[Samples, Samples]:
    return Samples(tuple(own)), Samples(tuple(raw))


Fresh = Iterator[tuple[Filter, Callable[[pa.Table], int]]]


def _years(_: int) -> Fresh:
    for low in count(1100, 7):
        yield (field("year") >= low) & (field("year") < low + 100), partial(_in_years, low, 100)


def _titles(rows: int) -> Fresh:
    for number in count(3, rows // 100):
        name = f"{data.title(number % data.CLUSTERS)} picture {number}"
        yield field("title") == name, partial(_titled, name)


def _tags(_: int) -> Fresh:
    for tag in data.TAGS:
        yield field("tags").contains(tag), partial(_tagged, tag)


def _combined(_: int) -> Fresh:
    for low, tag in zip(count(1103, 7), data.TAGS[100:], strict=False):
        filter = (field("year") >= low) & (field("year") < low + 300) & field("tags").contains(tag)
        yield filter & ~field("title").isin(["a", tag]), partial(_all_of, low, tag)


KINDS: dict[str, Callable[[int], Fresh]] = {
    "range of integers": _years,
    "one string": _titles,
    "list contains": _tags,
    "all three": _combined,
}


def _in_years(low: int, span: int, table: pa.Table) -> int:
    return _count(_year_mask(low, span, table))


def _titled(name: str, table: pa.Table) -> int:
    return _count(pc.equal(table["title"], name))


def _tagged(tag: str, table: pa.Table) -> int:
    return _count(_tag_mask(tag, table))


def _all_of(low: int, tag: str, table: pa.Table) -> int:
    titles = pc.invert(pc.is_in(table["title"], value_set=pa.array(["a", tag])))
    return _count(pc.and_(pc.and_(_year_mask(low, 300, table), _tag_mask(tag, table)), titles))


def _year_mask(low: int, span: int, table: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(table["year"], low), pc.less(table["year"], low + span))


def _tag_mask(tag: str, table: pa.Table) -> pa.Array:
    [tags] = table["tags"].chunks
    mask = np.zeros(len(tags), np.bool_)
    parents = pc.list_parent_indices(tags).to_numpy()
    mask[parents[pc.equal(tags.flatten(), tag).to_numpy(zero_copy_only=False)]] = True
    return pa.array(mask)


def _count(mask: pa.Array | pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
