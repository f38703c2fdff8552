"""What docs/side-by-side.md shows runs, ours on FAISS and that of other clients on what is at hand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.stores.weaviate import server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "side-by-side.md").read_text("utf-8")
BLOCK = re.compile(r"\*\*(\w+)\*\*[^\n]*\n\n(?:<!-- not run -->\n)?```python\n(.*?)```", re.DOTALL)
SETUP = re.search(r"```python\n(import numpy.*?)```", PAGE, re.DOTALL)[1]
PACKAGES = {"pymilvus": "pymilvus", "weaviate": "weaviate-client", "pinecone": "pinecone"}
# What stands for the servers: milvus-lite, a genuine Weaviate, an emulated Pinecone.
STANDINS = {
    "vecbridge": ("", {}),
    "pymilvus": ("", {'"http://localhost:19530"': '"./products.db"'}),
    "weaviate": (
        "from tests.stores.weaviate import server\nfrom vecbridge.urls import parse\n"
        "place = parse(server.shared_url())\n",
        {"to_local()": "to_local(port=place.port, grpc_port=int(place.options['grpc_port']))"},
    ),
    "pinecone": (
        "from vecbridge.testing.pinecone import Emulator\nemulator = Emulator()\nemulator.__enter__()\n",
        {"Pinecone()": "Pinecone(api_key='emulated', host=emulator.host)"},
    ),
}
END = "print(len(found), found[0][2] != 'Product 17', len(two), len(latest), left)\n"


def blocks(client: str) -> list[str]:
    return [code for name, code in BLOCK.findall(PAGE) if name == client]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", STANDINS)
def test_six_tasks_do_the_same_with_every_client(client: str, tmp_path: Path) -> None:
    pytest.importorskip("faiss" if client == "vecbridge" else client)
    if client == "weaviate" and (needed := server.missing()):
        pytest.skip(needed)
    start, replaced = STANDINS[client]
    assert len(blocks(client)) == 6
    code = "\n".join(blocks(client))
    for there, here in replaced.items():
        assert there in code
        code = code.replace(there, here)
    done = subprocess.run(
        [sys.executable, "-c", f"{start}{SETUP}{code}{END}"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "5 True 2 10 802"


def test_what_is_called_of_weaviate_exists_where_no_server_is_at_hand() -> None:
    weaviate = pytest.importorskip("weaviate")
    from weaviate.classes import config, query
    from weaviate.collections.batch.collection import BatchCollectionSync, _BatchCollectionWrapper
    from weaviate.collections.classes.batch import ErrorObject
    from weaviate.collections.classes.filters import _FilterByProperty
    from weaviate.collections.classes.internal import MetadataReturn, Object, QueryReturn
    from weaviate.collections.collections import _Collections
    from weaviate.collections.data.sync import _DataCollection
    from weaviate.collections.query import _QueryCollection

    kinds = (
        weaviate, weaviate.WeaviateClient, weaviate.collections.Collection, _Collections, _QueryCollection,
        _DataCollection, config.Configure, config.Configure.VectorIndex, config.Configure.Vectors,
        config.DataType, config.VectorDistances, query.Filter, query.Sort, BatchCollectionSync,
        _BatchCollectionWrapper, _FilterByProperty, dict, np.ndarray, pa.Table,
    )  # fmt: skip
    known = {name for kind in kinds for name in dir(kind)}
    for kind in (ErrorObject, MetadataReturn, Object, QueryReturn):
        known |= set(kind.__dataclass_fields__)
    known |= {"query", "data", "batch", "collections"}
    tree = ast.parse("\n".join(blocks("weaviate")))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert used - known == set()


def test_the_page_names_the_installed_versions() -> None:
    named = dict(re.findall(r"([\w-]+) (\d+\.\d+)", PAGE.rpartition("Versions:")[2]))
    assert named.keys() == set(PACKAGES.values())
    for package, version in named.items():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"pip install {package}")
        assert installed.split(".")[0] == version.split(".")[0], package
