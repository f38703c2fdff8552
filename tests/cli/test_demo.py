"""``demo``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from vecbridge.cli.demo import QUESTIONS

Run = Callable[..., Any]  # the fixture of conftest.py


def test_the_demo_runs_twice_and_writes_a_picture_and_a_page(run: Run) -> None:
    first = run("demo")
    assert first.code == 0
    for question in QUESTIONS:
        assert (question.text or question.picture) in first.out
    again = run("demo", "--json")
    assert again.code == 0
    found = again.json
    assert (found["rows"], found["failed"]) == (found["written"], 0)
    assert found["rows"] > 200
    assert [each["where"] for each in found["searches"]] == [each.where or None for each in QUESTIONS]
    assert all(each["hits"] for each in found["searches"])
    with Image.open(found["files"]["png"]) as sheet:
        assert sheet.width > 1000
    assert Path(found["files"]["png"]).stat().st_size < 400_000
    page = Path(found["files"]["html"]).read_text("utf-8")
    assert page.count("data:image/jpeg") >= sum(len(each["hits"]) for each in found["searches"])
    assert run("search", "a dog", "--store", found["url"], "--json").code == 0


def test_the_hits_of_the_demo_match_its_conditions(run: Run) -> None:
    searches = run("demo", "--dir", "elsewhere", "--json").json["searches"]
    for each in searches:
        years = [hit["record"]["year"] for hit in each["hits"]]
        if each["where"] and each["where"].startswith("year >= "):
            assert min(years) >= int(each["where"].removeprefix("year >= "))
        if each["where"] and each["where"].startswith("contains"):
            assert all("fruit" in hit["record"]["keywords"] for hit in each["hits"])
    assert Path("elsewhere/demo.png").is_file()
    assert not Path("vecbridge-demo").exists()
