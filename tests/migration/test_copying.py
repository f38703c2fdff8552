"""The copy: every row arrives, nothing is made before the checks, and rows are never dropped in silence."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.migration.copies import (
    Reads,
    contents,
    exists,
    fill,
    journal_lines,
    later_page_fails,
    memory,
    options,
    pages_noted,
    parallel,
    small_pages,
    unfit,
)
from vecbridge.bulk import delivery, pacing
from vecbridge.bulk.pacing import Pace
from vecbridge.collection import Collection
from vecbridge.migration import copyrun, reading
from vecbridge.migration.pacing import Room
from vecbridge.migration.plans import Loss
from vecbridge.sources.tables import table_source
from vecbridge.testing.cases import CASES

STORES = {case.id: case for case in CASES}


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_pages():
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses take no time; their lengths."""
    pauses: list[float] = []

    def pause(stop: threading.Event, seconds: float) -> None:
        pauses.append(seconds)
        if stop.is_set():
            raise delivery.StoppedError

    monkeypatch.setattr(delivery, "pause", pause)
    monkeypatch.setattr(pacing, "pause", pause)
    return pauses


def failing_upserts(patch: pytest.MonkeyPatch, key: str, error: Exception) -> list[bool]:
    """Upserts with a row fail while the list is not empty, after an upsert of later rows had time to end."""
    original, failing, others = Collection.upsert, [True], threading.Event()

    def upsert(collection: Collection, data: Any, **arguments: Any) -> vb.WriteReport:
        if failing and key in data.batch.column("id").to_pylist():
            others.wait(0.5)
            raise error
        report = original(collection, data, **arguments)
        if data.batch.column("id")[0].as_py() > key:
            others.set()
        return report

    patch.setattr(Collection, "upsert", upsert)
    return failing


# ------------------------------------------------------------------------------------------ every row


@pytest.mark.parametrize(
    ("first", "second"),
    [("memory", "faiss"), ("faiss", "milvus-lite"), ("milvus-lite", "pinecone"), ("pinecone", "memory")],
)
@pytest.mark.parametrize("id_type", ["string", "int64"])
def test_every_row_of_every_namespace_arrives(first: str, second: str, id_type: Any, tmp_path: Path) -> None:
    for name in (first, second):
        if (missing := STORES[name].missing()) is not None:
            pytest.skip(missing)
    places = [tmp_path / "a", tmp_path / "b"]
    shared = f"c_{uuid.uuid4().hex[:8]}"  # the emulator of a service is shared
    for place in places:
        place.mkdir()
    source, target = (
        f"{STORES[name].url(place)}#{shared}" for name, place in zip((first, second), places, strict=True)
    )
    before = fill(source, 35, namespaces=("", "eu"), id_type=id_type)
    sides = {"source_options": options(source), "target_options": options(target)}
    report = vb.migrate(source, target, allow=["index"], **sides)
    assert (report.rows, report.written, report.failed, report.namespaces) == (70, 70, 0, 2)
    assert contents(target) == before
    assert contents(source) == before


def test_one_namespace_alone_is_copied_into_another_one() -> None:
    source, target = memory(), memory()
    before = fill(source, 12, namespaces=("", "eu", "us"))
    vb.migrate(source.replace("#", "?namespace=eu#"), target.replace("#", "?namespace=there#"))
    assert contents(target) == {"there": before["eu"]}


def test_parts_of_a_split_namespace_make_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, journal = f"faiss://{tmp_path}/a#photos", memory(), tmp_path / "run.journal"
    before = fill(source, 203)
    monkeypatch.setattr(copyrun, "LARGE", 100)
    parallel(monkeypatch)
    vb.migrate(source, target, journal=journal)
    [starts] = [line["starts"] for line in journal_lines(journal) if "starts" in line]
    assert len(starts) == copyrun.PARTS
    assert contents(target) == before


def test_a_source_that_takes_one_request_at_a_time_is_read_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, journal = f"faiss://{tmp_path}/a#photos", memory(), tmp_path / "run.journal"
    before = fill(source, 203)
    monkeypatch.setattr(copyrun, "LARGE", 100)
    parallel(monkeypatch, only="memory")
    vb.migrate(source, target, journal=journal)
    assert [line["starts"] for line in journal_lines(journal) if "starts" in line] == [[None]]
    assert contents(target) == before


def test_columns_are_renamed_and_dropped_rows_selected_and_ids_built() -> None:
    source, target = memory(), memory("chosen")
    before = fill(source, 20)
    report = vb.migrate(
        source, target, rename={"title": "name"}, drop=["tags"], filter=vb.field("year") > 2**43,
        id_template="x/{id}", allow=["field:tags"],
    )  # fmt: skip
    expected = {
        f"x/{key}": {"id": f"x/{key}", "vector": row["vector"], "year": row["year"], "name": row["title"]}
        for key, row in before[""].items()
        if row["year"] is not None and row["year"] > 2**43
    }
    assert contents(target) == {"": expected}
    assert report.rows == len(expected) == 10


def test_an_empty_source_gives_its_schema_and_its_report_says_so() -> None:
    source, target = memory(), memory()
    fill(source, 0)
    report = vb.migrate(source, target)
    assert (report.rows, report.written) == (0, 0)
    assert contents(target) == {"": {}}


def test_the_files_of_the_source_are_what_they_were(tmp_path: Path) -> None:
    source = f"faiss://{tmp_path}/a#photos"
    fill(source, 50)
    files = [path for path in sorted((tmp_path / "a").rglob("*")) if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    vb.migrate(source, f"faiss://{tmp_path}/b#photos")
    after = [path for path in sorted((tmp_path / "a").rglob("*")) if path.is_file()]
    assert {path: path.read_bytes() for path in after} == before


def test_pages_that_are_far_too_large_are_followed_by_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = memory(), memory()
    before = fill(source, 60)
    monkeypatch.setattr(reading, "MAX_PAGE_ROWS", 20)
    reads = Reads(monkeypatch, source)
    with vb.open(source) as photos:
        pages = list(
            reading.pages(photos, photos.spec.column_names[1:], None, rows=20, stop=threading.Event())
        )
        whole = pages[0].size
        monkeypatch.setattr(reading, "PAGE_BYTES", whole // 4)
        monkeypatch.setattr(reading, "_TOO_LARGE", whole // 2)
        pages = list(
            reading.pages(photos, photos.spec.column_names[1:], None, rows=20, stop=threading.Event())
        )
    sizes = [page.rows for page in pages]
    assert sizes[0] == 20
    assert max(sizes[1:]) <= 6
    assert sum(sizes) == 60
    assert len(reads.ids) == 120
    vb.migrate(source, target)
    assert contents(target) == before


# ----------------------------------------------------------------------------- checks before anything


def test_a_loss_that_nobody_allowed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    source, target, journal = memory(), memory(), tmp_path / "run.journal"
    fill(source, 5)
    plan = vb.plan(source, target)
    lossy = replace(plan, losses=(Loss("index", "vector", "there is no such index"),))
    seen = []
    with pytest.raises(vb.LossRefusedError, match=r"allow=\['index'\]") as refused:
        vb.migrate(source, target, plan=lossy, journal=journal, dead_letters=tmp_path / "bad.jsonl",
                   on_plan=seen.append)  # fmt: skip
    assert refused.value.plan == lossy
    assert seen == [lossy]
    assert not exists(target)
    assert list(tmp_path.iterdir()) == []
    assert vb.migrate(source, target, plan=lossy, allow=["index"]).written == 5


def test_another_metric_is_refused_whatever_is_allowed() -> None:
    source, target = memory(), memory()
    fill(source, 5)
    lossy = replace(vb.plan(source, target), losses=(Loss("metric", "vector", "no l2"),))
    with pytest.raises(vb.ConfigError, match="nothing converts"):
        vb.migrate(source, target, plan=lossy, allow=["metric"])
    with pytest.raises(vb.LossRefusedError, match="nothing converts a metric"):
        vb.migrate(source, target, plan=lossy, allow=["index"])
    assert not exists(target)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"into": "other"}, vb.ConfigError),
        ({"workers": 0}, vb.ConfigError),
        ({"max_rate": 0}, vb.ConfigError),
        ({"max_rate": float("nan")}, vb.ConfigError),
        ({"allow": ["indexes"]}, vb.ConfigError),
        ({"filter": vb.field("nothing") == 1}, vb.SchemaError),
        ({"id_template": "{title}"}, vb.ConfigError),
        ({"drop": ["nothing"]}, vb.ConfigError),
        ({"dead_letters": "/nowhere/bad.jsonl"}, vb.ConfigError),
        ({"journal": "/nowhere/run.journal"}, vb.JournalError),
        ({"plan": "/nowhere/plan.json"}, vb.ConfigError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    source, target = memory(), memory()
    fill(source, 5)
    with pytest.raises(error):
        vb.migrate(source, target, **arguments)
    assert not exists(target)


def test_a_plan_has_its_transform_already_and_is_of_its_own_sides() -> None:
    source, target = memory(), memory()
    fill(source, 5)
    plan = vb.plan(source, target)
    with pytest.raises(vb.ConfigError, match="stand in the plan"):
        vb.migrate(source, target, plan=plan, drop=["tags"])
    with pytest.raises(vb.ConfigError, match="the plan is of the target"):
        vb.migrate(source, memory(), plan=plan)


def test_a_source_made_anew_since_the_plan_is_refused() -> None:
    source, target = memory(), memory()
    fill(source, 5)
    plan = vb.plan(source, target)
    store_url, _, name = source.partition("#")
    with vb.connect(store_url) as store:
        store.drop(name)
    fill(source, 5)
    with pytest.raises(vb.SchemaError, match="made anew since the plan"):
        vb.migrate(source, target, plan=plan)
    assert not exists(target)


def test_a_source_that_grew_a_field_since_the_plan_is_copied_by_the_plan() -> None:
    source, target = memory(), memory()
    before = fill(source, 5)
    plan = vb.plan(source, target)
    with vb.open(source) as photos:
        photos.add_fields({"late": "string"})
    vb.migrate(source, target, plan=plan)
    assert contents(target) == before


def test_a_collection_is_never_copied_onto_itself() -> None:
    source = memory()
    before = fill(source, 5, namespaces=("", "eu"))
    eu = source.replace("#", "?namespace=eu#")
    for here, there in ((source, source), (eu, eu), (source, eu), (eu, source)):
        with pytest.raises(vb.ConfigError, match="the source itself"):
            vb.migrate(here, there, into="existing")
    assert contents(source) == before


def test_a_target_with_rows_is_refused_unless_existing_is_said_and_then_keeps_them() -> None:
    source, target = memory(), memory()
    before = fill(source, 30)
    there = fill(target, 20, first=20)
    with pytest.raises(vb.CollectionExistsError, match=r'has 20 rows.*into="existing"'):
        vb.migrate(source, target)
    assert contents(target) == there
    vb.migrate(source, target, into="existing")
    assert contents(target)[""] == there[""] | before[""]


def test_an_existing_target_that_differs_is_refused() -> None:
    source, target = memory(), memory()
    fill(source, 5)
    store_url, _, name = target.partition("#")
    with vb.connect(store_url) as store:
        store.create(vb.CollectionSpec.single(name, dim=4, metric="dot"))
    for into in ("empty", "existing"):
        with pytest.raises(vb.SchemaError, match="differs"):
            vb.migrate(source, target, into=into)


# --------------------------------------------------------------------------- rows that cannot be kept


def test_the_copy_stops_at_a_row_that_cannot_be_kept_and_goes_on_with_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = memory(), memory()
    journal, bad = tmp_path / "run.journal", tmp_path / "bad.jsonl"
    before = fill(source, 60)
    refused = {"r0025": "too long", "r0027": "too long"}
    original = Collection.upsert

    def upsert(collection: Collection, data: Any, **arguments: Any) -> vb.WriteReport:
        ids = data.batch.column("id").to_pylist()
        if found := {ids.index(key): why for key, why in refused.items() if key in ids}:
            failures = [vb.Failure(row, ids[row], why) for row, why in found.items()]
            raise vb.InvalidRecordError("refused", failures)
        return original(collection, data, **arguments)

    monkeypatch.setattr(Collection, "upsert", upsert)
    with pytest.raises(
        vb.InvalidRecordError, match=r"'r0025': too long, and 1 more.*dead_letters="
    ) as stopped:
        vb.migrate(source, target, journal=journal)
    assert [failure.id for failure in stopped.value.rows] == ["r0025", "r0027"]
    assert pages_noted(journal) == 20
    report = vb.migrate(source, target, journal=journal, dead_letters=bad)
    assert (report.rows, report.written, report.failed, report.resumed) == (60, 58, 2, 20)
    assert contents(target)[""] == {key: row for key, row in before[""].items() if key not in refused}
    letters = [json.loads(line) for line in bad.read_text("utf-8").splitlines()]
    assert [(letter["id"], letter["error"]) for letter in letters] == list(refused.items())
    assert letters[0]["record"] == before[""]["r0025"]


def test_a_row_that_a_batch_cannot_hold_becomes_a_dead_letter_with_its_other_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, bad = memory(), memory(), tmp_path / "bad.jsonl"
    before = fill(source, 30)
    unfit(monkeypatch, source, "r0013")
    with pytest.raises(vb.InvalidRecordError, match=r"'r0013': row:no_vector: it has no vector 'vector'"):
        vb.migrate(source, target)
    report = vb.migrate(source, memory(), rename={"title": "name"}, dead_letters=bad)
    assert (report.written, report.failed) == (29, 1)
    [letter] = [json.loads(line) for line in bad.read_text("utf-8").splitlines()]
    row = before[""]["r0013"]
    assert letter["record"] == {
        "id": "r0013", "vector": None, "year": row["year"], "name": row["title"], "tags": row["tags"]
    }  # fmt: skip


def test_dead_letters_are_mended_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, bad = memory(), f"faiss://{tmp_path}/b#photos", tmp_path / "bad.jsonl"
    before = fill(source, 30)
    unfit(monkeypatch, source, "r0013")
    vb.migrate(source, target, dead_letters=bad)
    letter = json.loads(bad.read_text("utf-8"))
    letter["record"]["vector"] = before[""]["r0013"]["vector"]
    bad.write_text(json.dumps(letter) + "\n", "utf-8")
    letters: list[Any] = []
    with vb.open(target) as photos:
        vb.write(photos, table_source(bad).batches(photos.spec, on_dead_letter=letters.append))
    assert letters == []
    assert contents(target) == before


def test_of_rows_with_one_id_in_a_page_the_last_is_kept_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = memory(), memory()
    before = fill(source, 10)
    plan = vb.plan(source, target)
    original = Collection.scan

    def scan(collection: Collection, **arguments: Any) -> Iterator[vb.Page]:
        for page in original(collection, **arguments):
            twice = [*range(page.batch.num_rows), 3]
            yield replace(page, batch=page.batch.take(twice))

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "scan", scan)
        report = vb.migrate(source, target, plan=plan)
    assert (report.rows, report.written, report.copied.duplicates) == (11, 10, 1)
    assert contents(target) == before


# ---------------------------------------------------------------------------------- errors and limits


def test_after_a_page_that_failed_no_later_one_is_noted_so_that_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, journal = memory(), memory(), tmp_path / "run.journal"
    before = fill(source, 60)
    parallel(monkeypatch)
    failing = failing_upserts(monkeypatch, "r0015", vb.AuthError("the key was withdrawn"))
    with pytest.raises(vb.AuthError):
        vb.migrate(source, target, journal=journal)
    assert pages_noted(journal) <= 10
    failing.clear()
    assert vb.migrate(source, target, journal=journal).written == 60
    assert contents(target) == before


def test_the_error_of_one_namespace_is_raised_and_not_that_the_others_were_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = memory(), memory()
    fill(source, 80, namespaces=("", "a", "b", "c", "d"))
    parallel(monkeypatch)
    failing_upserts(monkeypatch, "r0045", vb.AuthError("the key was withdrawn"))
    for _ in range(5):
        with pytest.raises(vb.AuthError, match="withdrawn"):
            vb.migrate(source, target, into="existing")


def test_the_error_of_a_later_page_is_raised_and_not_that_it_stopped_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = memory(), memory()
    before = fill(source, 60)
    parallel(monkeypatch)
    with monkeypatch.context() as patch:
        later_page_fails(patch, "r0000", "r0010", vb.AuthError("the key was withdrawn"))
        with pytest.raises(vb.AuthError, match="withdrawn"):
            vb.migrate(source, target)
    assert vb.migrate(source, target, into="existing").written == 60
    assert contents(target) == before


def test_reading_goes_on_at_the_last_cursor_after_a_transient_error(
    monkeypatch: pytest.MonkeyPatch, impatient: list[float]
) -> None:
    source, target = memory(), memory()
    before = fill(source, 60)
    reads = Reads(monkeypatch, source)
    plan = vb.plan(source, target)
    reads.ids.clear()
    reads.fail_after = 30
    assert vb.migrate(source, target, plan=plan).written == 60
    assert reads.ids == sorted(before[""])
    assert len(impatient) == 1
    monkeypatch.undo()
    assert contents(target) == before


def test_a_rate_limit_that_never_ends_ends_the_copy_and_what_was_copied_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: list[float]
) -> None:
    source, target, journal = memory(), memory(), tmp_path / "run.journal"
    before = fill(source, 60)
    plan = vb.plan(source, target)
    with monkeypatch.context() as patch:
        reads = Reads(patch, source)
        reads.fail_after, reads.error, reads.forever = 30, vb.RateLimitedError("slow down"), True
        with pytest.raises(vb.RateLimitedError, match="slow down") as given_up:
            vb.migrate(source, target, plan=plan, journal=journal)
    assert given_up.value.__notes__ == ["given up after 10 attempts"]
    assert len(impatient) == 9
    assert pages_noted(journal) == 30
    assert vb.migrate(source, target, journal=journal).resumed == 30
    assert contents(target) == before


def test_rows_pass_at_the_rate_over_all_parts_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stop = [100.0], threading.Event()

    def pause(stop: threading.Event, seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(pacing, "pause", pause)
    pace = Pace(50, stop, clock=lambda: now[0])
    passed = []
    for _ in range(11):
        pace.wait(10)
        passed.append(now[0] - 100)
    assert passed == pytest.approx([0.2 * number for number in range(11)])
    now[0] += 60  # an idle time is not made up for
    pace.wait(100)
    begun = now[0]
    pace.wait(1)
    assert now[0] - begun == pytest.approx(2)


def test_a_copy_keeps_to_the_rate(monkeypatch: pytest.MonkeyPatch, impatient: list[float]) -> None:
    source, target = memory(), memory()
    fill(source, 40, namespaces=("", "eu"))
    reads = Reads(monkeypatch, source)
    plan = vb.plan(source, target)
    reads.ids.clear()
    assert vb.migrate(source, target, plan=plan, max_rate=5).written == 80
    assert len(impatient) >= 14  # pages of 5 rows, each a second of the limit
    assert sum(impatient) > 14


def test_pages_in_memory_are_bounded_by_their_bytes() -> None:
    room = Room(100, threading.Event())
    assert room.try_take(1000)  # one page fits always
    assert not room.try_take(1)
    room.resize(1000, 60)
    assert room.try_take(40)
    assert not room.try_take(1)
    room.resize(60, 0)
    assert room.try_take(60)
    stopped = threading.Event()
    stopped.set()
    full = Room(1, stopped)
    full.take(1)
    with pytest.raises(delivery.StoppedError):
        full.take(1)


def test_a_copy_with_room_for_one_page_alone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = memory(), memory()
    before = fill(source, 40, namespaces=("", "a", "b", "c"))
    monkeypatch.setattr(copyrun, "ROOM_BYTES", 1)
    parallel(monkeypatch)
    vb.migrate(source, target)
    monkeypatch.undo()
    assert contents(target) == before


def test_progress_ends_with_every_row() -> None:
    source, target = memory(), memory()
    fill(source, 35)
    seen = []
    vb.migrate(source, target, progress=lambda copied: seen.append((copied.rows, copied.written)))
    assert seen == [(10, 10), (20, 20), (30, 30), (35, 35)]
