"""``fair``: a search whose hits represent the groups of a field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("faiss")

Run = Callable[..., Any]  # the fixture of conftest.py


def test_hits_represent_the_targets(run: Run, photos: str) -> None:
    ran = run(
        "fair", "a pet", "-s", photos, "--by", "year", "-k", "4", "-t", "2010=1/2", "-t", "2015=1/2", "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.json["candidates"] == 20
    groups = [hit["group"] for hit in ran.json["hits"]]
    for places in range(1, 5):
        assert groups[:places].count(2010) >= places // 2
    assert [hit["rank"] for hit in ran.json["hits"]] == [1, 2, 3, 4]
    assert {hit["record"]["year"] for hit in ran.json["hits"]} == set(groups)
    assert sum(each["target"] for each in ran.json["groups"]) == pytest.approx(1)


def test_the_tables_fit_80_columns(run: Run, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run(
        "fair", "a pet", "-s", photos, "--by", "group", "-k", "5", "-t", "animals-nature=.5", "-t", "sea=.5"
    )
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].split() == ["#", "was", "score", "group", "id"]
    assert "animals-nature" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "'sea' lacks 2 of its places, which others took: only 0 found" in ran.err
    assert "NDKL" in ran.err


def test_a_picture_and_a_condition(run: Run, photos: str, tmp_path: Any) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "red.png")
    ran = run("fair", "-i", "red.png", "-s", photos, "-b", "year", "-w", "year >= 2015", "--json")
    assert ran.code == 0, ran.err
    assert all(hit["group"] >= 2015 for hit in ran.json["hits"])
    none = run("fair", "-i", "red.png", "-s", photos, "-b", "year", "-w", "year >= 3000")
    assert (none.code, none.out, "No hits." in none.err) == (0, "", True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--by", "grup"], "'photos' has no field 'grup'; did you mean 'group'?"),
        (["--by", "keywords"], "field 'keywords' is of type list<string>"),
        ([], "which groups? Give --by FIELD"),
        (["--by", "year", "--target", "2010"], "--target 2010: a group and its share"),
        (["--by", "year", "--target", "2010=x"], "--target 2010=x: a group and its share"),
        (["--by", "year", "--target", "2010=1/0"], "a group and its share"),
        (["--by", "year", "-t", "2010=1", "-t", "2010=0"], "--target 2010: it is there twice"),
        (["--by", "year", "--target", "old=1"], "target 'old': field 'year' is of type int64"),
        (["--by", "year", "--target", "2010=0.7"], "add up to 0.7"),
        (["--by", "year", "--candidates", "3"], "a whole number from k=10"),
        (["--by", "year", "--image", "x.png"], "either a text or --image FILE"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(run: Run, photos: str, arguments: list[str], error: str) -> None:
    ran = run("fair", "a pet", "-s", photos, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert error in ran.err
