"""Puts the results of the benchmarks into the site: the page of figures links to them beside the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
WIDE = {"migration-matrix.md", "support-matrix.md"}
IN_REPOSITORY, IN_SITE = "../benchmarks/results/", "results/"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds plots and JSON."""
    for path in sorted(RESULTS.iterdir()):
        if path.suffix in {".png", ".json"}:
            files.append(File.generated(config, IN_SITE + path.name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Leads links to where the files are in the site; gives wide tables the room of the table of contents."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    return markdown.replace(f"]({IN_REPOSITORY}", f"]({IN_SITE}")
