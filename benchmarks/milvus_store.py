"""The Milvus store beside hand-written pymilvus and langchain-milvus, on a server that is running.

    python benchmarks/milvus_store.py                                 # milvus-lite, in a temporary directory
    python benchmarks/milvus_store.py milvus://127.0.0.1:19530        # after `milvus-server` of milvus==2.3.5

Prints a table and writes results/milvus_store-SERVER.json and a figure beside it, and the recall curves as
results/milvus_recall-SERVER.json and .png. Collections that it makes are dropped. The exit code is 1 if a
target does not hold.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from support import milvus, running
from support.harness import Line
from support.milvus import MilvusBench
from support.report import in_sections

HERE = Path(__file__).parent
SECTIONS: dict[str, Callable[[MilvusBench], list[Line]]] = {
    "write": milvus.writes,
    "search": milvus.searches,
    "scan": milvus.scans,
    "recall": milvus.recall,
}


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = running.parser(__doc__, SECTIONS, url="milvus-lite", dim=256).parse_args()
    work = tempfile.TemporaryDirectory(prefix=".bench-", dir=HERE)
    url = options.url or f"milvus+lite://{work.name}/bench.db"
    with work, MilvusBench(url, options.rows, options.dim, options.rounds) as bench:
        lines, sections = in_sections(bench, SECTIONS, options.only)
    kind = "lite" if bench.lite else "server"
    return running.reported(
        bench,
        lines,
        sections,
        server="milvus-lite" if bench.lite else "Milvus",
        beside="pymilvus",
        names=(f"milvus_store-{kind}", f"milvus_recall-{kind}"),
        options=options,
        packages=("pymilvus", "langchain-milvus", *(["milvus-lite"] if bench.lite else [])),
    )


if __name__ == "__main__":
    sys.exit(main())
