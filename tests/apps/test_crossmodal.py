"""Search across modalities: what is mixed, what is fused, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.apps.tables import DIM, TableModel, named_axes
from vecbridge.apps import CrossModalHit, CrossModalSearch, Picture, Record, Target, Text
from vecbridge.apps.fusion import Ranking, fuse

GALLERY = Path(vb.__file__).parent / "embed" / "bundled" / "gallery"
IDS = [f"r{number:02d}" for number in range(40)]


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((len(IDS), DIM)).astype(np.float32)


@pytest.fixture
def model() -> TableModel:
    return named_axes()


@pytest.fixture(params=["memory://", "faiss:./store"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[vb.Store]:
    if request.param.startswith("faiss"):
        pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    with vb.connect(request.param) as opened:
        yield opened


@pytest.fixture
def photos(store: vb.Store, model: TableModel) -> vb.Collection:
    """Forty records with two vectors, a number and a list."""
    vectors = [
        vb.VectorField("picture", DIM, embedder=model.identity),
        vb.VectorField("caption", DIM, "l2", embedder=model.identity),
    ]
    fields = [vb.Field("year", "int64"), vb.Field("extra", "json")]
    spec = vb.CollectionSpec("photos", vectors, fields)
    collection = store.create(spec)
    years = [2000 + number for number in range(len(IDS))]
    extra = [{"n": number} for number in range(len(IDS))]
    collection.upsert(vb.batch(spec, id=IDS, picture=rows(1), caption=rows(2), year=years, extra=extra))
    return collection


def found(hits: list[CrossModalHit]) -> list[tuple[Any, float]]:
    return [(hit.id, pytest.approx(hit.score, abs=1e-6)) for hit in hits]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_one_part_and_one_target_is_a_plain_search(photos: vb.Collection, model: TableModel) -> None:
    where = vb.field("year") >= 2010
    search = CrossModalSearch(Target(photos, "caption"), model)
    hits = search.search("a dog on a boat", k=5, filter=where, include=["year", "extra"])
    query = vb.Query(
        model.embed_texts(["a dog on a boat"]), 5, using="caption", filter=where, include=["year", "extra"]
    )
    [plain] = photos.search(query)
    assert [(hit.id, hit.score, hit.record) for hit in hits] == [
        (hit.id, hit.score, hit.record) for hit in plain
    ]
    assert [dict(hit.scores) for hit in hits] == [{"caption": hit.score} for hit in plain]
    assert {hit.collection for hit in hits} == {"photos"}


def test_a_picture_is_searched_for_like_a_text(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch(Target(photos, "picture"), model)
    assert found(search.search(Picture("dog.jpg"), k=4)) == found(search.search("dog", k=4))


def test_parts_are_mixed_by_weight(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch(Target(photos, "picture"), model)
    hits = search.search(
        [Picture("house.jpg", weight=2), Text("snow", weight=0.5), Text("dog", weight=-0.5)], k=3
    )
    mixed = unit(np.array([2, 0.5, -0.5, 0]))
    [plain] = photos.search(vb.Query(mixed, 3, using="picture"))
    assert found(hits) == found(list(plain))


def test_weights_are_shares_so_that_only_their_ratio_counts(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch(Target(photos, "picture"), model)
    one = search.search([Text("house", 3), Text("snow", 1)], k=5)
    two = search.search([Text("house", 0.75), Text("snow", 0.25)], k=5)
    assert found(one) == found(two)


def test_a_stored_record_is_searched_for_and_not_found_itself(photos: vb.Collection) -> None:
    search = CrossModalSearch([Target(photos, "picture")])
    hits = search.search(Record("r07"), k=5)
    [plain] = photos.search(vb.Query(id="r07", k=5, using="picture"))
    assert found(hits) == found(list(plain))
    mixed = search.search([Record("r07"), Record("r08")], k=len(IDS))
    assert {hit.id for hit in mixed} == set(IDS) - {"r07", "r08"}


def test_a_record_and_a_text_are_mixed_as_unit_vectors(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch(Target(photos, "picture"), model)
    hits = search.search([Record("r03"), Text("snow", weight=0.5)], k=3)
    mixed = unit(unit(rows(1)[3]) + 0.5 * np.eye(DIM)[1])
    [plain] = photos.search(vb.Query(mixed, 4, using="picture"))
    assert found(hits) == found([hit for hit in plain if hit.id != "r03"][:3])


@pytest.mark.parametrize("fusion", ["weighted", "rrf"])
def test_two_vector_fields_are_fused_with_the_score_of_each(
    photos: vb.Collection, model: TableModel, fusion: Any
) -> None:
    targets = [Target(photos, "picture", weight=2), Target(photos, "caption")]
    hits = CrossModalSearch(targets, model).search(
        "dog", k=10, fusion=fusion, depth=12, include=["year", "extra"]
    )
    lists = {}
    rankings = []
    for target in targets:
        [plain] = photos.search(vb.Query(model.embed_texts(["dog"]), 12, using=target.using))
        lists[target.using] = dict(zip(plain.ids, plain.scores.tolist(), strict=True))
        higher = target.using == "picture"
        rankings.append(Ranking(target.using, target.weight, plain.ids, plain.scores, higher))
    assert found(hits) == [
        (key, pytest.approx(score)) for key, score in list(fuse(rankings, fusion).items())[:10]
    ]
    for hit in hits:
        number = IDS.index(hit.id)
        assert hit.record == {"id": hit.id, "year": 2000 + number, "extra": {"n": number}}
        assert hit.scores == {name: scores[hit.id] for name, scores in lists.items() if hit.id in scores}
    assert len({frozenset(hit.scores) for hit in hits}) > 1, "some hits are in one list alone"


def test_parts_apart_are_lists_of_their_own(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch(Target(photos, "picture"), model)
    parts = [Text("house", weight=3), Picture("snow.jpg"), Text("boat")]
    hits = search.search(parts, k=len(IDS), mix=False)
    assert set(hits[0].scores) == {"text", "picture", "text 2"}
    for hit in hits:
        cosines = unit(rows(1)[IDS.index(hit.id)])
        assert [hit.scores[name] for name in ("text", "picture", "text 2")] == pytest.approx(
            [cosines[0], cosines[1], cosines[3]], abs=1e-5
        )


def test_parts_and_targets_apart_are_named_after_both(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch([Target(photos, "picture"), Target(photos, "caption", name="words")], model)
    [hit] = search.search(["house", Picture("snow.jpg")], k=1, mix=False, depth=len(IDS))
    assert set(hit.scores) == {"picture/text", "picture/picture", "words/text", "words/picture"}
    assert list(search.targets) == ["picture", "words"]


def test_each_text_and_picture_is_embedded_once(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch([Target(photos, "picture"), Target(photos, "caption")], model)
    search.search(["house", "snow", Picture("dog.jpg")], mix=False)
    assert sorted(model.asked) == ["dog.jpg", "house", "snow"]


def test_hits_of_several_collections_are_other_things_unless_ids_are_the_same(
    photos: vb.Collection, store: vb.Store, model: TableModel
) -> None:
    spec = vb.CollectionSpec.single("texts", dim=DIM, embedder=model.identity, fields={"title": "string"})
    texts = store.create(spec)
    texts.upsert(vb.batch(spec, id=IDS[:3], vector=rows(3)[:3], title=["A", "B", "C"]))
    targets = [Target(photos, "picture"), texts]
    apart = CrossModalSearch(targets, model).search("dog", k=100, include=["year", "title"])
    assert len(apart) == len(IDS) + 3
    assert sorted(hit.record["title"] for hit in apart if hit.collection == "texts") == ["A", "B", "C"]
    assert all("title" not in hit.record for hit in apart if hit.collection == "photos")
    joined = CrossModalSearch(targets, model, same_ids=True).search("dog", k=100, include=["year", "title"])
    assert len(joined) == len(IDS)
    both = {hit.id: hit for hit in joined if len(hit.scores) == 2}
    assert set(both) == set(IDS[:3])
    assert both["r01"].record == {"id": "r01", "year": 2001, "title": "B"}
    assert set(both["r01"].scores) == {"photos.picture", "texts.vector"}
    one = CrossModalSearch(targets, model, same_ids=True).search(Record("r01"), k=100)
    assert "r01" not in {hit.id for hit in one}
    two = CrossModalSearch(targets, model).search(Record("r01", target="texts.vector"), k=100)
    assert {hit.collection for hit in two if hit.id == "r01"} == {"photos"}


def test_ids_that_are_numbers_stay_numbers(store: vb.Store, model: TableModel) -> None:
    spec = vb.CollectionSpec.single("numbers", dim=DIM, id_type="int64")
    numbers = store.create(spec)
    numbers.upsert(vb.batch(spec, id=[5, 6, 7], vector=rows(4)[:3]))
    hits = CrossModalSearch(numbers, model).search([Record(6), "dog"], mix=False)
    assert sorted(hit.id for hit in hits) == [5, 7]
    assert all(type(hit.id) is int for hit in hits)


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ([], "at least one part"),
        ("", "text in which something can be seen"),
        (" \u200b", "text in which something can be seen"),
        (b"dog", "not b'dog'"),
        (["dog", 3], "not 3"),
        (None, "not None"),
        ([Text("dog", 1), Text("snow", -1)], "sum to 0"),
        ([Text("dog", 0.1), Text("snow", 0.2), Text("boat", -0.3)], "sum to"),
        (Text("dog", -1), "sum to -1"),
        ([Text("dog", 1), Record("r01", target="nowhere")], "no target 'nowhere'"),
    ],
)
def test_a_query_that_cannot_be_is_refused(
    photos: vb.Collection, model: TableModel, query: Any, says: str
) -> None:
    search = CrossModalSearch(Target(photos, "picture"), model)
    with pytest.raises(vb.ConfigError, match=says):
        search.search(query)


def test_parts_that_nearly_cancel_each_other_are_a_query(photos: vb.Collection, model: TableModel) -> None:
    query = [Text("dog", 2), Text("dog", -2.0), Text("dog", 1e-3), Text("snow", 1e-9)]
    assert len(CrossModalSearch(Target(photos, "picture"), model).search(query, k=2)) == 2


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1", True, None])
@pytest.mark.parametrize(
    "make", [lambda w: Text("a", w), lambda w: Picture("a", w), lambda w: Record("a", w)]
)
def test_a_weight_is_a_finite_number(make: Any, weight: Any) -> None:
    with pytest.raises(vb.ConfigError, match="finite number"):
        make(weight)


def test_parts_that_cancel_each_other_are_refused(photos: vb.Collection, model: TableModel) -> None:
    model._table["anti"] = [-1.0, 0, 0, 0]
    search = CrossModalSearch(Target(photos, "picture"), model)
    with pytest.raises(vb.ConfigError, match="cancel each other"):
        search.search(["house", "anti"])


def test_options_that_cannot_be_are_refused(photos: vb.Collection, model: TableModel) -> None:
    search = CrossModalSearch([Target(photos, "picture"), Target(photos, "caption")], model)
    for options, error, says in (
        ({"k": 0}, vb.SchemaError, "k=0"),
        ({"depth": 3}, vb.ConfigError, "at least k=10"),
        ({"fusion": "mean"}, vb.ConfigError, "one of weighted, rrf"),
        ({"include": ["yaer"]}, vb.SchemaError, "did you mean 'year'"),
        ({"filter": vb.field("yaer") == 1}, vb.SchemaError, "did you mean 'year'"),
    ):
        with pytest.raises(error, match=says):
            search.search("dog", **options)
    with pytest.raises(vb.ConfigError, match="mix=False"):
        search.search([Text("dog", 2), Text("boat", -1)], mix=False)
    with pytest.raises(vb.NotFoundError, match="no record 'nowhere'"):
        search.search(Record("nowhere"))
    with pytest.raises(vb.InvalidRecordError, match="broken"):
        search.search(Picture("broken.jpg"))


def test_targets_that_cannot_be_are_refused(photos: vb.Collection, model: TableModel) -> None:
    for targets, error, says in (
        ([], vb.ConfigError, "at least one collection"),
        ("photos", vb.ConfigError, "not 'photos'"),
        (photos, vb.SchemaError, "several vector fields"),
        (Target(photos, "pictrue"), vb.SchemaError, "did you mean 'picture'"),
        ([Target(photos, "picture", weight=0)], vb.ConfigError, "sum to 0"),
        ([Target(photos, "picture"), Target(photos, "picture")], vb.ConfigError, "two targets are called"),
    ):
        with pytest.raises(error, match=says):
            CrossModalSearch(targets, model)
    with pytest.raises(vb.ConfigError, match="0 or more"):
        Target(photos, "picture", weight=-1)
    with pytest.raises(vb.ConfigError, match=r"a vecbridge\.Collection"):
        Target("photos")
    with pytest.raises(vb.ConfigError, match="needs a model"):
        CrossModalSearch(Target(photos, "picture")).search("dog")


def test_another_model_is_refused(photos: vb.Collection, store: vb.Store) -> None:
    other = TableModel({}, name="other")
    search = CrossModalSearch(Target(photos, "picture"), other)
    for query in ("dog", [Record("r01"), Text("dog")]):
        with pytest.raises(vb.EmbedderMismatchError, match="table"):
            search.search(query)


def test_an_empty_collection_is_an_error_and_a_filter_without_matches_is_none(
    photos: vb.Collection, store: vb.Store, model: TableModel
) -> None:
    empty = store.create(vb.CollectionSpec.single("empty", dim=DIM))
    with pytest.raises(vb.NotFoundError, match="no records"):
        CrossModalSearch(empty, model).search("dog")
    assert CrossModalSearch(empty, model).search("dog", allow_empty=True) == []
    assert CrossModalSearch(Target(photos, "picture"), model).search("dog", filter=vb.field("year") < 0) == []
    both = CrossModalSearch([empty, Target(photos, "picture")], model).search("dog", k=3)
    assert [hit.collection for hit in both] == ["photos"] * 3


# ------------------------------------------------------------------------------- with the bundled model


@pytest.fixture(scope="module")
def clip() -> Iterator[vb.Embedder]:
    pytest.importorskip("onnxruntime")
    with vb.embedder("bundled") as opened:
        yield opened


@pytest.fixture(scope="module")
def gallery(clip: vb.Embedder) -> Iterator[vb.Collection]:
    """Pictures of five things, and texts about them."""
    names = {"1f355": "pizza", "1f415": "dog", "1f3e0": "house", "1f34e": "red apple", "1f697": "car"}
    spec = vb.CollectionSpec(
        "gallery",
        [vb.VectorField(name, clip.dim, embedder=clip.identity) for name in ("picture", "caption")],
    )
    with vb.connect("memory://") as store:
        collection = store.create(spec)
        pictures = clip.embed_images([GALLERY / f"{code}.png" for code in names])
        there = list(names.values())
        collection.upsert(vb.batch(spec, id=there, picture=pictures, caption=clip.embed_texts(there)))
        yield collection


def test_text_finds_pictures_and_a_picture_finds_texts(gallery: vb.Collection, clip: vb.Embedder) -> None:
    looks = CrossModalSearch(Target(gallery, "picture"), clip)
    says = CrossModalSearch(Target(gallery, "caption"), clip)
    assert [hit.id for hit in looks.search("un perro", k=1)] == ["dog"]
    assert [hit.id for hit in looks.search(Picture(GALLERY / "1f34e.png"), k=1)] == ["red apple"]
    assert [hit.id for hit in says.search(Picture(GALLERY / "1f355.png"), k=1)] == ["pizza"]
    both = looks.search([Picture(GALLERY / "1f415.png"), Text("pizza")], k=2)
    assert {hit.id for hit in both} == {"dog", "pizza"}


def test_a_picture_that_cannot_be_read_names_its_file(
    gallery: vb.Collection, clip: vb.Embedder, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    search = CrossModalSearch(Target(gallery, "picture"), clip)
    with pytest.raises(vb.InvalidRecordError, match=r"bad\.jpg"):
        search.search(Picture(tmp_path / "bad.jpg"))
