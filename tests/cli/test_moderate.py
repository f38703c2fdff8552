"""``moderate`` and ``calibrate``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")

Run = Callable[..., Any]  # the fixture of conftest.py
GALLERY = Path(__file__).parents[2] / "vecbridge" / "embed" / "bundled" / "gallery"
POLICY = """\
version: 1
model: bundled
categories:
  - name: food
    texts: [food, fruit, meal, dessert]
    negatives: [animal, plant, building, vehicle, sport, clothing, tool, weather]
    review: 0.5
    block: 0.9
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    (tmp_path / "in").mkdir()
    for file in ("1f34e.png", "1f415.png"):  # a red apple, a dog
        shutil.copy(GALLERY / file, tmp_path / "in")
    return tmp_path


def test_verdicts_of_pictures_and_texts_as_json(run: Run, folder: Path) -> None:
    (folder / "in" / "notes.txt").write_text("a dessert\na bicycle\n", "utf-8")
    ran = run("moderate", "in", "--policy", "policy.yaml", "--json", "--audit", "log")
    assert ran.code == 0, ran.err
    found = {each["id"]: each["verdict"] for each in ran.json["items"]}
    assert found == {
        "1f34e.png": "block",
        "1f415.png": "allow",
        "notes.txt#1": "block",
        "notes.txt#2": "allow",
    }
    assert ran.json["counts"] == {"allow": 2, "review": 0, "block": 2}
    lines = [json.loads(line) for line in (folder / "log").read_text("utf-8").splitlines()[1:]]
    assert [each["sha256"] for each in lines] == [each["sha256"] for each in ran.json["items"]]
    assert {each["policy"] for each in lines} == {ran.json["policy"]["sha256"]}


def test_the_table_fits_80_columns_and_lists_what_is_not_allowed(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("moderate", "in", "-p", "policy.yaml")
    assert ran.code == 0, ran.err
    assert [line.split()[0] for line in ran.out.splitlines()] == ["verdict", "block"]
    assert "2 items: 1 allow, 0 review, 1 block." in ran.err
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "1f415.png" in run("moderate", "in", "-p", "policy.yaml", "--all").out


@pytest.mark.parametrize(("verdict", "code"), [("review", 1), ("block", 1), ("neither", 2)])
def test_a_verdict_can_be_a_failure(run: Run, folder: Path, verdict: str, code: int) -> None:
    assert run("moderate", "in", "-p", "policy.yaml", "--fail-on", verdict).code == code
    if code == 1:
        assert run("moderate", "in/1f415.png", "-p", "policy.yaml", "--fail-on", verdict).code == 0


def test_what_cannot_be_read_is_review_and_the_exit_status_1(run: Run, folder: Path) -> None:
    (folder / "in" / "broken.png").write_bytes(b"no picture")
    (folder / "in" / "photo.heic").write_bytes(b"no picture")
    ran = run("moderate", "in", "-p", "policy.yaml", "--json", "--audit", "log")
    assert ran.code == 1
    found = {each["id"]: each for each in ran.json["items"]}
    assert found["broken.png"]["verdict"] == found["photo.heic"]["verdict"] == "review"
    assert "convert it" in found["photo.heic"]["error"]
    log = (folder / "log").read_text("utf-8")
    assert log.count("InvalidRecordError") == 2
    assert "photo" not in log


def test_items_that_no_category_applies_to_are_left_out_and_said_to_be(run: Run, folder: Path) -> None:
    (folder / "in" / "notes.txt").write_text("a dessert\n\0\n", "utf-8")
    (folder / "policy.yaml").write_text(POLICY + "    applies_to: [text]\n", "utf-8")
    ran = run("moderate", "in", "-p", "policy.yaml", "--json", "--audit", "log")
    assert [(each["id"], each["verdict"]) for each in ran.json["items"]] == [
        ("notes.txt#1", "block"),
        ("notes.txt#2", "review"),  # a line that is no text
    ]
    assert "Left out: 2 images, which no category applies to." in ran.err
    assert (folder / "log").read_text("utf-8").count('"kind": "text"') == 2


def test_a_text_that_cannot_be_read_is_left_out_by_a_policy_for_pictures(run: Run, folder: Path) -> None:
    (folder / "in" / "notes.txt").write_text("a dessert\n\0\n", "utf-8")
    (folder / "policy.yaml").write_text(POLICY + "    applies_to: [image]\n", "utf-8")
    ran = run("moderate", "in", "-p", "policy.yaml", "--json")
    assert ran.code == 0, ran.err
    assert [each["id"] for each in ran.json["items"]] == ["1f34e.png", "1f415.png"]
    assert "Left out: 2 texts, which no category applies to." in ran.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["in", "-p", "none.yaml"], "none.yaml: No such file"),
        (["in", "-p", "typo.yaml"], "typo.yaml:7: unknown key 'reviw'; did you mean 'review'?"),
        (["empty", "-p", "policy.yaml"], "there are no pictures and no texts"),
        (["missing", "-p", "policy.yaml"], "missing"),
        (["in", "-p", "policy.yaml", "-c", "policy.yaml"], "policy.yaml: no calibration"),
        (["in"], "--policy"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(run: Run, folder: Path, arguments: list[str], error: str) -> None:
    (folder / "typo.yaml").write_text(POLICY.replace("review:", "reviw:"), "utf-8")
    (folder / "empty").mkdir()
    ran = run("moderate", *arguments)
    assert ran.code == 2
    assert error in ran.err.replace("\n", " ")
    assert ran.out == ""


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of 40 pictures of food and 40 of animals."""
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    lines = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]
    chosen = [
        {"file": str(GALLERY / line["file"]), "labels": ["food"] if group == "food-drink" else []}
        for group in ("food-drink", "animals-nature")
        for line in [each for each in lines if each["group"] == group][:40]
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in chosen), "utf-8")
    return path


def test_scores_are_calibrated_judged_and_used(run: Run, folder: Path, labels: Path) -> None:
    ran = run("calibrate", labels, "-p", "policy.yaml", "--output", "c.json", "--html", "f.html", "--json")
    assert ran.code == 0, ran.err
    [food] = ran.json["categories"]
    assert (ran.json["calibrated"], food["positives"], food["negatives"]) == (True, 40, 40)
    assert food["average_precision"] > 0.8
    assert "<polyline" in (folder / "f.html").read_text("utf-8")
    used = run("moderate", "in", "-p", "policy.yaml", "-c", "c.json", "--json").json
    plain = run("moderate", "in", "-p", "policy.yaml", "--json").json
    assert used["items"][0]["scores"] != plain["items"][0]["scores"]


def test_the_figures_are_a_table_that_fits_80_columns(
    run: Run, folder: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("calibrate", labels, "-p", "policy.yaml")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].split()[:4] == ["category", "with", "without", "AP"]
    assert "with a label" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_too_few_labels_are_refused_and_nothing_is_written(run: Run, folder: Path, labels: Path) -> None:
    few = folder / "few.jsonl"
    few.write_text("".join(labels.read_text("utf-8").splitlines(keepends=True)[20:60]), "utf-8")
    ran = run("calibrate", few, "-p", "policy.yaml", "--output", "c.json")
    assert ran.code == 2
    assert "20 with it and 20 without it: at least 30 of each" in ran.err.replace("\n", " ")
    assert not (folder / "c.json").exists()
    both = run("calibrate", few, "-p", "policy.yaml", "--output", "c.json", "--calibration", "d.json")
    assert (both.code, "give one of the two" in both.err) == (2, True)
