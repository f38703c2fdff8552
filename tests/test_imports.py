"""What importing vecbridge brings along; the time that it takes is in benchmarks/import_cost.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("faiss", "lancedb", "milvus_lite", "pinecone", "pymilvus", "weaviate"),
    *("huggingface_hub", "onnx", "onnxruntime", "PIL", "tokenizers", "torch", "transformers"),
    *("scipy", "sqlglot"),
}
ARRAYS = {"numpy", "pandas", "pyarrow"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_vecbridge_imports_no_sdk_and_no_arrays() -> None:
    assert modules_after("import vecbridge") & (HEAVY | ARRAYS | {"pydantic", "rich", "typer"}) == set()


def test_describing_a_collection_imports_no_sdk() -> None:
    loaded = modules_after("import vecbridge as vb; vb.CollectionSpec.single('photos', dim=4)")
    assert loaded & HEAVY == set()


def test_connecting_imports_only_the_store_asked_for() -> None:
    assert modules_after("import vecbridge as vb; vb.connect('memory://').close()") & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["index", "--help"]])
def test_asking_for_help_imports_no_sdk_and_no_arrays(arguments: list[str]) -> None:
    run = f"""
import contextlib, sys
from vecbridge.cli.main import main
sys.argv = ["vecbridge", *{arguments!r}]
with contextlib.suppress(SystemExit):
    main()
"""
    assert modules_after(run) & (HEAVY | ARRAYS) == set()
