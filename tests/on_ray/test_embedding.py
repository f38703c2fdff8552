"""Actors embed pictures and texts; the example runs as it stands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

import vecbridge as vb
from tests.on_ray.helpers import KEY, upserted, url_of
from vecbridge.integrations.ray import EmbeddingActor, VecbridgeDatasink, embed
from vecbridge.records import vectors
from vecbridge.testing.pinecone import Emulator

ROOT = Path(__file__).resolve().parents[2]
GALLERY = Path(str(files("vecbridge"))) / "embed" / "bundled" / "gallery"
PICTURES = sorted(GALLERY.glob("*.png"))[:40]


def collection(model: vb.Embedder) -> vb.CollectionSpec:
    """For vectors of a model."""
    return vb.CollectionSpec.single(
        "pictures", dim=model.dim, fields={"path": "string"}, embedder=model.identity
    )


def test_pictures_and_their_bytes_become_the_vectors_that_the_model_makes(emulator: Emulator) -> None:
    names = [path.name for path in PICTURES]
    paths = pa.table({"id": names, "path": [str(path) for path in PICTURES]})
    contents = pa.table({"id": names, "picture": [path.read_bytes() for path in PICTURES]})
    with vb.embedder("bundled") as model:
        expected = dict(zip(names, model.embed_images(PICTURES), strict=True))
        spec = collection(model)
    for table, column in ((paths, "path"), (contents, "picture")):
        dataset = embed(ray.data.from_arrow(table), images=column, keep=column == "path", batch_rows=16)
        sink = VecbridgeDatasink(url_of(emulator), spec, if_exists="replace", on_report=lambda _: None)
        dataset.write_datasink(sink)
        with vb.connect(url_of(emulator), api_key=KEY) as store:
            found = store.open("pictures").fetch(names)
        assert found.column("id").to_pylist() == names
        assert np.allclose(vectors(found), [expected[name] for name in names], atol=1e-6)


def test_what_cannot_be_embedded_is_a_dead_letter_with_the_reason(emulator: Emulator, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    table = pa.table({"id": ["a", "b", "c"], "path": [str(PICTURES[0]), str(broken), None]})
    with vb.embedder("bundled") as model:
        spec = collection(model)
    folder = tmp_path / "letters"
    dataset = embed(ray.data.from_arrow(table), images="path", keep=True)
    sink = VecbridgeDatasink(url_of(emulator), spec, dead_letters=str(folder), on_report=lambda _: None)
    dataset.write_datasink(sink)
    assert sink.report is not None
    assert (sink.report.written, sink.report.failed) == (1, 2)
    [path] = folder.glob("*.jsonl")
    first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert (first["id"], first["record"]) == ("b", {"id": "b", "path": str(broken)})
    assert "picture" in first["error"] or "image" in first["error"]
    assert second["error"] == "there is nothing to embed: the column is null"


def test_texts_become_the_vectors_that_the_model_makes() -> None:
    texts = ["a sunset", None, "a red heart"]
    table = EmbeddingActor(texts="text")(pa.table({"id": ["a", "b", "c"], "text": texts}))
    assert table.column_names == ["id", "vector", "vecbridge_error"]
    with vb.embedder("bundled") as model:
        expected = model.embed_texts(["a sunset", "a red heart"])
    made = table.column("vector").to_pylist()
    assert made[1] is None
    assert np.allclose([made[0], made[2]], expected, atol=1e-6)
    assert table.column("vecbridge_error").null_count == 2


def test_vectors_of_another_model_are_refused(emulator: Emulator) -> None:
    with vb.embedder("bundled") as model:
        other = replace(model.identity, model="another")
        spec = vb.CollectionSpec.single("pictures", dim=model.dim, embedder=other)
    dataset = embed(ray.data.from_items([{"id": "a", "text": "a sunset"}]), texts="text")
    with pytest.raises(Exception, match="another"):
        dataset.write_datasink(VecbridgeDatasink(url_of(emulator), spec))
    assert upserted(emulator) == 0


@pytest.mark.parametrize("columns", [{}, {"images": "a", "texts": "b"}], ids=["none", "both"])
def test_exactly_one_column_is_embedded(columns: dict[str, str]) -> None:
    with pytest.raises(vb.ConfigError, match="images= or texts="):
        EmbeddingActor(**columns)
    with pytest.raises(vb.ConfigError, match="images= or texts="):
        embed(ray.data.range(1), **columns)


def test_the_example_embeds_a_folder_and_goes_on_from_its_checkpoint(
    emulator: Emulator, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in PICTURES:
        shutil.copy(path, folder)
    (folder / "broken.png").write_bytes(b"no picture")
    command = [
        sys.executable, str(ROOT / "examples" / "ray_embed.py"), str(folder), url_of(emulator),
        "--checkpoint", str(tmp_path / "done"), "--dead-letters", str(tmp_path / "letters"),
    ]  # fmt: skip
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(ROOT), "PINECONE_API_KEY": KEY}, cwd=tmp_path,
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert f"{len(PICTURES)} rows written, 1 failed" in outputs[0]
    assert upserted(emulator) == len(PICTURES), "the second run sent nothing"
    with vb.connect(url_of(emulator), api_key=KEY) as store:
        opened = store.open("ray_pictures")
        ids = {key for page in opened.scan(include=()) for key in page.batch["id"].to_pylist()}
    assert ids == {path.name for path in PICTURES}
