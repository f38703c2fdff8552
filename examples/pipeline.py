"""A pipeline: an index, a bulk load, searches, filters, an update, a deletion, and a pass over everything.

The data are the 320 pictures that vecbridge ships, with their names, keywords and years, and the bundled
model. Run it with the URL of any store::

    python pipeline.py                           # faiss:./pipeline
    python pipeline.py milvus+lite:./pipeline.db
    python pipeline.py weaviate://localhost:8080
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import vecbridge as vb
from vecbridge import field

GALLERY = Path(str(files("vecbridge"))) / "embed" / "bundled" / "gallery"
BATCH = 64


def batches(embedder: vb.Embedder) -> Iterator[list[dict[str, Any]]]:
    """The pictures as records, a few at a time, so that a million would need no more memory."""
    lines = (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()
    for start in range(0, len(lines), BATCH):
        pictures = [json.loads(line) for line in lines[start : start + BATCH]]
        vectors = embedder.embed_images([GALLERY / picture["file"] for picture in pictures])
        yield [
            {
                "id": picture["codepoint"],
                "vector": vector,
                "name": picture["name"],
                "group": picture["group"],
                "keywords": picture["keywords"],
                "year": picture["year"],
            }
            for picture, vector in zip(pictures, vectors, strict=True)
        ]


def names(hits: vb.Hits) -> str:
    return ", ".join(hit.record["name"] for hit in hits if hit.record)


def main(url: str) -> None:
    with vb.embedder("bundled") as embedder, vb.connect(url) as store:
        # A collection, its index and its fields. A store without HNSW proposes another index.
        spec = vb.CollectionSpec.single(
            "pipeline_pictures",
            dim=embedder.dim,
            metric="cosine",
            index=vb.HNSW(m=16, ef_construction=200),
            fields={"name": "string", "group": "string", "keywords": "list<string>", "year": "int64"},
            embedder=embedder.identity,
        )
        spec, gaps = store.capabilities.nearest(spec)
        for gap in gaps:
            print(f"instead of what was asked for: {gap.detail}")
        pictures = store.create(spec, if_exists="replace")

        # A bulk load: several requests at a time, retries, and a file for rows that cannot be stored.
        report = vb.write(pictures, batches(embedder), dead_letters="rejected.jsonl")
        pictures.flush()
        print(f"loaded {report.written} pictures, {report.failed} rejected")

        # A search, alone and under a filter. The filter is part of the search.
        vector = embedder.embed_texts(["a red fruit"])
        new = (field("year") >= 2015) & field("keywords").contains("fruit")
        for title, condition in (("a red fruit", None), ("a red fruit, from 2015 on", new)):
            [hits] = pictures.search(vb.Query(vector, k=3, filter=condition, include=["name"]))
            print(f"{title}: {names(hits)}")
        [alike] = pictures.search(vb.Query(id="1F34E", k=3, include=["name"]))
        print(f"like the red apple: {names(alike)}")

        # A new field, and its values in some of the records.
        pictures.add_fields({"reviewed": "bool"})
        fruit = pictures.find(field("keywords").contains("fruit"), limit=100, include=())
        pictures.update([{"id": key.as_py(), "reviewed": True} for key in fruit.column("id")])
        pictures.flush()
        print(f"reviewed {pictures.count(field('reviewed') == True)} of {pictures.count()}")  # noqa: E712

        # A deletion by filter, and a pass over all that is left.
        pictures.delete(filter=field("year") >= 2020)
        pictures.flush()
        groups: Counter[str] = Counter()
        for page in pictures.scan(include=["group"], batch_rows=100):
            groups.update(page.batch.column("group").to_pylist())
        print("left:", ", ".join(f"{count} {group}" for group, count in sorted(groups.items())))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "faiss:./pipeline")
