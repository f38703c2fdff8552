"""Writes support-matrix.md and migration-matrix.md from the stores' capabilities; needs no SDK.

python docs/generate_matrix.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from vecbridge.capabilities import FIELD_TYPES, FILTER_OPERATORS, ORDERED_TYPES, Capabilities
from vecbridge.migration.losses import of_target
from vecbridge.registry import BUILT_IN, driver_class
from vecbridge.schema import CollectionSpec, Metric

PAGE = Path(__file__).with_name("support-matrix.md")
HEAD = """\
# What each store can do

Generated from the code by `docs/generate_matrix.py`. The conformance suite tests everything that is declared
here; everything else raises `UnsupportedError`. Pinecone is tested only on an emulator, never on the live
service. The column `milvus` is the most that a server can do: `diskann` and the HNSW quantizers need a later
version than 2.3.5, the one that is tested.

"""
EVERY_TYPE = {f"f{number}": type for number, type in enumerate(sorted(FIELD_TYPES))}
RICH = [
    CollectionSpec.single("rich", dim=2, fields=EVERY_TYPE, metric=metric)
    for metric in (Metric.COSINE, Metric.DOT)
]
MIGRATION_PAGE = Path(__file__).with_name("migration-matrix.md")
MIGRATION_HEAD = """\
# What a migration keeps

Generated from the code by `docs/generate_matrix.py`, for collections that vecbridge made.
`tests/migration/test_matrix.py` moves records of every field type, in two namespaces, over every pair and
back, and finds them as they were: on FAISS, milvus-lite, Milvus 2.3.5, Weaviate, snapshots, and Pinecone's
emulator.

## Indexes

What the source can build and the target cannot. The plan names it as `index` or `quantization`; once that is
allowed, the target builds the nearest that it has, `auto` where there is none. Everything else of the schema
is kept by every pair.

"""
LIMITS_HEAD = """
## Limits to single records

What a target refuses whatever the source is. A plan names those that a look at the records has not ruled out.

"""
KINDS = ("auto", "flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw", "scann", "diskann")


def main() -> None:
    """Write the pages."""
    PAGE.write_text(page(), encoding="utf-8")
    MIGRATION_PAGE.write_text(migration_page(), encoding="utf-8")


def page() -> str:
    """The page as Markdown."""
    stores: dict[str, Capabilities] = {name: driver_class(name).capabilities for name in sorted(BUILT_IN)}
    lines = [line("", (f"`{name}`" for name in stores)), "|---" * (len(stores) + 1) + "|"]
    lines.append(line("extra to install", (listed(filter(None, [BUILT_IN[name].extra])) for name in stores)))
    lines += [line(title, map(show, stores.values())) for title, show in rows().items()]
    return HEAD + "\n".join(lines) + "\n"


def migration_page() -> str:
    """The page of what each pair keeps, as Markdown."""
    stores = {name: driver_class(name).capabilities for name in sorted(BUILT_IN) if name != "memory"}
    lines = [line("from \\ to", (f"`{name}`" for name in stores)), "|---" * (len(stores) + 1) + "|"]
    for name, source in stores.items():
        lines.append(line(f"`{name}`", (listed(lost(source, target)) for target in stores.values())))
    limits = [line("", ["refuses"]), "|---|---|"]
    for name, target in stores.items():
        losses = [loss for spec in RICH for loss in of_target(target.check(spec), spec, {})]
        found = dict.fromkeys(f"`{loss.kind}`: {loss.detail}" for loss in losses)
        limits.append(line(f"`{name}`", ["<br>".join(found) or "nothing"]))
    return MIGRATION_HEAD + "\n".join(lines) + "\n" + LIMITS_HEAD + "\n".join(limits) + "\n"


def lost(source: Capabilities, target: Capabilities) -> list[str]:
    """Indexes and quantizers of one store that another does not have."""
    kinds = [kind for kind in KINDS if kind in source.indexes - target.indexes]
    return kinds + [f"hnsw {name}" for name in sorted(source.quantizers - target.quantizers)]


def line(title: str, cells: Iterable[str]) -> str:
    """One line of the table."""
    return " | ".join(["| " + title, *cells]) + " |"


def rows() -> dict[str, Callable[[Capabilities], str]]:
    """Title and content of each row."""
    return {
        "indexes": lambda each: listed(kind for kind in KINDS if kind in each.indexes),
        "HNSW quantizers": lambda each: listed(sorted(each.quantizers)),
        "metrics": lambda each: listed(metric.value for metric in Metric if metric in each.metrics),
        "filter operators": lambda each: all_or(each.filter_operators, FILTER_OPERATORS),
        "filter operators on ids": lambda each: " ".join(f"`{op}`" for op in sorted(each.id_operators)),
        "types with an order": lambda each: all_or(each.ordered_types, ORDERED_TYPES),
        "field types": lambda each: all_or(each.field_types, FIELD_TYPES),
        "id types": lambda each: listed(sorted(each.id_types, reverse=True)),
        "null apart from missing and empty": lambda each: yes(each.nulls),
        "integers, bits": lambda each: str(each.int_bits),
        "query knobs": knobs,
        "writes visible": lambda each: (
            "when acknowledged" if each.consistency == "strong" else "after `flush()`"
        ),
        "namespaces": lambda each: yes(each.namespaces),
        "vectors come back bit by bit": lambda each: yes(each.lossless_vectors),
        "exact scores on quantised indexes": lambda each: yes(each.exact_scores),
        "a batch is written whole or not at all": lambda each: yes(each.atomic_batch),
        "`on_conflict` looks and writes in one step": lambda each: yes(each.atomic_conflict),
        "fields can be added": lambda each: yes(each.adds_fields),
        "write requests in flight, at first": lambda each: str(each.parallel_requests),
        "write requests in flight, at most": lambda each: str(each.requests_at_most),
        "scans can be split": lambda each: yes(each.splits),
        "`compact()`": lambda each: yes(each.compacts),
        "`repair()`": lambda each: yes(each.repairs),
        "deletes return a count": lambda each: yes(each.counts_deletes),
        "most vector fields": lambda each: limit(each.max_vectors),
        "longest vector": lambda each: limit(each.max_dim),
        "length of vectors under cosine": lengths,
        "vectors of zeros, not under cosine": lambda each: yes(each.zero_vectors),
        "largest k": lambda each: limit(each.max_top_k),
        "deepest filter, levels": lambda each: limit(each.filter_depth),
        "longest filter, comparisons": lambda each: limit(each.filter_leaves),
        "longest string, bytes": lambda each: limit(each.text_bytes),
        "longest record without vectors, bytes": lambda each: limit(each.record_bytes),
        "most rows a request": lambda each: limit(each.request_rows),
        "most bytes a request": lambda each: limit(each.request_bytes),
    }


def listed(values: Iterable[str]) -> str:
    """Values side by side."""
    return ", ".join(f"`{value}`" for value in values) or "none"


def all_or(values: frozenset[str], known: frozenset[str]) -> str:
    """Values, or "all"."""
    return "all" if values >= known else listed(sorted(values))


def knobs(capabilities: Capabilities) -> str:
    """Query knobs by kind of index."""
    pairs = [
        f"`{kind}`: {listed(sorted(names))}" for kind, names in sorted(capabilities.knobs.items()) if names
    ]
    return "; ".join(pairs) or "none"


def lengths(capabilities: Capabilities) -> str:
    """The range of the lengths of vectors."""
    bounds = capabilities.vector_lengths
    return "any" if bounds is None else f"{bounds[0]:.2g} to {bounds[1]:.2g}"


def yes(value: bool) -> str:
    """A yes or a no."""
    return "yes" if value else "no"


def limit(value: int | None) -> str:
    """A limit with commas between thousands."""
    return "no limit" if value is None or value == sys.maxsize else f"{value:,}"


if __name__ == "__main__":
    main()
