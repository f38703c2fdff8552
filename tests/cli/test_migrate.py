"""``migrate``: a collection is copied, and the same command goes on, or says that it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.migration.copies import Reads, contents, fill, pages_noted, small_pages, unfit
from vecbridge.bulk import delivery
from vecbridge.migration import planning
from vecbridge.migration.plans import Loss
from vecbridge.testing.pinecone import Emulator, Fault

Run = Callable[..., Any]  # the fixture of conftest.py
SOURCE, TARGET = "faiss:./old#photos", "faiss:./new#photos"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the command keeps its journals; pages are small."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with small_pages():
        yield tmp_path / "state" / "vecbridge"


def test_a_collection_is_copied_and_the_next_command_is_named(run: Run) -> None:
    before = fill(SOURCE, 25, namespaces=("", "eu"))
    ran = run("migrate", SOURCE, "faiss:./new")
    assert ran.code == 0
    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert (lines["copied"], lines["namespaces"]) == ("50", "2")
    assert lines["next:"].endswith("verify 'faiss:./old#photos' faiss:./new")
    assert ran.err.startswith("Losses: none.\nCopying faiss:///")
    assert contents(TARGET) == before


def test_json_is_one_document(run: Run, state: Path) -> None:
    fill(SOURCE, 25)
    ran = run("migrate", SOURCE, TARGET, "--json", "--drop", "tags", "--allow", "field:tags")
    assert ran.code == 0
    document = ran.json
    assert (document["rows"], document["written"], document["failed"], document["resumed"]) == (25, 25, 0, 0)
    assert document["already_done"] is False
    assert Path(document["journal"]).parent == state
    assert document["target"].endswith("/new#photos")


def test_the_same_command_says_when_it_was_done_and_another_one_is_another_copy(
    run: Run, state: Path
) -> None:
    fill(SOURCE, 25)
    run("migrate", SOURCE, TARGET)
    again = run("migrate", SOURCE, TARGET)
    assert again.code == 0
    assert "done on 20" in again.out
    other = run(
        "migrate", SOURCE, "faiss:./new#few", "--where", "year > 0", "--rename", "title=name,year=made"
    )
    assert other.code == 0
    assert {row["name"] for row in contents("faiss:./new#few")[""].values()} > {"t1", "t2"}
    assert len(list(state.iterdir())) == 2


def test_the_same_command_goes_on_after_an_error(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(SOURCE, 60)
    with monkeypatch.context() as patch:
        reads = Reads(patch, "faiss:///")
        build = planning.build

        def planned(*arguments: Any, **options: Any) -> Any:
            plan = build(*arguments, **options)
            reads.fail_after = len(reads.ids) + 30
            return plan

        patch.setattr(planning, "build", planned)
        reads.error = vb.UnavailableError("nothing answers", retryable=False)
        ran = run("migrate", SOURCE, TARGET)
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("error: nothing answers")
    [journal] = state.iterdir()
    assert pages_noted(journal) == 30
    done = run("migrate", SOURCE, TARGET)
    assert done.code == 0
    assert "30 by an earlier run" in done.out
    assert contents(TARGET) == before


def test_a_rate_limit_that_never_ends_is_status_1_and_a_sentence_and_the_same_command_goes_on(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(SOURCE, 60)
    monkeypatch.setenv("PINECONE_API_KEY", "emulated")
    monkeypatch.setattr(delivery, "pause", lambda *_: None)
    with Emulator() as emulator:
        target = f"{emulator.host.replace('http://', 'pinecone://')}#photos"
        emulator.faults.add(Fault(status=429, retry_after=1, operations=frozenset({"upsert"})))
        ran = run("migrate", SOURCE, target)
        assert ran.code == 1
        assert "Traceback" not in ran.err
        last = ran.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert "429" in last
        assert "given up after" in last
        emulator.faults.clear()
        assert run("migrate", SOURCE, target).code == 0
        assert contents(target) == before


def test_a_loss_that_is_not_allowed_is_status_1_names_the_option_and_makes_nothing(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(SOURCE, 5)
    build = planning.build

    def lossy(*arguments: Any, **options: Any) -> Any:
        losses = (Loss("index", "vector", "no such index"), Loss("field:title", "title", "no such type"))
        return replace(build(*arguments, **options), losses=losses)

    monkeypatch.setattr(planning, "build", lossy)
    ran = run("migrate", SOURCE, TARGET)
    assert ran.code == 1
    assert "--allow field:title,index accepts that" in ran.err
    assert ran.err.splitlines()[0].split() == ["loss", "of", "rows", "what", "happens"]
    assert ran.out == ""
    assert not Path("new").exists()
    assert list(state.iterdir()) == []
    assert run("migrate", SOURCE, TARGET, "--allow", "field:title,index").code == 0


def test_rows_that_are_set_aside_are_status_1_and_without_a_file_the_option_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(SOURCE, 25)
    unfit(monkeypatch, "faiss:///", "r0007")
    stopped = run("migrate", SOURCE, TARGET)
    assert stopped.code == 1
    assert "'r0007'" in stopped.err
    assert "--dead-letters FILE sets such rows aside" in stopped.err
    ran = run("migrate", SOURCE, TARGET, "--dead-letters", "bad.jsonl")
    assert ran.code == 1
    assert "set aside   1; the reasons are in bad.jsonl" in ran.out
    [letter] = [json.loads(line) for line in Path("bad.jsonl").read_text("utf-8").splitlines()]
    assert letter["id"] == "r0007"
    assert len(contents(TARGET)[""]) == 24


def test_a_plan_file_is_followed(run: Run) -> None:
    fill(SOURCE, 10)
    plan = vb.plan(SOURCE, TARGET, rename={"title": "name"})
    Path("plan.json").write_text(plan.to_json(), "utf-8")
    assert run("migrate", SOURCE, TARGET, "--plan", "plan.json").code == 0
    assert "name" in contents(TARGET)[""]["r0001"]


def test_a_state_file_is_made(run: Run) -> None:
    fill(SOURCE, 10)
    assert run("migrate", SOURCE, TARGET, "--state", "photos.sync", "--no-journal").code == 0
    assert Path("photos.sync").stat().st_size > 160


def test_an_empty_source_is_status_0_and_says_so(run: Run) -> None:
    fill(SOURCE, 0)
    ran = run("migrate", SOURCE, TARGET)
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "copied      no records"


@pytest.mark.parametrize(
    "arguments",
    [
        (SOURCE, SOURCE),
        (SOURCE, TARGET, "--into", "anything"),
        (SOURCE, TARGET, "--rename", "title"),
        (SOURCE, TARGET, "--journal", "a", "--no-journal"),
        (SOURCE, TARGET, "--allow", "metric"),
        (SOURCE, TARGET, "--where", "year >"),
        (SOURCE, TARGET, "--id", "{title}"),
        (SOURCE, TARGET, "--max-rate", "0"),
        (SOURCE,),
        ("faiss:./old", TARGET),
    ],
)
def test_bad_usage_is_status_2_and_makes_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    fill(SOURCE, 5)
    assert run("migrate", *arguments).code == 2
    assert not Path("new").exists()
