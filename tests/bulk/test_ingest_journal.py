"""The journal of ``vb.ingest`` settles source items: running the same command again is always right."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.bulk.ingesting import Colours, Photos, expected, own_threads, paint, spec, stored
from vecbridge.bulk import NewCollection, batches, groups
from vecbridge.bulk.groups import SettledGroup, grouped
from vecbridge.bulk.itemjournal import ItemJournal
from vecbridge.errors import BackendError
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource, PictureItem

GROUP = 8


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP_ITEMS", GROUP)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path / "photos", 0, 44)
    return tmp_path / "photos"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def settled(path: Path) -> list[dict[str, Any]]:
    return sorted((line for line in lines(path) if "first" in line), key=lambda line: line["first"])


def without_end(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def interrupted(folder: Path, photos: Photos, journal: Path, items: int, **options: Any) -> None:
    """A run whose source goes away after some items."""

    def source() -> Iterator[Any]:
        yield from list(ImageSource(folder))[:items]
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        vb.ingest(source(), Colours(), photos, journal=journal, name=str(folder), **options)


def test_a_journal_says_what_became_of_each_group(folder: Path, journal: Path) -> None:
    (folder / "00003.png").write_text("no picture")

    def refuse(call: int, batch: Any) -> None:
        if "00010.png" in batch.column("id").to_pylist():
            raise BackendError("400")

    vb.ingest(folder, Colours(), Photos(before=refuse), journal=journal, batch_rows=4)
    header, *_, end = lines(journal)
    assert (header["vecbridge_journal"], header["source"]) == (2, str(folder))
    assert header["options"]["group_items"] == 256
    assert header["options"]["embedder"] == str(Colours.identity)
    assert end == {"finished": True}
    found = settled(journal)
    assert [(line["first"], line["items"]) for line in found] == [
        (n, min(8, 44 - n)) for n in range(0, 44, 8)
    ]
    assert [line["bad"] for line in found] == [[3], [2], [], [], [], []]
    assert [line["written"] for line in found] == [7, 7, 8, 8, 8, 4]
    assert [line["retried"] for line in found] == [0, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("killed", [False, True], ids=["finished", "killed before the end was noted"])
def test_the_same_call_again_decodes_embeds_and_sends_nothing(
    folder: Path, journal: Path, killed: bool
) -> None:
    (folder / "00003.png").write_text("no picture")
    letters = folder.parent / "bad.jsonl"
    photos = Photos()
    first = vb.ingest(folder, Colours(), photos, journal=journal, dead_letters=letters)
    before, told = journal.read_bytes(), letters.read_bytes()
    for _ in range(2):
        if killed:
            without_end(journal)
        model, sent = Colours(), len(photos.sent)
        again = vb.ingest(folder, model, photos, journal=journal, dead_letters=letters)
        assert (
            (again.written, again.failed, again.recalled) == (first.written, first.failed, 44) == (43, 1, 44)
        )
        assert (model.prepared, model.batches, len(photos.sent)) == (0, [], sent)
        assert (journal.read_bytes(), letters.read_bytes()) == (before, told)


@pytest.mark.parametrize("seed", range(6))
def test_no_batch_size_and_no_number_of_threads_moves_a_group(folder: Path, journal: Path, seed: int) -> None:
    chance = random.Random(seed)
    photos = Photos(parallel_requests=8)
    whole = folder.parent / "whole.journal"
    vb.ingest(folder, Colours(), Photos(), journal=whole)

    def options() -> dict[str, int]:
        return {"batch_rows": chance.choice([1, 3, 8, 64]), "readers": chance.choice([1, 4]), "workers": 3}

    known = 0
    for items in sorted(chance.sample(range(44), 3)):
        interrupted(folder, photos, journal, items, **options())
        known = max(known, items - items % GROUP)
        assert {line["first"] for line in settled(journal)} <= set(range(0, known, GROUP))
    model, done = Colours(), settled(journal)
    report = vb.ingest(folder, model, photos, journal=journal, **options())
    assert (report.written, report.recalled) == (44, sum(line["items"] for line in done))
    assert model.prepared == 44 - report.recalled
    assert stored(photos) == expected(range(44))

    def items_of(path: Path) -> list[tuple[Any, ...]]:
        return [(line["first"], line["items"], line["digest"]) for line in settled(path)]

    assert items_of(journal) == items_of(whole)


@pytest.mark.parametrize("killed", [False, True], ids=["finished", "killed"])
def test_a_source_that_is_only_longer_goes_on_with_what_is_new(
    folder: Path, journal: Path, killed: bool
) -> None:
    photos = Photos()
    vb.ingest(folder, Colours(), photos, journal=journal)
    total = 44
    for more in (0, 1, 2, 1, 8, 20):
        if killed:
            without_end(journal)
        paint(folder, total, more)
        model = Colours()
        report = vb.ingest(folder, model, photos, journal=journal)
        assert (model.prepared, report.recalled, report.written) == (more, total, total + more)
        total += more
    assert stored(photos) == expected(range(total))
    assert [line["items"] for line in settled(journal)] == [8, 8, 8, 8, 8, 4, 1, 2, 1, 8, 8, 8, 4]


def change(folder: Path) -> None:
    paint(folder.parent / "other", 99, 1)
    (folder / "00020.png").write_bytes((folder.parent / "other" / "00099.png").read_bytes())


def remove(folder: Path) -> None:
    (folder / "00020.png").unlink()


def insert(folder: Path) -> None:
    (folder / "00019b.png").write_bytes((folder / "00000.png").read_bytes())


def break_it(folder: Path) -> None:
    (folder / "00020.png").write_text("no picture")


def make_unreadable(folder: Path) -> None:
    (folder / "00020.png").write_bytes(b"")


def describe(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "00020.png", "text": "new"}\n')


@pytest.mark.parametrize("damage", [change, remove, insert, break_it, make_unreadable, describe])
def test_a_changed_source_is_refused_by_the_name_of_the_group(
    folder: Path, journal: Path, damage: Callable[[Path], None]
) -> None:
    photos = Photos()
    vb.ingest(folder, Colours(), photos, journal=journal)
    before, sent = journal.read_bytes(), len(photos.sent)
    damage(folder)
    with pytest.raises(vb.JournalError, match=r"from '00016\.png' to .* \(items 16 to 23\).*--sync"):
        vb.ingest(folder, Colours(), photos, journal=journal)
    assert (journal.read_bytes(), len(photos.sent), own_threads()) == (before, sent, [])


@pytest.mark.parametrize("left", [40, 41, 16, 0])
def test_a_shorter_source_is_refused(folder: Path, journal: Path, left: int) -> None:
    photos = Photos()
    items = list(ImageSource(folder))
    vb.ingest(items, Colours(), photos, journal=journal)
    sent = len(photos.sent)
    with pytest.raises(vb.JournalError, match=f"the source has {left} items now, and had 44"):
        vb.ingest(iter(items[:left]), Colours(), photos, journal=journal)
    assert len(photos.sent) == sent


def test_dead_letters_of_settled_groups_are_counted_and_not_written_again(
    folder: Path, journal: Path
) -> None:
    for number in (1, 9, 40):
        (folder / f"{number:05}.png").write_text("no picture")
    (folder / "00000.heic").touch()  # a dead letter of the source, which no group counts
    letters = folder.parent / "bad.jsonl"
    photos = Photos()
    interrupted(folder, photos, journal, 20, dead_letters=letters)
    report = vb.ingest(folder, Colours(), photos, journal=journal, dead_letters=letters)
    assert (report.written, report.failed) == (41, 4)
    names = [json.loads(line)["id"] for line in letters.read_text().splitlines()]
    assert sorted(names) == ["00000.heic", "00001.png", "00009.png", "00040.png"]


def test_dead_letters_are_on_the_disk_before_the_journal_counts_them(
    folder: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LETTERS_SECONDS", 1e9)  # those after the first wait for others
    for number in (3, *range(16, 24)):  # a whole group among them
        (folder / f"{number:05}.png").write_text("no picture")
    letters = folder.parent / "bad.jsonl"
    counted: list[int] = []
    settle = ItemJournal.settle

    def settles(self: ItemJournal, group: SettledGroup) -> None:
        told = {json.loads(line)["id"] for line in letters.read_text().splitlines()}
        assert {f"{group.first + position:05}.png" for position in group.bad} <= told
        counted.append(len(group.bad))
        settle(self, group)

    monkeypatch.setattr(ItemJournal, "settle", settles)
    vb.ingest(folder, Colours(), Photos(), journal=journal, dead_letters=letters)
    assert sum(counted) == 9


def test_an_id_that_comes_twice_counts_the_same_in_one_run_and_in_two(journal: Path, folder: Path) -> None:
    items = [PictureItem(f"p{number % 10}", str(folder / f"{number:05}.png")) for number in range(30)]
    photos = Photos()

    def source() -> Iterator[Any]:
        yield from items[:20]
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        vb.ingest(source(), Colours(), photos, journal=journal, on_conflict="replace")
    report = vb.ingest(iter(items), Colours(), photos, journal=journal, on_conflict="replace")
    assert (report.written, report.duplicates, report.recalled) == (10, 20, 16)


def test_items_that_were_left_out_are_not_read_when_the_run_goes_on(
    folder: Path, journal: Path, tmp_path: Path
) -> None:
    photos = Photos()
    vb.ingest(folder, Colours(), photos)
    others = tmp_path / "others"
    others.mkdir()
    for number in range(36, 60):
        (others / f"{number:05}.png").write_bytes((folder / "00000.png").read_bytes())
    first = vb.ingest(others, Colours(), photos, journal=journal, on_conflict="skip")
    again = vb.ingest(others, Colours(), photos, journal=journal, on_conflict="skip")
    assert (first.written, again.written, again.recalled) == (16, 16, 16)
    assert [line["left_out"] for line in settled(journal)] == [list(range(8)), [], []]


# --------------------------------------------------------------------------------------- other runs


@pytest.mark.parametrize(
    "options", [{"name": "another"}, {"dead_letters": "bad.jsonl"}, {"max_pixels": 5}], ids=str
)
def test_a_journal_of_another_run_is_refused(
    folder: Path, journal: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    photos = Photos()
    vb.ingest(folder, Colours(), photos, journal=journal)
    with pytest.raises(vb.JournalError, match="belongs to another run"):
        vb.ingest(folder, Colours(), photos, journal=journal, **options)


def test_journals_of_records_and_of_items_are_not_taken_for_each_other(folder: Path, journal: Path) -> None:
    photos = Photos()
    rows = [{"id": "a", "vector": [1, 2, 3]}]
    vb.write(photos, [rows], journal=journal)
    with pytest.raises(vb.JournalError, match="it notes batches of records"):
        vb.ingest(folder, Colours(), photos, journal=journal)
    other = folder.parent / "other.journal"
    vb.ingest(folder, Colours(), photos, journal=other)
    with pytest.raises(vb.JournalError, match="vecbridge_journal 2, not 1"):
        vb.write(photos, [rows], journal=other)


def test_a_collection_that_was_dropped_is_not_taken_for_the_one_that_was_written(
    folder: Path, journal: Path
) -> None:
    with vb.connect("memory://") as store:
        with NewCollection(store, spec()) as photos:
            vb.ingest(folder, Colours(), photos, journal=journal)
        store.drop("photos")
        with NewCollection(store, spec()) as photos, pytest.raises(vb.JournalError, match="44 rows were ack"):
            vb.ingest(folder, Colours(), photos, journal=journal)
        assert store.collections() == []
        with pytest.raises(vb.JournalError, match="44 rows were acknowledged"):
            vb.ingest(folder, Colours(), store.create(spec()), journal=journal)


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 30, b'{"first": 0}', b"7", b'{"first":0,"items":"8","digest":"x","written":8}'],
    ids=["zeros", "short", "number", "text"],
)
def test_a_damaged_line_is_named(folder: Path, journal: Path, damage: bytes) -> None:
    photos = Photos()
    vb.ingest(folder, Colours(), photos, journal=journal)
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*whole[:2], damage + b"\n", *whole[3:]]))
    with pytest.raises(vb.JournalError, match="line 3 is damaged"):
        vb.ingest(folder, Colours(), photos, journal=journal)


# ------------------------------------------------------------------------------------------ crashes


def test_a_journal_that_is_cut_anywhere_continues(folder: Path, journal: Path) -> None:
    photos = Photos()
    vb.ingest(folder, Colours(), photos, journal=journal)
    whole = journal.read_bytes()
    for end in {*range(0, len(whole), 71), len(whole) - 1}:
        journal.write_bytes(whole[:end])
        assert vb.ingest(folder, Colours(), photos, journal=journal).written == 44
        assert lines(journal)[-1] == {"finished": True}


def test_an_interrupt_settles_what_is_in_flight_and_the_same_call_continues(
    folder: Path, journal: Path
) -> None:
    photos = Photos()

    def interrupt(state: Any) -> None:
        if state.written >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vb.ingest(folder, Colours(), photos, journal=journal, batch_rows=4, progress=interrupt)
    assert own_threads() == []
    known = sum(line["written"] for line in settled(journal))
    acknowledged = len(stored(photos))
    assert acknowledged - GROUP < known <= acknowledged < 44
    report = vb.ingest(folder, Colours(), photos, journal=journal, batch_rows=4)
    assert (report.written, report.recalled) == (44, known)
    assert stored(photos) == expected(range(44))


@pytest.mark.parametrize("seed", range(12))
def test_after_a_crash_at_any_moment_nothing_is_lost_and_nothing_settled_is_sent_again(
    folder: Path, journal: Path, seed: int
) -> None:
    """The files and the store as they are at one moment are what a crash at that moment leaves."""
    chance = random.Random(seed)
    broken = set(chance.sample(range(44), 4))
    refused = {f"{number:05}.png" for number in chance.sample(sorted(set(range(44)) - broken), 3)}
    for number in broken:
        (folder / f"{number:05}.png").write_text("no picture")
    moment, rows = chance.randrange(14), chance.choice([2, 4, 7])
    dead = folder.parent / "bad.jsonl"
    state: dict[str, Any] = {}

    def refuse(call: int, batch: Any) -> None:
        if refused & set(batch.column("id").to_pylist()):
            raise BackendError("400")

    def look_and_refuse(call: int, batch: Any) -> None:
        if len(photos.sent) > moment and not state:  # the journal first: it must never be ahead
            state.update(journal=journal.read_bytes(), dead=dead.read_bytes(), rows=list(photos.stored()))
        refuse(call, batch)

    photos = Photos(before=look_and_refuse, parallel_requests=8)
    options: dict[str, Any] = {"journal": journal, "dead_letters": dead, "workers": 3}
    vb.ingest(folder, Colours(), photos, batch_rows=rows, **options)
    assert state, "the moment never came"

    torn = chance.randrange(30)
    journal.write_bytes(state["journal"] + b'{"first":40,"items":4,"digest":"ab"'[:torn])
    dead.write_bytes(state["dead"] + b'{"id": "00007.png", "source"'[:torn])
    known = {
        f"{number:05}.png"
        for line in map(json.loads, state["journal"].splitlines()[1:])
        for number in range(line["first"], line["first"] + line["items"])
    }
    survivor = Photos(before=refuse, parallel_requests=8)
    if state["rows"]:
        survivor.inner.upsert(photos.inner.fetch(sorted(state["rows"])))
    report = vb.ingest(folder, Colours(), survivor, batch_rows=chance.choice([2, 4, 7]), **options)

    good = {key: vector for key, vector in expected(range(44)).items() if key not in refused}
    assert stored(survivor) == {key: vector for key, vector in good.items() if int(key[:5]) not in broken}
    assert (report.written, report.failed) == (37, 7)
    assert not {key for sent in survivor.sent for key in sent} & known
    names = [json.loads(line)["id"] for line in dead.read_text().splitlines()]
    assert sorted(names) == sorted({f"{number:05}.png" for number in broken} | refused)


# ------------------------------------------------------------------------------------------- groups


def test_groups_are_cut_at_fixed_places_and_dead_letters_belong_to_none() -> None:
    letter = DeadLetter("x", None, "bad")
    items = [PictureItem(f"{number}", f"/{number}") for number in range(20)]
    source: list[Any] = [letter, *items[:8], letter, *items[8:], letter]
    entries = list(grouped(source, {}, ""))
    assert [entry.what for entry in entries if entry.what is not None] == source
    assert [entry.group.items for entry in entries if entry.what is None] == [8, 8, 4]
    positions = [entry.position for entry in entries if isinstance(entry.what, PictureItem)]
    assert positions == [*range(8), *range(8), *range(4)]
    assert list(grouped([], {}, "")) == []
    assert [entry.what for entry in grouped([letter], {}, "")] == [letter]
