"""Moves a collection to another database, proves that nothing was lost, and keeps the copy up to date.

Runs without a server: FAISS, a snapshot in Parquet files, and milvus-lite. Any other URLs do as well; the
target may be given as an argument::

    python migrate.py
    python migrate.py milvus://user:password@localhost:19530
    python migrate.py weaviate://localhost:8080
    python migrate.py pinecone://                    # the key in PINECONE_API_KEY
"""

from __future__ import annotations

import sys

import vecbridge as vb

SOURCE = "faiss:./shop#products"
SNAPSHOT = "snapshot:./exports#products"
TARGET = "milvus+lite:./moved.db"

PRODUCTS = {
    "apple": ("a red apple", 1.2, ["fruit", "red"]),
    "pear": ("a green pear", 1.5, ["fruit"]),
    "fire-engine": ("a fire engine", 49.0, ["toy", "red"]),
    "octopus": ("an octopus", 12.0, []),
    "gift": ("a wrapped gift", None, None),
}


def main(target: str) -> None:
    """Make a collection, move it twice, change it, and bring the copy up to date."""
    target += "#products"
    make_products()

    plan = vb.plan(SOURCE, target)
    print(f"to copy: {plan.size.rows} rows; lost: {[loss.kind for loss in plan.losses if loss.certain]}")

    for source, destination in ((SOURCE, SNAPSHOT), (SNAPSHOT, target)):
        report = vb.migrate(source, destination, allow=["index"])
        proof = vb.verify(source, destination, level="content")
        print(f"{source} -> {destination}: {report.written} copied, nothing lost: {proof.passed}")

    with vb.open(SOURCE) as products:
        products.update([{"id": "pear", "price": 1.4}])
        products.delete(["octopus"])
    for _ in range(2):
        changes = vb.sync(SOURCE, target, state="products.sync", delete_extra=True)
        print(f"{changes.inserted} new, {changes.updated} changed, {changes.deleted} deleted")
    print(f"the same again: {vb.verify(SOURCE, target, level='content').passed}")


def make_products() -> None:
    """A collection as an application has it."""
    with vb.embedder("bundled") as embedder, vb.connect(SOURCE.partition("#")[0]) as store:
        spec = vb.CollectionSpec.single(
            "products", dim=embedder.dim, embedder=embedder.identity,
            fields={"text": "string", "price": "float64", "tags": "list<string>"},
        )  # fmt: skip
        products = store.create(spec, if_exists="replace")
        vectors = embedder.embed_texts([text for text, _, _ in PRODUCTS.values()])
        products.upsert([
            {"id": key, "vector": vector, "text": text, "price": price, "tags": tags}
            for (key, (text, price, tags)), vector in zip(PRODUCTS.items(), vectors, strict=True)
        ])  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else TARGET)
