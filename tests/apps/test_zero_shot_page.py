"""The page of zero-shot classification shows the figures that the benchmark wrote."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_the_page_are_those_of_the_benchmark() -> None:
    spec = importlib.util.spec_from_file_location(
        "generate_performance", ROOT / "docs" / "generate_performance.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = json.loads((ROOT / "benchmarks" / "results" / "zero_shot.json").read_text("utf-8"))
    page = (ROOT / "docs" / "zero-shot.md").read_text("utf-8")
    tables = list(module.flat_tables(result))
    assert [title for title, _ in tables] == ["recall at 1", "none of these"]
    for title, records in tables:
        rows = (map(module.cell, record.values()) for record in records)
        assert module.table(list(records[0]), rows) in page, f"copy the table {title!r} from performance.md"
