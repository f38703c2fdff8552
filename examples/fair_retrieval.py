"""Fair retrieval: hits that represent groups, what that costs, and whether each group is found equally well.

The pictures are the 320 emoji that vecbridge ships, in five groups, and the model is the bundled one. Runs
without a network, on any store::

    python fair_retrieval.py                  # memory://
    python fair_retrieval.py faiss:./fair
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path

import vecbridge as vb
from vecbridge.apps.fair_search import FairHits, fair_search
from vecbridge.apps.group_recall import recall_by_field

GALLERY = Path(str(files("vecbridge"))) / "embed" / "bundled" / "gallery"


def show(title: str, found: FairHits) -> None:
    ranking = found.ranking
    print(f"{title}: {', '.join(str(hit.record['name']) for hit in found.hits if hit.record)}")
    for each in ranking.groups:
        print(
            f"  {each.group}: target {each.target:.0%}, share {each.before:.0%} -> {each.after:.0%}, "
            f"exposure {each.exposure_before:.0%} -> {each.exposure_after:.0%}"
        )
    print(
        f"  NDKL {ranking.ndkl_before:.3f} -> {ranking.ndkl_after:.3f}, nDCG loss {ranking.ndcg_loss:.3f}, "
        f"from {found.candidates} candidates"
    )
    for warning in ranking.warnings:
        print(f"  {warning}")


def main(url: str) -> None:
    pictures = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]
    with vb.embedder("bundled") as embedder, vb.connect(url) as store:
        spec = vb.CollectionSpec.single(
            "fair_pictures",
            dim=embedder.dim,
            metric="cosine",
            fields={"name": "string", "group": "string"},
            embedder=embedder.identity,
        )
        collection = store.create(spec, if_exists="replace")
        collection.upsert(
            vb.batch(
                spec,
                id=[picture["codepoint"] for picture in pictures],
                vector=embedder.embed_images([GALLERY / picture["file"] for picture in pictures]),
                name=[picture["name"] for picture in pictures],
                group=[picture["group"] for picture in pictures],
            )
        )
        collection.flush()

        # The first ten hits as mixed as the hundred that the search found.
        query = vb.Query(embedder.embed_texts(["something round"]), k=10, include=["name"])
        [found] = fair_search(collection, query, by="group")
        show("as found", found)

        # Shares that are wanted; where a group has too few candidates, the others fill its places.
        halves = {"food-drink": 0.5, "activities": 0.5}
        [found] = fair_search(collection, query, by="group", targets=halves)
        show("half and half", found)

        # Is each group found equally well by the names of its pictures?
        names = vb.Query(embedder.embed_texts([picture["name"] for picture in pictures]), k=1)
        wanted = [[picture["codepoint"]] for picture in pictures]
        report = recall_by_field(collection, names, wanted, by="group")
        print("recall@1 by name:")
        for each in report.groups:
            interval = f"{each.low:.2f} to {each.high:.2f}"
            print(f"  {each.group}: {each.recall:.2f} ({interval}), {each.queries} queries")
        print(f"  largest difference: {report.gap:.2f}")
        store.drop(spec.name)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
