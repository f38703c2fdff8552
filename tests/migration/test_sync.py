"""Sync: inserts, updates and deletes reach the copy, whatever was there and whenever it is cut off."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.migration.copies import later_page_fails, parallel, small_pages
from tests.migration.sides import PLACES
from vecbridge.errors import (
    ConfigError,
    InvalidRecordError,
    JournalError,
    LossRefusedError,
    NotFoundError,
)
from vecbridge.migration import syncrun
from vecbridge.migration.deletions import source_id
from vecbridge.migration.plans import Plan

FIELDS = {"year": "int64", "title": "string", "tags": "list<string>", "notes": "json"}


class Pair:
    """A source and its copy, open while a test changes them."""

    def __init__(self, source: str, target: str, **options: Any) -> None:
        self.source_url, self.target_url = f"{source}#photos", f"{target}#copies"
        self.spec = vb.CollectionSpec.single("photos", dim=2, metric="l2", fields=FIELDS, **options)
        self._stores = [vb.connect(source), vb.connect(target)]
        self._stores[0].create(self.spec)
        self._stores[1].create(self.spec.renamed("copies"))

    def source(self, namespace: str = "") -> vb.Collection:
        return self._stores[0].open("photos", namespace=namespace)

    def target(self, namespace: str = "") -> vb.Collection:
        return self._stores[1].open("copies", namespace=namespace)

    def sync(self, **options: Any) -> vb.SyncReport:
        return vb.sync(self.source_url, self.target_url, **options)

    def close(self) -> None:
        for store in self._stores:
            store.close()


def row(id: str | int, **values: Any) -> dict[str, Any]:
    return {"id": id, "vector": [1.0, 2.0]} | values


def rows(collection: vb.Collection) -> dict[Any, dict[str, Any]]:
    return {each["id"]: each for page in collection.scan() for each in page.batch.to_pylist()}


def counts(report: vb.SyncReport) -> tuple[int, int, int, int]:
    return report.inserted, report.updated, report.deleted, report.unchanged


@pytest.fixture
def urls() -> tuple[str, str]:
    name = uuid.uuid4().hex
    return f"memory:///from-{name}", f"memory:///to-{name}"


@pytest.fixture
def pair(urls: tuple[str, str]) -> Iterator[Pair]:
    pair = Pair(*urls)
    yield pair
    pair.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "photos.state"


@pytest.mark.parametrize(
    ("source", "target"), [("memory", "memory"), ("faiss", "faiss"), ("milvus-lite", "snapshot")]
)
def test_inserts_updates_and_deletes_of_every_sort_reach_the_copy(
    source: str, target: str, tmp_path: Path, urls: tuple[str, str]
) -> None:
    if source == "memory":
        places = urls
    else:
        places = PLACES[source].url(tmp_path / "from"), PLACES[target].url(tmp_path / "to")
    pair, state = Pair(*places), tmp_path / "state"
    pair.source().upsert(
        [
            row("same", year=1, title="", tags=[]),
            row("null to value"),
            row("value to null", year=0, title="x"),
            row("empty to null", title="", tags=[]),
            row("bit", title="x"),
            row("list", tags=["a", "b"]),
            row("json", notes={"a": 1}),
            row("gone", year=3),
        ]
    )
    assert counts(pair.sync(state=state)) == (8, 0, 0, 0)
    assert rows(pair.target()) == rows(pair.source())
    changed = float(np.nextafter(np.float32(2.0), np.float32(3.0)))
    pair.source().upsert(
        [
            row("null to value", year=0, title="", tags=[], notes={}),
            row("value to null"),
            row("empty to null"),
            row("bit", title="x") | {"vector": [1.0, changed]},
            row("list", tags=["ab"]),
            row("json", notes={"a": 2}),
            row("new", year=9),
        ]
    )
    pair.source().delete(["gone"])
    expected = rows(pair.source())
    before = rows(pair.target())
    dry = pair.sync(state=state, dry_run=True)
    assert (counts(dry), dry.dry_run, dry.compared) == ((1, 6, 1, 1), True, "state")
    assert rows(pair.target()) == before
    assert counts(pair.sync(state=state)) == (1, 6, 1, 1)
    assert rows(pair.target()) == expected
    assert counts(pair.sync(state=state)) == (0, 0, 0, 8)
    pair.close()


def test_without_a_state_both_sides_are_compared_and_rows_of_the_target_alone_stay(pair: Pair) -> None:
    pair.source().upsert([row("a"), row("b", year=1), row("c")])
    pair.target().upsert([row("a"), row("b", year=2), row("mine")])
    report = pair.sync()
    assert (counts(report), report.compared, report.kept_extra) == ((1, 1, 0, 1), "target", 1)
    assert set(rows(pair.target())) == {"a", "b", "c", "mine"}
    assert pair.sync(delete_extra=True, dry_run=True).deleted == 1
    report = pair.sync(delete_extra=True)
    assert (counts(report), report.kept_extra) == ((0, 0, 1, 3), 0)
    assert rows(pair.target()) == rows(pair.source())


def test_with_a_state_rows_of_the_target_alone_go_only_where_that_is_asked_for(
    pair: Pair, state: Path
) -> None:
    pair.source().upsert([row("a"), row("b")])
    pair.sync(state=state)
    pair.target().upsert([row("mine")])
    pair.source().delete(["b"])
    assert pair.sync(state=state).deleted == 1
    assert set(rows(pair.target())) == {"a", "mine"}
    assert pair.sync(state=state, delete_extra=True).deleted == 1
    assert set(rows(pair.target())) == {"a"}


def test_a_row_that_is_deleted_and_inserted_again_while_the_source_is_read_is_not_deleted(
    pair: Pair, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source().upsert([row("moves"), row("stays"), row("goes")])
    pair.sync(state=state)
    pair.source().delete(["moves", "goes"])
    flush = syncrun.SyncRun._flush

    def insert_again(run: Any) -> None:
        if run.counts.rows == 2:
            pair.source().upsert([row("moves", year=7)])
        flush(run)

    pair.source().upsert([row("new")])
    monkeypatch.setattr(syncrun.SyncRun, "_flush", insert_again)
    report = pair.sync(state=state)
    assert (report.deleted, report.kept) == (1, 1)
    assert set(rows(pair.target())) == {"moves", "stays", "new"}
    monkeypatch.undo()
    assert pair.sync(state=state).changes == 1
    assert rows(pair.target()) == rows(pair.source())
    pair.source().delete(["moves"])
    assert pair.sync(state=state).deleted == 1
    assert rows(pair.target()) == rows(pair.source())


def test_a_row_that_was_kept_and_vanishes_before_the_next_sync_is_deleted_then(
    pair: Pair, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source().upsert([row("moves"), row("stays")])
    pair.sync(state=state)
    pair.source().delete(["moves"])
    has = syncrun.SourceIds.has
    monkeypatch.setattr(syncrun.SourceIds, "has", lambda self, asked: ~has(self, asked))
    assert pair.sync(state=state).kept == 1
    monkeypatch.undo()
    assert pair.sync(state=state).deleted == 1
    assert set(rows(pair.target())) == {"stays"}


def test_an_empty_source_is_refused_and_nothing_deleted(pair: Pair, state: Path) -> None:
    assert pair.sync(state=state).rows == 0
    pair.source().upsert([row("a")])
    pair.sync(state=state)
    pair.source().delete(["a"])
    for options in ({"state": state}, {}, {"state": state, "dry_run": True}, {"max_deletes": 10}):
        with pytest.raises(LossRefusedError, match=r"is empty, and .* has 1 rows of it"):
            pair.sync(**options)
    assert set(rows(pair.target())) == {"a"}


def test_more_deletes_than_max_deletes_are_refused_before_any(pair: Pair, state: Path) -> None:
    pair.source().upsert([row(str(number)) for number in range(1_010)])
    pair.sync(state=state)
    pair.source().delete([str(number) for number in range(1_005)])
    for most, options in ((1_000, {}), (1_004, {"max_deletes": 1_004}), (0, {"max_deletes": 0})):
        with pytest.raises(LossRefusedError, match=rf"1,005 rows .* at most {most:,} .* max_deletes=1005"):
            pair.sync(state=state, **options)
    assert len(rows(pair.target())) == 1_010
    assert pair.sync(state=state, max_deletes=1_005).deleted == 1_005
    assert rows(pair.target()) == rows(pair.source())


def test_namespaces_are_synced_apart_also_one_that_is_new_or_has_gone(
    urls: tuple[str, str], state: Path
) -> None:
    pair = Pair(*urls, namespaced=True)
    for namespace, year in (("", 1), ("eu", 2), ("us", 3)):
        pair.source(namespace).upsert([row("a", year=year), row("b", year=year)])
    pair.sync(state=state)
    pair.source("eu").upsert([row("a", year=9)])
    pair.source("us").delete(["a", "b"])
    pair.source("asia").upsert([row("a")])
    assert counts(pair.sync(state=state)) == (1, 1, 2, 3)
    for namespace in ("", "eu", "us", "asia"):
        assert rows(pair.target(namespace)) == rows(pair.source(namespace))
    pair.close()


def test_int64_ids_are_deleted_by_their_numbers(urls: tuple[str, str], state: Path) -> None:
    pair = Pair(*urls, id_type="int64")
    pair.source().upsert([row(number) for number in (-(2**63), -1, 0, 2**63 - 1)])
    pair.sync(state=state)
    pair.source().delete([-(2**63), 0])
    assert pair.sync(state=state).deleted == 2
    assert rows(pair.target()) == rows(pair.source())
    pair.close()


def test_ids_by_a_template_are_traced_back_to_the_source_before_a_delete(tmp_path: Path, state: Path) -> None:
    source, target = f"faiss:{tmp_path / 'from'}#photos", f"faiss:{tmp_path / 'to'}#photos"
    spec = vb.CollectionSpec.single(
        "photos", dim=2, metric="l2", fields=FIELDS, id_type="int64", namespaced=True
    )
    with vb.connect(source.partition("#")[0]) as store:
        opened = {name: store.create(spec, if_exists="open", namespace=name) for name in ("eu", "us")}
        for name, collection in opened.items():
            collection.upsert([row(number, title=name) for number in range(3)])
        template = "{namespace}/{id}"
        plan = vb.migrate(source, target, id_template=template).plan
        assert counts(vb.sync(source, target, plan=plan, state=state)) == (0, 0, 0, 6)
        opened["eu"].delete([1])
        has = syncrun.SourceIds.has
        asked: list[list[bool]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                syncrun.SourceIds, "has", lambda self, ids: asked.append(has(self, ids)) or asked[-1]
            )
            assert counts(vb.sync(source, target, state=state)) == (0, 0, 1, 5)
        assert [each.tolist() for each in asked] == [[False]]
        opened["us"].upsert([row(7)])
        assert counts(vb.sync(source, target, state=state)) == (1, 0, 0, 5)
    with vb.open(target) as copy:
        assert set(rows(copy)) == {"eu/0", "eu/2", "us/0", "us/1", "us/2", "us/7"}


@pytest.mark.parametrize(
    ("template", "namespace", "id", "expected"),
    [
        ("{namespace}/{id}", "eu", "eu/a/b", "a/b"),
        ("{namespace}/{id}", "eu", "us/a", None),
        ("{id}-{id}", "", "ab-ab", "ab"),
        ("{id}-{id}", "", "ab-ac", None),
        ("{{{id}}}{namespace}", "n", "{7}n", "7"),
        ("x{id}", "", "x", None),
        ("{id}{namespace}{id}", "aa", "aaaa", "a"),
    ],
)
def test_the_source_id_is_what_the_template_makes_this_id_of(
    template: str, namespace: str, id: str, expected: str | None
) -> None:
    assert source_id(template, namespace, id, "string") == expected


def test_a_number_is_only_an_id_as_the_template_writes_it() -> None:
    assert source_id("n{id}", "", "n-7", "int64") == -7
    for id in ("n07", "n 7", "n+7", "nseven", "n"):
        assert source_id("n{id}", "", id, "int64") is None


def test_rows_that_no_longer_match_the_filter_are_deleted_and_those_that_do_are_kept(
    pair: Pair, state: Path
) -> None:
    pair.source().upsert([row("old", year=1999), row("new", year=2020), row("turns", year=2020)])
    assert pair.sync(state=state, filter=vb.field("year") > 2000).inserted == 2
    pair.source().upsert([row("turns", year=1990)])
    assert counts(pair.sync(state=state)) == (0, 0, 1, 1)
    assert set(rows(pair.target())) == {"new"}
    with pytest.raises(ConfigError, match="has another one"):
        pair.sync(state=state, filter=vb.field("year") > 1)


def test_the_error_of_a_later_page_is_raised_and_not_that_it_stopped_an_earlier_one(
    pair: Pair, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parallel(monkeypatch)
    pair.source().upsert([row(f"r{number:04d}") for number in range(60)])
    with monkeypatch.context() as patch, small_pages():
        later_page_fails(patch, "r0000", "r0010", vb.AuthError("the key was withdrawn"))
        with pytest.raises(vb.AuthError, match="withdrawn"):
            pair.sync(state=state)
    pair.sync(state=state)
    assert len(rows(pair.source())) == 60
    assert rows(pair.target()) == rows(pair.source())


def test_a_row_that_the_target_refuses_stops_the_sync_or_is_set_aside_and_tried_again(
    pair: Pair, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vecbridge.bulk import intake
    from vecbridge.errors import Failure

    pair.source().upsert([row("good", year=1), row("bad", year=2)])
    pair.sync(state=state)
    pair.source().upsert([row("good", year=3), row("bad", year=4), row("bad too")])
    validate = intake.validate

    def refuse(batch: Any, spec: Any) -> intake.Validated:
        good = validate(batch, spec)
        keep = [place for place, id in enumerate(batch["id"].to_pylist()) if "bad" not in id]
        bad = [Failure(p, id, "too bad") for p, id in enumerate(batch["id"].to_pylist()) if "bad" in id]
        return intake.Validated(good.part.take(np.array(keep, np.int64)), tuple(bad), 0)

    monkeypatch.setattr(syncrun, "validate", refuse)
    with pytest.raises(InvalidRecordError, match=r"'bad': too bad.*dead_letters="):
        pair.sync(state=state)
    letters = tmp_path / "letters.jsonl"
    report = pair.sync(state=state, dead_letters=letters)
    assert (counts(report), report.failed) == ((0, 1, 0, 0), 2)
    assert [json.loads(line)["id"] for line in letters.read_text().splitlines()] == ["bad", "bad too"]
    assert pair.sync(state=state, dead_letters=letters).failed == 2
    monkeypatch.undo()
    pair.source().delete(["bad too"])
    assert counts(pair.sync(state=state)) == (0, 1, 0, 1)
    assert rows(pair.target()) == rows(pair.source())


def test_rows_of_a_namespace_that_the_target_cannot_have_are_set_aside_and_the_others_synced(
    urls: tuple[str, str], state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(*urls, namespaced=True)
    pair.source().upsert([row("a")])
    pair.source("eu").upsert([row("b"), row("c")])
    monkeypatch.setattr(Plan, "reaches", lambda plan, namespace: namespace != "eu")
    assert pair.sync(state=state, dry_run=True).failed == 2
    bad = tmp_path / "bad.jsonl"
    report = pair.sync(state=state, dead_letters=bad)
    assert (report.inserted, report.failed) == (1, 2)
    errors = [json.loads(line)["error"] for line in bad.read_text("utf-8").splitlines()]
    assert errors == ["namespace: the target cannot have one of the name 'eu'"] * 2
    assert set(rows(pair.target())) == {"a"}
    with pytest.raises(vb.InvalidRecordError, match=r"'b': namespace: the target cannot .*, and 1 more"):
        pair.sync(state=state)


def test_a_state_of_another_plan_target_or_source_and_a_damaged_one_are_refused(
    pair: Pair, state: Path, urls: tuple[str, str]
) -> None:
    pair.source().upsert([row("a")])
    pair.sync(state=state)
    plan = vb.plan(pair.source_url, pair.target_url, filter=vb.field("year") > 1)
    with pytest.raises(JournalError, match=r"belongs to another migration: it has plan '"):
        pair.sync(state=state, plan=plan)
    with vb.connect(urls[1]) as store:
        store.create(pair.spec.renamed("others"))
    with pytest.raises(JournalError, match=r"it has target 'memory:///to-.*#copies', not .*#others"):
        vb.sync(pair.source_url, f"{urls[1]}#others", state=state)
    with pytest.raises(NotFoundError, match="vecbridge migrate makes it"):
        vb.sync(pair.source_url, f"{urls[1]}#absent", state=state)
    with pytest.raises(ConfigError, match="is the source itself"):
        vb.sync(pair.source_url, pair.source_url)
    whole = state.read_bytes()
    state.write_bytes(whole[:-1])
    with pytest.raises(JournalError, match="is damaged"):
        pair.sync(state=state)
    state.write_bytes(whole)
    with vb.connect(urls[1]) as store:
        store.drop("copies")
        store.create(pair.spec.renamed("copies"))
    with pytest.raises(JournalError, match="it has target identity"):
        pair.sync(state=state)


def test_the_copy_that_makes_the_state_must_be_finished_first(pair: Pair, state: Path) -> None:
    state.with_name("photos.state.partial").touch()
    with pytest.raises(JournalError, match="is not finished: run it again, then sync"):
        pair.sync(state=state)


def test_two_syncs_with_one_state_do_not_run_at_once(pair: Pair, state: Path) -> None:
    pair.source().upsert([row("a")])
    outcomes: list[Any] = []

    def second(counts: Any) -> None:
        try:
            pair.sync(state=state)
        except JournalError as exc:
            outcomes.append(str(exc))

    pair.sync(state=state, progress=second)
    assert "another run is writing to it" in outcomes[0]


def test_a_run_that_broke_off_is_made_good_although_the_source_went_back_to_what_it_was(
    pair: Pair, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source().upsert([row("goes back", year=1), row("comes again"), row("stays")])
    pair.sync(state=state)
    pair.source().upsert([row("goes back", year=2), row("only for a while")])
    pair.source().delete(["comes again"])
    monkeypatch.setattr("vecbridge.migration.syncing.write_state", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pair.sync(state=state)
    assert set(rows(pair.target())) == {"goes back", "only for a while", "stays"}
    monkeypatch.undo()
    pair.source().upsert([row("goes back", year=1), row("comes again")])
    pair.source().delete(["only for a while"])
    assert pair.sync(state=state, dry_run=True).changes == 3
    pair.sync(state=state)
    assert rows(pair.target()) == rows(pair.source())
    assert counts(pair.sync(state=state)) == (0, 0, 0, 3)


def test_a_first_run_that_broke_off_leaves_nothing_behind_that_the_source_no_longer_has(
    pair: Pair, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.target().upsert([row("mine")])
    pair.source().upsert([row("a"), row("only for a while")])
    monkeypatch.setattr("vecbridge.migration.syncing.write_state", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pair.sync(state=state)
    monkeypatch.undo()
    pair.source().delete(["only for a while"])
    report = pair.sync(state=state)
    assert (report.deleted, report.kept_extra) == (1, 1)
    assert set(rows(pair.target())) == {"a", "mine"}


def test_a_rate_and_an_argument_that_cannot_be_right_are_refused(pair: Pair) -> None:
    for options in ({"max_rate": 0}, {"max_deletes": -1}, {"workers": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            pair.sync(**options)
