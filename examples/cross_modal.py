"""Search across modalities: text, picture and stored record, alone, mixed, and over two vector fields.

The data are the pictures that vecbridge ships, with their names, and the bundled model. Run it with the URL
of any store::

    python cross_modal.py                           # memory://
    python cross_modal.py faiss:./cross_modal
    python cross_modal.py milvus+lite:./cross_modal.db
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import vecbridge as vb
from vecbridge.apps import CrossModalHit, CrossModalSearch, Picture, Record, Target, Text

GALLERY = Path(str(files("vecbridge"))) / "embed" / "bundled" / "gallery"


def names(hits: Sequence[CrossModalHit]) -> str:
    return ", ".join(str(hit.record and hit.record["name"]) for hit in hits)


def main(url: str) -> None:
    pictures = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]
    with vb.embedder("bundled") as clip, vb.connect(url) as store:
        # Two vectors a record: of the picture, and of its name.
        spec = vb.CollectionSpec(
            "cross_modal_pictures",
            [
                vb.VectorField("picture", clip.dim, embedder=clip.identity),
                vb.VectorField("caption", clip.dim, embedder=clip.identity),
            ],
            [vb.Field("name", "string"), vb.Field("year", "int64")],
        )
        collection = store.create(spec, if_exists="replace")
        batch = vb.batch(
            spec,
            id=[picture["codepoint"] for picture in pictures],
            picture=clip.embed_images([GALLERY / picture["file"] for picture in pictures]),
            caption=clip.embed_texts([picture["name"] for picture in pictures]),
            name=[picture["name"] for picture in pictures],
            year=[picture["year"] for picture in pictures],
        )
        vb.write(collection, [batch])
        collection.flush()

        looks = CrossModalSearch(Target(collection, "picture"), clip)
        says = CrossModalSearch(Target(collection, "caption"), clip)
        both = CrossModalSearch(
            [Target(collection, "picture"), Target(collection, "caption", weight=0.5)], clip
        )
        house = Picture(GALLERY / "1f3e0.png")
        for title, hits in {
            "text to picture": looks.search("un perro", k=3, include=["name"]),
            "picture to picture": looks.search(house, k=3, include=["name"]),
            "picture to text": says.search(house, k=3, include=["name"]),
            "like a stored record": looks.search(Record("1F34E"), k=3, include=["name"]),
            "this picture, but in snow": looks.search([house, Text("snow", weight=2)], k=3, include=["name"]),
        }.items():
            print(f"{title}: {names(hits)}")

        # Late fusion: two vector fields are searched, and every hit says what each of them thought.
        for fusion in ("weighted", "rrf"):
            [best] = both.search("a red apple", k=1, include=["name"], fusion=fusion)
            scores = ", ".join(f"{name} {score:.2f}" for name, score in best.scores.items())
            print(f"{fusion}: {names([best])} ({scores})")
        store.drop(spec.name)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
