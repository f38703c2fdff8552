"""``classify``: pictures and collections, as a table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from vecbridge.apps import ZeroShotClassifier

Run = Callable[..., Any]  # the fixture of conftest.py
GALLERY = Path(vb.__file__).parent / "embed" / "bundled" / "gallery"
FILES = {"a.png": ("1f355.png", "pizza"), "b.png": ("1f415.png", "dog"), "c.png": ("1f3e0.png", "house")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with their names beside them, and one that is broken."""
    made = tmp_path / "three"
    made.mkdir()
    for name, (file, _) in FILES.items():
        shutil.copy(GALLERY / file, made / name)
    lines = [json.dumps({"file_name": name, "shows": shows}) for name, (_, shows) in FILES.items()]
    (made / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return made


def test_json_is_what_the_library_says(run: Run, folder: Path) -> None:
    ran = run("classify", folder, "--labels", "dog, pizza", "-l", "house", "-k", 2, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    with vb.embedder("bundled") as clip:
        classifier = ZeroShotClassifier(clip, ["dog", "pizza", "house"])
        predictions = classifier.classify([folder / name for name in FILES], k=2)
    assert found["items"] == [
        {"id": name, **prediction.to_dict()} for name, prediction in zip(FILES, predictions, strict=True)
    ]
    assert [item["label"] for item in found["items"]] == ["pizza", "dog", "house"]
    assert (found["model"], found["labels"], found["language"]) == (
        "bundled",
        ["dog", "pizza", "house"],
        "en",
    )
    assert found["templates"] == list(classifier.templates)
    assert (found["logit_scale"], found["report"], found["failed"]) == (classifier.logit_scale, None, [])


def test_the_table_fits_80_columns(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("classify", folder, "--labels", "dog,pizza,house", "-k", 3, "--truth", "shows")
    assert ran.code == 0, ran.err
    head, *lines = ran.out.splitlines()
    assert head.split() == ["id", "label", "probability", "next", "truth"]
    assert lines[0].split()[:2] == ["a.png", "pizza"]
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "right" in ran.out
    assert "100.0 % (43.9 to 100.0 %, n=3)" in ran.out
    assert "3 pictures by bundled." in ran.err
    assert "Model: the bundled demonstration model" in ran.err


def test_csv_has_a_line_a_picture(run: Run, folder: Path) -> None:
    ran = run("classify", folder, "--labels", "dog,pizza", "-k", 5, "--truth", "shows", "--csv", "-")
    assert ran.code == 0, ran.err
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [(row["id"], row["label"], row["truth"]) for row in rows][:2] == [
        ("a.png", "pizza", "pizza"),
        ("b.png", "dog", "dog"),
    ]
    assert list(rows[0]) == [
        *(
            "id",
            "label",
            "label_1",
            "cosine_1",
            "probability_1",
            "label_2",
            "cosine_2",
            "probability_2",
            "truth",
        )
    ]
    assert float(rows[0]["probability_1"]) + float(rows[0]["probability_2"]) == pytest.approx(1, abs=1e-4)
    written = run("classify", folder, "--labels", "dog,pizza", "-k", 5, "--truth", "shows", "--csv", "l.csv")
    assert Path("l.csv").read_text("utf-8") == ran.out
    assert written.out.startswith("right")


def test_none_of_these_by_a_bound_and_by_other_texts(run: Run, folder: Path) -> None:
    for option in (("--none-below", 0.999), ("--others", "house,a thing")):
        ran = run("classify", folder / "c.png", "--labels", "dog,pizza", *option, "--csv", "-")
        assert ran.code == 0, ran.err
        [row] = csv.DictReader(io.StringIO(ran.out))
        assert row["label"] == ""
        assert "1 of them none of these" in ran.err
    table = run("classify", folder / "c.png", "--labels", "dog,pizza", "--others", "house")
    assert "(none of these)" in table.out
    report = run(
        "classify", folder, "-l", "dog,pizza", "--others", "house", "--truth", "shows", "--json"
    ).json
    assert report["report"]["false_accept"] == {"share": 0.0, "count": 0, "of": 1, "low": 0.0, "high": 0.793}
    assert report["report"]["right"]["count"] == 2
    other = run("classify", folder, "-l", "cat,bird", "--truth", "shows")
    assert "no value of 'shows' is one of the labels" in other.err


def test_labels_from_files_and_in_spanish(run: Run, folder: Path) -> None:
    Path("labels.txt").write_text("\ufeffperro\n\npizza\ncasa\n", "utf-8")
    ran = run("classify", folder, "--labels-file", "labels.txt", "--language", "es", "--json")
    assert [item["label"] for item in ran.json["items"]] == ["pizza", "perro", "casa"]
    assert ran.json["language"] == "es"
    Path("labels.json").write_text(json.dumps({"food": ["pizza", "apple"], "animal": "dog"}))
    ran = run("classify", folder, "--labels-file", "labels.json", "--template", "{}", "--json")
    assert [item["label"] for item in ran.json["items"]][:2] == ["food", "animal"]
    assert (ran.json["language"], ran.json["templates"]) == (None, ["{}"])


def test_a_picture_that_cannot_be_read_fails_alone(run: Run, folder: Path) -> None:
    (folder / "d.jpg").write_text("no picture")
    (folder / "e.heic").write_text("unread")
    ran = run("classify", folder, "--labels", "dog,pizza", "--json")
    assert ran.code == 1
    assert [item["id"] for item in ran.json["items"]] == list(FILES)
    assert {failure["id"] for failure in ran.json["failed"]} == {"d.jpg", "e.heic"}
    assert "d.jpg: the content is not a JPEG" in ran.err
    alone = run("classify", folder / "d.jpg", "--labels", "dog,pizza")
    assert (alone.code, alone.out) == (1, "")


def test_a_collection_is_classified_by_its_vectors(run: Run, photos: str) -> None:
    command = ("classify", "--store", photos, "--labels", "dog,monkey face,gorilla", "--truth", "name")
    found = run(*command, "--json").json
    assert len(found["items"]) == 20
    with vb.open(photos) as collection, vb.embedder("bundled") as clip:
        classifier = ZeroShotClassifier(clip, ["dog", "monkey face", "gorilla"])
        batch = collection.find(vb.everything, limit=100, include=["vector"])
        keys = batch.column("id").to_pylist()
        labels = dict(
            zip(keys, [each.label for each in classifier.classify_vectors(vb.vectors(batch))], strict=True)
        )
    assert {item["id"]: item["label"] for item in found["items"]} == labels
    assert found["report"]["false_accept"]["of"] + found["report"]["right"]["of"] == 20
    some = run(*command, "--json", "--where", "year >= 2015").json
    assert 0 < len(some["items"]) < 20
    none = run(*command, "--where", "year < 0")
    assert (none.code, none.out) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--labels", "dog,cat"], "PATH) or --store"),
        ([".", "--store", "memory://#a", "--labels", "dog,cat"], "one of the two"),
        (["."], "no labels"),
        ([".", "--labels", ", ,"], "no labels"),
        ([".", "--labels", "dog"], "one label, 'dog'"),
        ([".", "--labels", "dog,cat,Dog"], "stands twice"),
        ([".", "--labels", "dog,cat", "--language", "fr"], "--language fr; there are: en, es"),
        ([".", "--labels", "dog,cat", "--template", "a photo"], "one {}"),
        ([".", "--labels", "dog,cat", "--none-below", "2"], "--none-below"),
        ([".", "--labels", "dog,cat", "-k", "0"], "-k"),
        ([".", "--labels", "dog,cat", "--labels-file", "x.txt"], "one of the two"),
        ([".", "--labels-file", "nowhere.txt"], "nowhere.txt"),
        ([".", "--labels-file", "bad.json"], "bad.json"),
        ([".", "--labels-file", "twice.json"], "'a' stands twice"),
        ([".", "--labels-file", "latin.txt"], "not UTF-8 at byte 1"),
        ([".", "--labels", "dog,cat", "--where", "year > 1"], "go with --store"),
        ([".", "--labels", "dog,cat", "--json", "--csv", "-"], "--csv"),
        (["nowhere", "--labels", "dog,cat"], "nowhere"),
        (["empty", "--labels", "dog,cat"], "no pictures in empty"),
        (["three", "--labels", "dog,cat", "--truth", "show"], "did you mean 'shows'"),
    ],
)
def test_bad_usage_is_told_before_a_model_is_loaded(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setattr("vecbridge.cli.common.load_embedder", None)
    Path("empty").mkdir()
    Path("bad.json").write_text("{")
    Path("twice.json").write_text('{"a": "a", "a": "b"}')
    Path("latin.txt").write_bytes(b"n\xfcsse\n")
    ran = run("classify", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_collections_that_cannot_be_classified(run: Run, photos: str) -> None:
    with vb.connect("faiss:./s") as store, vb.embedder("bundled") as clip:
        store.create(vb.CollectionSpec.single("empty", dim=clip.dim, embedder=clip.identity)).close()
    empty = run("classify", "--store", "faiss:./s#empty", "--labels", "dog,cat")
    assert (empty.code, empty.out) == (1, "")
    assert "no records" in empty.err
    for options, says in (
        (["--truth", "nmae"], "did you mean 'name'"),
        (["--using", "vectr"], "did you mean 'vector'"),
        (["--where", "yaer > 1"], "did you mean 'year'"),
    ):
        ran = run("classify", "--store", photos, "--labels", "dog,cat", *options)
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.err
    assert run("classify", "--store", "faiss:./s#nowhere", "--labels", "dog,cat").code == 1
