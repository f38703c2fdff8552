"""``search`` for a text and a picture together, for a stored record, and in several vector fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb

Run = Callable[..., Any]  # the fixture of conftest.py


def one_picture(photos: str) -> tuple[str, str]:
    """The id and the file of a picture."""
    with vb.open(photos) as collection:
        [row] = collection.find(vb.everything, limit=1, include=["path"]).to_pylist()
    return str(row["id"]), str(row["path"])


@pytest.fixture
def captioned(photos: str) -> str:
    """The twenty pictures with a second vector, of their names."""
    url = "faiss:./captioned#photos"
    with vb.open(photos) as source, vb.embedder("bundled") as clip, vb.connect("faiss:./captioned") as store:
        rows = source.find(vb.everything, limit=100, include=["name", "vector"]).to_pylist()
        spec = vb.CollectionSpec(
            "photos",
            [vb.VectorField(name, clip.dim, embedder=clip.identity) for name in ("picture", "caption")],
            [vb.Field("name", "string"), vb.Field("extra", "json")],
        )
        names = [row["name"] for row in rows]
        with store.create(spec) as collection:
            batch = vb.batch(
                spec, id=[row["id"] for row in rows], name=names, extra=[{"name": name} for name in names],
                picture=np.array([row["vector"] for row in rows]), caption=clip.embed_texts(names),
            )  # fmt: skip
            collection.upsert(batch)
    return url


def test_a_text_and_a_picture_are_mixed_by_weight(run: Run, photos: str) -> None:
    _, path = one_picture(photos)
    ran = run("search", "a dog", "--image", path, "--weight", 0.25, "--store", photos, "-k", 5, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["query"] == {"text": "a dog", "image": path, "weight": 0.25}
    with vb.open(photos) as collection, vb.embedder("bundled") as clip:
        mixed = 0.25 * clip.embed_texts(["a dog"]) + 0.75 * clip.embed_images([path])
        [hits] = collection.search(vb.Query(mixed, 5))
    assert [hit["id"] for hit in found["hits"]] == hits.ids
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(hits.scores.tolist(), abs=1e-6)
    assert "scores" not in found["hits"][0]


@pytest.mark.parametrize("weight", [0, 1])
def test_all_the_weight_is_one_search(run: Run, photos: str, weight: int) -> None:
    _, path = one_picture(photos)
    common = ("--store", photos, "-k", 3, "--json")
    both = run("search", "a dog", "--image", path, "--weight", weight, *common).json["hits"]
    alone = run("search", *(["a dog"] if weight else ["--image", path]), *common).json["hits"]
    assert [hit["id"] for hit in both] == [hit["id"] for hit in alone]


def test_a_fusion_keeps_both_apart_and_shows_both_scores(run: Run, photos: str) -> None:
    key, path = one_picture(photos)
    command = ("search", "a dog", "--image", path, "--fusion", "rrf", "--store", photos, "-k", 5)
    found = run(*command, "--json").json
    assert found["fusion"] == "rrf"
    for hit in found["hits"]:
        assert set(hit["scores"]) == {"text", "picture"}
    own = next(hit for hit in found["hits"] if hit["id"] == key)
    assert own["scores"]["picture"] == pytest.approx(1, abs=1e-3)
    ran = run(*command)
    assert ran.out.splitlines()[0].split()[:7] == ["#", "score", "id", "by", "text", "by", "picture"]
    assert "5 hits by rrf fusion, higher is better" in ran.err


def test_a_stored_record_needs_no_model(run: Run, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = one_picture(photos)
    monkeypatch.setattr("vecbridge.cli.common.load_embedder", None)
    ran = run("search", "--like", key, "--store", photos, "-k", 3, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["query"], found["model"]) == ({"like": key}, "bundled")
    with vb.open(photos) as collection:
        [hits] = collection.search(vb.Query(id=key, k=3))
    assert [hit["id"] for hit in found["hits"]] == hits.ids
    assert run("search", "--like", "nothing", "--store", photos).code == 1


def test_several_vector_fields_are_fused(run: Run, captioned: str) -> None:
    command = ("search", "a dog", "--store", captioned, "--using", "picture, caption", "-k", 3)
    ran = run(*command, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["using"], found["fusion"]) == (["picture", "caption"], "weighted")
    best = found["hits"][0]
    assert set(best["scores"]) == {"picture", "caption"}
    assert best["record"]["extra"] == {"name": best["record"]["name"]}
    table = run(*command)
    assert "by picture" in table.out
    assert "weighted fusion" in table.err
    one = run("search", "a dog", "--store", captioned, "--using", "caption", "--json").json
    assert "fusion" not in one


def test_the_table_of_fused_hits_fits_80_columns(
    run: Run, captioned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("search", "a dog", "--store", captioned, "--using", "picture,caption", "--fusion", "rrf")
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "by caption" in ran.out


def test_the_page_names_what_was_mixed(run: Run, photos: str) -> None:
    _, path = one_picture(photos)
    ran = run("search", "a <dog>", "-i", path, "--weight", 0.5, "--store", photos, "--html", "p.html")
    assert ran.code == 0, ran.err
    page = Path("p.html").read_text("utf-8")
    assert f"a &lt;dog&gt; + {Path(path).name}" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x", "--like", "a"], "with --weight 0.5"),
        (["--like", "a", "--image", "b.png", "--weight", "0.5"], "beside a text"),
        (["x", "--like", "a", "--image", "b.png", "--weight", "0.5"], "beside a text"),
        (["x", "--weight", "0.5"], "--weight goes with"),
        (["x", "--image", "b.png", "--weight", "1.5"], "--weight"),
        (["x", "--image", "b.png", "--fusion", "mean"], "--fusion mean: one of weighted, rrf"),
        (["x", "--fusion", "rrf"], "--fusion goes with"),
        (["x", "--using", "vector,vectr"], "did you mean 'vector'"),
    ],
)
def test_options_that_do_not_go_together_are_bad_usage(
    run: Run, photos: str, arguments: list[str], says: str
) -> None:
    ran = run("search", *arguments, "--store", photos)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_no_hits_because_the_collection_is_empty_says_so(run: Run) -> None:
    with vb.embedder("bundled") as clip, vb.connect("faiss:./s") as store:
        store.create(vb.CollectionSpec.single("empty", dim=clip.dim, embedder=clip.identity)).close()
    ran = run("search", "a dog", "--store", "faiss:./s#empty")
    assert (ran.code, ran.out, ran.err) == (0, "", "No hits: 'empty' holds no records.\n")


def test_json_fields_with_values_are_json_in_the_document(run: Run, captioned: str) -> None:
    found = run("search", "a dog", "--store", captioned, "--using", "picture", "-k", 1, "--json").json
    [hit] = found["hits"]
    assert hit["record"] == {"name": hit["record"]["name"], "extra": {"name": hit["record"]["name"]}}
    assert json.dumps(found)
