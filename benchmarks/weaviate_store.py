"""The Weaviate store beside hand-written weaviate-client, on a genuine server.

    python benchmarks/weaviate_store.py                     # starts weaviate-server (or weaviate) from PATH
    python benchmarks/weaviate_store.py 'weaviate://127.0.0.1:8080?grpc_port=50051'      # one that is running

Prints a table and writes results/weaviate_store.json and a figure beside it, and the recall curves as
results/weaviate_recall.json and .png. Collections that it makes are dropped. The exit code is 1 if a target
does not hold, and 77 if there is no server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from support import running, weaviate
from support.harness import Line
from support.report import in_sections
from support.weaviate import WeaviateBench

NO_SERVER = 77  # what test drivers take for "skipped"; the Makefile goes on
SECTIONS: dict[str, Callable[[WeaviateBench], list[Line]]] = {
    "write": weaviate.writes,
    "search": weaviate.searches,
    "scan": weaviate.scans,
    "recall": weaviate.recall,
}


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = running.parser(__doc__, SECTIONS, url="one from PATH is started", dim=384).parse_args()
    if options.url is None and (needed := weaviate.missing()):
        Console(stderr=True).print(f"Nothing was measured: {needed}, or give the URL of a server")
        return NO_SERVER
    with (
        weaviate.serving(options.url) as url,
        WeaviateBench(url, options.rows, options.dim, options.rounds) as bench,
    ):
        lines, sections = in_sections(bench, SECTIONS, options.only)
    return running.reported(
        bench,
        lines,
        sections,
        server="Weaviate",
        beside="weaviate-client",
        names=("weaviate_store", "weaviate_recall"),
        options=options,
        packages=("weaviate-client",),
    )


if __name__ == "__main__":
    sys.exit(main())
