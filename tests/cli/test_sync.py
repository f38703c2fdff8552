"""``sync``: one command brings a copy up to date, and says what it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb

Run = Callable[..., Any]  # the fixture of conftest.py
SOURCE, TARGET = "faiss:./from#photos", "faiss:./to"


@pytest.fixture(autouse=True)
def sides(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of five rows, and a copy that has three of them and one of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    spec = vb.CollectionSpec.single("photos", dim=2, metric="l2", fields={"year": "int64"})
    for store_url, ids in (("faiss:./from", "abcde"), ("faiss:./to", "abcx")):
        with vb.connect(store_url) as store:
            store.create(spec).upsert([{"id": id, "vector": [1, 2], "year": 2000} for id in ids])


def ids(url: str) -> str:
    with vb.open(url) as collection:
        return "".join(sorted(id for page in collection.scan() for id in page.batch["id"].to_pylist()))


def test_the_default_state_is_found_again_by_the_same_command(run: Run, tmp_path: Path) -> None:
    first = run("sync", SOURCE, TARGET)
    assert first.code == 0
    lines = dict(line.split(maxsplit=1) for line in first.out.splitlines())
    assert {name: lines[name] for name in ("inserted", "updated", "deleted", "unchanged", "compared")} == {
        "inserted": "2",
        "updated": "0",
        "deleted": "0",
        "unchanged": "3",
        "compared": "with the target: no state yet",
    }
    assert lines["extra"] == "1 only in the target; --delete-extra deletes them"
    assert Path(lines["state"]).parent == tmp_path / "home" / "vecbridge"
    with vb.open(SOURCE) as source:
        source.delete(["a"])
    again = run("sync", SOURCE, TARGET, "--json")
    assert again.code == 0
    assert (again.json["deleted"], again.json["unchanged"], again.json["compared"]) == (1, 4, "state")
    assert ids(f"{TARGET}#photos") == "bcdex"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(run: Run, tmp_path: Path) -> None:
    ran = run("sync", SOURCE, TARGET, "--dry-run", "--delete-extra", "--state", "s")
    assert ran.code == 0
    assert ran.out.splitlines()[:4] == [
        "dry run    nothing was changed; this would be:",
        "inserted   2",
        "updated    0",
        "deleted    1",
    ]
    assert ids(f"{TARGET}#photos") == "abcx"
    assert not list(tmp_path.glob("s*"))


def test_too_many_deletes_and_an_empty_source_are_status_1_and_name_the_option(run: Run) -> None:
    assert run("sync", SOURCE, TARGET, "--state", "s").code == 0
    with vb.open(SOURCE) as source:
        source.delete(["a", "b"])
    ran = run("sync", SOURCE, TARGET, "--state", "s", "--max-deletes", 1)
    assert (ran.code, ran.out) == (1, "")
    assert "2 rows of" in ran.err
    assert "--max-deletes 2 allows it" in ran.err
    with vb.open(SOURCE) as source:
        source.delete(["c", "d", "e"])
    ran = run("sync", SOURCE, TARGET, "--state", "s")
    assert ran.code == 1
    assert "is empty" in ran.err
    assert ids(f"{TARGET}#photos") == "abcdex"


def test_a_condition_chooses_the_rows_and_later_runs_know_it(run: Run) -> None:
    with vb.open(SOURCE) as source:
        source.upsert([{"id": "f", "vector": [1, 2], "year": 1999}])
    for _ in range(2):
        assert run("sync", SOURCE, TARGET, "--state", "s", "--where", "year >= 2000").code == 0
    assert run("sync", SOURCE, TARGET, "--state", "s").code == 0
    assert ids(f"{TARGET}#photos") == "abcdex"
    ran = run("sync", SOURCE, TARGET, "--state", "s", "--where", "year > 1")
    assert ran.code == 2
    assert "has another one" in ran.err


def test_a_target_that_is_not_there_and_a_damaged_state_are_said_in_one_line(run: Run) -> None:
    ran = run("sync", SOURCE, "faiss:./nowhere")
    assert ran.code == 1
    assert "vecbridge migrate makes it" in ran.err
    Path("s").write_text("something else")
    ran = run("sync", SOURCE, TARGET, "--state", "s")
    assert ran.code == 1
    assert ran.err == "error: s is no state file\n"
