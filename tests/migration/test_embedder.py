"""Which model made the vectors is compared between the sides, whatever the format of its identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vecbridge as vb

NEW = vb.EmbedderIdentity("clip", "0123", 2, "p", config="c", tokenizer="t", format=2)
OLD = vb.EmbedderIdentity("clip", "0123", 2, "p")


def stored(url: str, embedder: vb.EmbedderIdentity | None) -> str:
    spec = vb.CollectionSpec.single("c", dim=2, embedder=embedder)
    with vb.connect(url) as store, store.create(spec) as collection:
        collection.upsert(vb.batch(spec, id=["a"], vector=[[1, 0]]))
    return f"{url}#c"


@pytest.mark.parametrize(
    ("there", "detail"),
    [
        (NEW, None),
        (OLD, None),
        (None, "the target says none"),
        (replace(NEW, tokenizer="q"), "the target says clip 0123, another tokenizer"),
        (replace(OLD, revision="9"), "the target says clip 9, another revision"),
    ],
    ids=["same", "older format", "none", "tokenizer", "revision"],
)
def test_another_model_at_the_target_is_found(
    tmp_path: Path, there: vb.EmbedderIdentity | None, detail: str | None
) -> None:
    source, target = stored(f"faiss:{tmp_path}/a", NEW), stored(f"faiss:{tmp_path}/b", there)
    proof = vb.verify(source, target, level="count")
    found = [finding for finding in proof.findings if finding.kind == "embedder"]
    assert [finding.detail.partition("; ")[2] for finding in found] == ([] if detail is None else [detail])
    assert proof.passed is (detail is None)


def test_a_copy_has_the_identity_of_its_source_as_it_is_recorded(tmp_path: Path) -> None:
    for number, identity in enumerate((OLD, NEW)):
        source = stored(f"faiss:{tmp_path}/source{number}", identity)
        vb.migrate(source, f"faiss:{tmp_path}/target{number}#c")
        vb.migrate(source, f"snapshot:{tmp_path}/snapshot{number}#c")
        for url in (f"faiss:{tmp_path}/target{number}#c", f"snapshot:{tmp_path}/snapshot{number}#c"):
            with vb.open(url) as copy:
                assert copy.spec.vector.embedder == identity
