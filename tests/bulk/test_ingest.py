"""``vb.ingest``: the stages run at the same time, in bounded memory, and end together."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.ingesting import Colours, Photos, expected, own_threads, paint, spec, stored
from vecbridge.bulk import NewCollection, Progress, pipeline
from vecbridge.errors import IdConflictError
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource, PictureItem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path / "photos", 0, 40)
    return tmp_path / "photos"


def test_every_picture_and_line_is_stored_with_its_vector_and_its_columns(folder: Path) -> None:
    (folder / "notes.txt").write_text("one\nthree\n")
    photos, model = Photos(), Colours()
    report = vb.ingest(folder, model, photos, batch_rows=8)
    assert report == vb.WriteReport(written=42)
    assert stored(photos) == expected(range(40)) | {"notes.txt#1": [3, 0, 0], "notes.txt#2": [5, 0, 0]}
    [row] = photos.fetch(["00007.png"]).to_pylist()
    assert (row["path"], row["width"], len(row["sha256"])) == (str(folder / "00007.png"), 4, 64)
    assert [key for sent in photos.sent for key in sent][:40] == sorted(expected(range(40)))
    assert max(model.batches) == 8
    assert own_threads() == []


def test_paths_a_source_and_items_are_all_sources(folder: Path) -> None:
    for source in (str(folder), [folder], folder / "*.png", ImageSource(folder), list(ImageSource(folder))):
        photos = Photos()
        assert vb.ingest(source, Colours(), photos).written == 40
        assert stored(photos) == expected(range(40))


def test_ids_are_made_as_the_collection_has_them(folder: Path) -> None:
    with vb.connect("memory://") as store:
        photos = store.create(spec(ids=vb.SourceIds("content")))
        assert vb.ingest(folder, Colours(), photos).written == 40
        rows = photos.find(vb.everything, limit=100, include=["sha256"]).to_pylist()
        assert all(row["id"] == row["sha256"][:32] for row in rows)


def test_a_new_collection_is_made_for_the_first_record_and_for_none_it_is_not(folder: Path) -> None:
    with vb.connect("memory://") as store:
        with NewCollection(store, spec()) as photos:
            assert vb.ingest(folder, Colours(), photos).written == 40
        store.drop("photos")
        (folder / "broken").mkdir()
        (folder / "broken" / "a.jpg").write_text("no picture")
        with NewCollection(store, spec()) as photos:
            report = vb.ingest(folder / "broken", Colours(), photos, journal=folder / "run.journal")
        assert (report.written, report.failed) == (0, 1)
        assert store.collections() == []
        assert not (folder / "run.journal").exists()


# ------------------------------------------------------------------------------------------ overlap


def test_reading_embedding_and_writing_happen_at_the_same_time(folder: Path) -> None:
    """Batch n is written while n + 1 is embedded and n + 2 is read, or the three never meet."""
    rows, batches = 4, 10
    meeting = threading.Barrier(3, timeout=60)
    met: Counter[str] = Counter()

    def meet(who: str) -> None:
        meeting.wait()
        met[who] += 1

    def prepare(number: int) -> None:
        if number % rows == 0 and number >= 2 * rows:
            meet("read")

    def embed(number: int) -> None:
        if 1 <= number < batches - 1:
            meet("embed")

    def write(call: int, batch: Any) -> None:
        if call < batches - 2:
            meet("store")

    photos = Photos(before=write)
    model = Colours(prepare, embed)
    report = vb.ingest(folder, model, photos, batch_rows=rows, readers=1, workers=1)
    assert report.written == 40
    assert met == {"read": 8, "embed": 8, "store": 8}


@pytest.mark.parametrize("readers", [1, 2])
def test_while_the_store_waits_only_a_few_batches_are_in_memory(folder: Path, readers: int) -> None:
    paint(folder, 40, 160)
    free = threading.Event()
    reached: list[int] = []
    rows = 4

    def wait(call: int, batch: Any) -> None:
        if call == 0:
            free.wait(60)

    def watch() -> None:
        """Lets the store go on once nothing more is read."""
        before = -1
        while model.prepared != before or model.prepared < rows:
            before = model.prepared
            time.sleep(0.3)
        reached.append(model.prepared)
        free.set()

    model = Colours()
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert vb.ingest(folder, model, Photos(before=wait), batch_rows=rows, readers=readers).written == 200
    watcher.join()
    # one batch is written, one waits for that, and one is in the check; one was embedded and one gathered
    # when there was no room for them in the queues; the pictures of another are read ahead
    batches = 3 + pipeline.EMBEDDED + 1 + pipeline.GATHERED + 1
    assert reached[0] <= batches * rows + max(rows, 2 * readers) + readers + 1


def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each file is opened from now on."""
    real, counts = os.open, Counter()

    def count(path: Any, *arguments: Any, **options: Any) -> int:
        counts[os.path.basename(path)] += 1
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", count)
    return counts


@pytest.mark.parametrize("kind", ["relative", "content"])
def test_a_file_is_read_once(folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with vb.connect("memory://") as store:
        photos = store.create(spec(ids=vb.SourceIds(kind)))
        counts = opened(monkeypatch)
        vb.ingest(folder, Colours(), photos, journal=folder / "run.journal")
    pictures = {name: count for name, count in counts.items() if name.endswith(".png")}
    assert pictures == dict.fromkeys(expected(range(40)), 1)


# ------------------------------------------------------------------------------------- dead letters


def test_what_cannot_be_read_decoded_embedded_or_stored_is_a_dead_letter_each(folder: Path) -> None:
    (folder / "a.jpg").write_text("no picture")
    (folder / "b.jpg").touch()
    (folder / "c.heic").touch()
    (folder / "notes.txt").write_text("good\n" + "\0\n")

    class NotANumber(Colours):
        def embed_prepared(self, pixels: Any) -> Any:
            vectors = super().embed_prepared(pixels)
            vectors[vectors[:, 0] == 5] = np.nan
            return vectors

    def refuse(call: int, batch: Any) -> None:
        if "00011.png" in batch.column("id").to_pylist():
            raise vb.BackendError("400: not this one")

    letters = folder.parent / "bad.jsonl"
    photos = Photos(before=refuse)
    report = vb.ingest(folder, NotANumber(), photos, dead_letters=letters, batch_rows=8)
    bad = {json.loads(line)["id"] for line in letters.read_text().splitlines()}
    assert bad == {"a.jpg", "b.jpg", "c.heic", "notes.txt#2", "00005.png", "00011.png"}
    assert (report.written, report.failed) == (39, 6)
    good = expected(range(40)).keys() - {"00005.png", "00011.png"} | {"notes.txt#1"}
    assert stored(photos).keys() == good


def test_one_bad_picture_in_three_thousand_is_one_dead_letter(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "notes.txt").write_text("".join(f"line {number}\n" for number in range(2_999)))
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    report = vb.ingest(folder, Colours(), photos := Photos(), dead_letters=tmp_path / "bad.jsonl")
    assert (report.written, report.failed) == (2_999, 1)
    assert len(stored(photos)) == 2_999
    [letter] = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert json.loads(letter)["id"] == "bad.png"


def test_more_failures_than_allowed_end_the_run(folder: Path) -> None:
    for number in range(5):
        (folder / f"0000{number}.png").write_text("no picture")
    with pytest.raises(vb.PartialWriteError) as raised:
        vb.ingest(folder, Colours(), Photos(), max_failures=3)
    assert raised.value.report.failed == 4
    assert own_threads() == []


def test_an_id_that_comes_twice_is_a_duplicate_whatever_the_batches(folder: Path) -> None:
    item = PictureItem("a", str(folder / "00001.png"))
    other = PictureItem("a", str(folder / "00002.png"))
    for rows in (1, 2, 8):
        photos = Photos()
        report = vb.ingest([item, other, item, other], Colours(), photos, batch_rows=rows)
        assert (report.written, report.duplicates) == (1, 3)
        assert stored(photos) == {"a": [2, 0, 7]}


# ------------------------------------------------------------------------------------------- errors


def source_fails(folder: Path) -> Iterator[Any]:
    yield from list(ImageSource(folder))[:20]
    raise RuntimeError("gone")


def embedder_fails(number: int) -> None:
    if number == 2:
        raise RuntimeError("gone")


def prepare_fails(number: int) -> None:
    if number == 9:
        raise RuntimeError("gone")


def store_fails(call: int, batch: Any) -> None:
    if call == 1:
        raise vb.AuthError("gone")


@pytest.mark.parametrize("stage", ["source", "read", "embed", "store", "progress"])
def test_an_error_of_any_stage_ends_the_others_and_reaches_the_caller(folder: Path, stage: str) -> None:
    paint(folder, 40, 60)
    source = source_fails(folder) if stage == "source" else ImageSource(folder)
    model = Colours(prepare_fails if stage == "read" else None, embedder_fails if stage == "embed" else None)
    photos = Photos(before=store_fails if stage == "store" else None)

    def progress(state: Progress) -> None:
        if stage == "progress" and state.written:
            raise RuntimeError("gone")

    with pytest.raises((RuntimeError, vb.AuthError), match="gone"):
        vb.ingest(source, model, photos, batch_rows=4, progress=progress)
    assert own_threads() == []
    assert len(stored(photos)) < 100


def test_a_source_that_never_goes_on_does_not_keep_an_error_back(folder: Path) -> None:
    goes_on, has_ended = threading.Event(), threading.Event()

    def source() -> Iterator[Any]:
        yield from list(ImageSource(folder))
        goes_on.wait(60)
        has_ended.set()

    with pytest.raises(vb.AuthError):
        vb.ingest(source(), Colours(), Photos(before=store_fails), batch_rows=4)
    assert not has_ended.is_set()
    goes_on.set()


def test_a_bad_argument_is_refused_before_anything_is_read(folder: Path) -> None:
    def never() -> Iterator[DeadLetter]:
        raise AssertionError("read")
        yield

    for options in (
        {"batch_rows": 0},
        {"batch_rows": 257},
        {"readers": 0},
        {"workers": 0},
        {"max_pixels": 0},
        {"max_failures": -1},
        {"on_conflict": "ask"},
    ):
        with pytest.raises(vb.ConfigError):
            vb.ingest(never(), Colours(), Photos(), **options)  # type: ignore[arg-type]
    with pytest.raises(vb.ConfigError, match="int is no path"):
        vb.ingest(7, Colours(), Photos())  # type: ignore[arg-type]
    other = vb.EmbedderIdentity("other", "1", 3, "none")
    with vb.connect("memory://") as store:
        foreign = store.create(vb.CollectionSpec.single("photos", dim=3, embedder=other))
        with pytest.raises(vb.EmbedderMismatchError):
            vb.ingest(never(), Colours(), foreign)


def test_an_id_of_another_file_stops_the_run_or_is_left_out(folder: Path, tmp_path: Path) -> None:
    photos = Photos()
    vb.ingest(folder, Colours(), photos)
    others = tmp_path / "others"
    others.mkdir()
    for number in range(38, 45):
        (others / f"{number:05}.png").write_bytes((folder / "00000.png").read_bytes())
    with pytest.raises(IdConflictError, match="which is another file"):
        vb.ingest(others, Colours(), photos)
    report = vb.ingest(others, Colours(), photos, on_conflict="skip")
    assert report.written == 5
    found = stored(photos)
    assert found["00039.png"] == [39, 0, 7]
    assert found["00040.png"] == [0, 0, 7]


# ----------------------------------------------------------------------------------------- progress


def test_the_progress_counts_rows_and_bytes_and_names_the_slowest_stage(folder: Path) -> None:
    states: list[Progress] = []
    size = sum(path.stat().st_size for path in folder.iterdir())
    model = Colours(before_embed=lambda number: time.sleep(0.05))
    vb.ingest(folder, model, Photos(), batch_rows=8, progress=states.append)
    last = states[-1]
    assert (last.rows, last.written, last.done, last.bytes) == (40, 40, 40, size)
    assert list(last.stages) == list(pipeline.STAGES)
    assert last.bottleneck == "embed"
    assert all(0 <= share <= 1 for state in states for share in state.stages.values())
    assert [state.rows for state in states] == sorted(state.rows for state in states)
    assert last.seconds > 0.2


def test_what_is_delivered_is_reported_while_the_next_batch_takes_long(folder: Path) -> None:
    """Otherwise a journal would lag behind the store for as long as a slow model computes."""
    told, computing = threading.Event(), threading.Event()

    def progress(state: Progress) -> None:
        if state.written == 8:
            told.set()

    def embed(number: int) -> None:
        if number == 1:
            computing.set()
            assert told.wait(20)

    def store(call: int, batch: pa.RecordBatch) -> None:
        if call == 0:  # delivered when nobody looks any more because it was just sent
            assert computing.wait(60)
            time.sleep(2 * pipeline.IDLE_SECONDS)

    report = vb.ingest(folder, Colours(before_embed=embed), Photos(store), batch_rows=8, progress=progress)
    assert report.written == 40
