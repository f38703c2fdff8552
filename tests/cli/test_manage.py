"""``count``, ``delete`` and ``drop``: what is removed is what was asked for, and somebody was asked."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

import vecbridge as vb

Run = Callable[..., Any]  # the fixture of conftest.py
STORE = "faiss:./store#photos"


@pytest.fixture(autouse=True)
def photos(run: Run) -> None:
    """Four records, in the directory in which commands run."""
    spec = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64", "taken": "timestamp"})
    with vb.connect("faiss:./store") as store, store.create(spec) as collection:
        rows = [{"id": key, "vector": [1, place]} for place, key in enumerate("abcd")]
        for row, year in zip(rows, (2019, 2020, 2021, None), strict=True):
            row["year"] = year
        rows[0]["taken"] = "2024-05-17T12:00:00Z"
        collection.upsert(rows)


def ids() -> list[Any]:
    with vb.open(STORE) as photos:
        return sorted(key for page in photos.scan(include=()) for key in page.batch.column("id").to_pylist())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody who answers."""

    def answers(text: str) -> None:
        stdin = io.StringIO(text)
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", stdin)

    return answers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), 4),
        (("--where", "year >= 2020"), 2),
        (("--where", "year is null"), 1),
        (("--where", "taken >= '2024-05-17'"), 1),
        (("--filter", '{"field": "year", "op": "<", "value": 2000}'), 0),
        (("--where", "year > 2019", "--filter", '{"field": "year", "op": "<", "value": 2021}'), 1),
    ],
)
def test_count(run: Run, options: tuple[str, ...], expected: int) -> None:
    assert run("count", STORE, *options).out == f"{expected}\n"
    assert run("count", STORE, *options, "--json").json == {"url": STORE, "count": expected}


def test_deleting_by_id(run: Run) -> None:
    assert run("delete", STORE, "a", "c", "nobody", "--yes").out == "deleted  2\n"
    assert ids() == ["b", "d"]


def test_deleting_by_condition(run: Run) -> None:
    ran = run("delete", STORE, "--where", "year >= 2020", "--yes", "--json")
    assert ran.json == {"url": STORE, "matching": 2, "deleted": 2}
    assert ids() == ["a", "d"]


def test_deleting_where_nothing_matches_asks_nobody(run: Run) -> None:
    assert run("delete", STORE, "--where", "year = 1900").out == "deleted  0\n"
    assert ids() == list("abcd")


def test_what_is_asked_says_how_many_and_a_no_removes_nothing(
    run: Run, terminal: Callable[[str], None]
) -> None:
    commands = (("delete", STORE, "--where", "year >= 2020"), ("delete", STORE, "a"), ("drop", STORE))
    for command, many in zip(commands, ("2 records", "1 record", "4 records"), strict=True):
        for answer in ("\n", "n\n", ""):
            terminal(answer)
            ran = run(*command)
            assert (ran.code, ran.out) == (1, "")
            assert many in ran.err
            assert "nothing was removed" in ran.err
    assert ids() == list("abcd")
    terminal("y\n")
    assert run("delete", STORE, "a").code == 0
    assert ids() == list("bcd")


def test_nobody_to_ask_is_bad_usage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    for command in (("delete", STORE, "a"), ("delete", STORE, "--where", "year > 1"), ("drop", STORE)):
        ran = run(*command)
        assert (ran.code, ran.out) == (2, "")
        assert "--yes" in ran.err
    assert ids() == list("abcd")


@pytest.mark.parametrize("options", [(), ("a", "--where", "year > 1")])
def test_ids_or_a_condition(run: Run, options: tuple[str, ...]) -> None:
    assert run("delete", STORE, *options, "--yes").code == 2
    assert ids() == list("abcd")


def test_ids_that_are_numbers(run: Run) -> None:
    spec = vb.CollectionSpec.single("numbers", dim=1, id_type="int64")
    with vb.connect("faiss:./store") as store, store.create(spec) as collection:
        collection.upsert([{"id": number, "vector": [1]} for number in (1, 2, -3)])
    url = "faiss:./store#numbers"
    assert run("delete", url, "one", "--yes").code == 2
    assert run("delete", url, "--yes", "--json", "--", "1", "-3").json["deleted"] == 2
    assert run("count", url).out == "1\n"


def test_dropping(run: Run) -> None:
    ran = run("drop", STORE, "--yes", "--json")
    assert ran.json == {"url": STORE, "dropped": True, "records": 4}
    assert run("list", "faiss:./store", "--json").json["collections"] == []


@pytest.mark.parametrize("command", [("drop", "--yes"), ("count",), ("delete", "a", "--yes")])
def test_a_collection_that_is_not_there_is_status_1(run: Run, command: tuple[str, ...]) -> None:
    ran = run(command[0], "faiss:./store#photo", *command[1:])
    assert (ran.code, ran.out) == (1, "")
    assert "did you mean 'photos'" in ran.err


@pytest.mark.parametrize("command", [("drop", "--yes"), ("count",), ("delete", "a", "--yes")])
def test_a_url_without_a_collection_is_bad_usage(run: Run, command: tuple[str, ...]) -> None:
    assert run(command[0], "faiss:./store", *command[1:]).code == 2


def test_namespaces_are_counted_together_and_removed_one_at_a_time(run: Run) -> None:
    spec = vb.CollectionSpec.single("parts", dim=1, namespaced=True)
    with vb.connect("faiss:./store") as store:
        store.create(spec).close()
        for namespace in ("eu", "us"):
            with store.open("parts", namespace=namespace) as part:
                part.upsert([{"id": key, "vector": [1]} for key in "ab"])
    assert run("count", "faiss:./store#parts").out == "4\n"
    assert run("count", "faiss:./store?namespace=eu#parts").out == "2\n"
    ran = run("delete", "faiss:./store#parts", "a", "--yes")
    assert ran.code == 2
    assert "eu, us" in ran.err
    assert run("delete", "faiss:./store?namespace=eu#parts", "a", "--yes").code == 0
    assert run("drop", "faiss:./store?namespace=asia#parts", "--yes").code == 1
    assert run("drop", "faiss:./store?namespace=us#parts", "--yes", "--json").json["records"] == 2
    assert run("count", "faiss:./store#parts").out == "1\n"
