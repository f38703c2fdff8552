"""One program over any store: change the line that says which, and the rest stays as it is.

The output is the same on every store. The URL may also be given as an argument::

    python one_line.py memory://
    python one_line.py faiss:./one_line
    python one_line.py milvus+lite:./one_line.db
    python one_line.py milvus://user:password@localhost:19530
    python one_line.py weaviate://localhost:8080
    python one_line.py pinecone://                 # the key in PINECONE_API_KEY
"""

from __future__ import annotations

import sys

import vecbridge as vb
from vecbridge import field

STORE = "memory://"  # <- this line

ANIMALS = {
    "whale": ("a spouting whale", "sea"),
    "octopus": ("an octopus", "sea"),
    "horse": ("a horse", "land"),
    "cat": ("a cat face with tears of joy", "land"),
    "eagle": ("an eagle", None),
}


def main(url: str) -> None:
    with vb.embedder("bundled") as embedder, vb.connect(url) as store:
        spec = vb.CollectionSpec.single(
            "one_line_animals",
            dim=embedder.dim,
            fields={"text": "string", "lives": "string"},
            embedder=embedder.identity,
        )
        animals = store.create(spec, if_exists="replace")
        vectors = embedder.embed_texts([text for text, _ in ANIMALS.values()])
        animals.upsert([
            {"id": key, "vector": vector, "text": text, "lives": lives}
            for (key, (text, lives)), vector in zip(ANIMALS.items(), vectors, strict=True)
        ])  # fmt: skip
        animals.flush()

        query = embedder.embed_texts(["a happy cat"])
        for title, condition in {
            "everywhere": None,
            "not in the sea": field("lives") != "sea",
            "not in the sea, as far as is known": field("lives").differs("sea"),
        }.items():
            [hits] = animals.search(vb.Query(query, k=5, filter=condition))
            print(f"{title}: {', '.join(f'{hit.id} {hit.score:.2f}' for hit in hits)}")
        store.drop(spec.name)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else STORE)
