"""``verify``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb

Run = Callable[..., Any]  # the fixture of conftest.py


@pytest.fixture
def sides(run: Run) -> tuple[str, str]:
    spec = vb.CollectionSpec.single("photos", dim=4, fields={"title": "string"})
    random = np.random.default_rng(0)
    rows = [
        {"id": f"r{number}", "vector": random.standard_normal(4), "title": f"title {number % 3}"}
        for number in range(60)
    ]
    for url in ("faiss:./a", "faiss:./b"):
        with vb.connect(url) as store, store.create(spec) as collection:
            collection.upsert(rows)
    return "faiss:./a#photos", "faiss:./b"


def change(url: str) -> None:
    with vb.open(f"{url}#photos") as collection:
        collection.upsert([{"id": "r7", "vector": [1, 2, 3, 4], "title": "\x1b[31mcrimson"}])


def test_a_copy_that_holds_exits_0(run: Run, sides: tuple[str, str]) -> None:
    found = run("verify", *sides, "--json").json
    assert found["passed"] is True
    assert found["level"] == "search"
    assert found["recall"][0]["target"] == 1.0
    ran = run("verify", *sides)
    assert ran.code == 0
    assert "held" in ran.out
    assert "60 at the source, 60 at the target" in ran.out


def test_a_copy_that_does_not_hold_exits_1_and_says_what_differs(run: Run, sides: tuple[str, str]) -> None:
    change(sides[1])
    ran = run("verify", *sides, "--level", "content", "--html", "report.html")
    assert ran.code == 1
    assert '("title 1" → "\\u001b[31mcrimson")' in ran.out
    assert "vector" in ran.out
    assert "Page: report.html" in ran.err
    assert "crimson" in Path("report.html").read_text("utf-8")
    assert run("verify", *sides, "--level", "count").code == 0


def test_values_stay_hidden_where_they_are_not_wanted(run: Run, sides: tuple[str, str]) -> None:
    change(sides[1])
    for options in ((), ("--json",)):
        ran = run("verify", *sides, "-l", "content", "--no-values", "--html", "report.html", *options)
        assert ran.code == 1
        assert "crimson" not in ran.out
        assert "crimson" not in Path("report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--level", "all"), "level='all'"),
        (("--plan", "none.json"), "none.json"),
        (("--queries", "none.npy"), "none.npy"),
        (("--min-recall", "7"), "min_recall"),
    ],
)
def test_bad_usage_exits_2(run: Run, sides: tuple[str, str], options: tuple[str, ...], message: str) -> None:
    ran = run("verify", *sides, *options)
    assert ran.code == 2
    assert message in ran.err.replace("\n", " ")


def test_a_copy_that_is_not_there_exits_1(run: Run, sides: tuple[str, str]) -> None:
    ran = run("verify", sides[0], "faiss:./b#other")
    assert ran.code == 1
    assert "no collection 'other'" in ran.err
