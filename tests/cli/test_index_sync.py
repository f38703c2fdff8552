"""``index --sync``: what is embedded, what is removed, and what is left alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import vecbridge as vb
from tests.cli.conftest import GALLERY, Ran, Run
from vecbridge import reserved
from vecbridge.cli import common
from vecbridge.collection import Collection
from vecbridge.embed.onnx import OnnxEmbedder
from vecbridge.names import RESERVED, SOURCE

URL = "faiss:store#photos"
PICTURES = sorted(GALLERY.glob("1f4*.png"))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of pictures and texts that the model embeds, a call each."""
    counts: list[int] = []
    prepared, texts = OnnxEmbedder.embed_prepared, OnnxEmbedder.embed_texts

    def embed_prepared(model: OnnxEmbedder, pictures: Sequence[Any]) -> Any:
        counts.append(len(pictures))
        return prepared(model, pictures)

    def embed_texts(model: OnnxEmbedder, given: Sequence[str]) -> Any:
        counts.append(len(given))
        return texts(model, given)

    monkeypatch.setattr(OnnxEmbedder, "embed_prepared", embed_prepared)
    monkeypatch.setattr(OnnxEmbedder, "embed_texts", embed_texts)
    return counts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures, a text of three lines, and what stands beside the pictures."""
    path = tmp_path / "photos"
    path.mkdir()
    for number in range(10):
        put(path / f"{number}.png", number)
    (path / "notes.txt").write_text("a red car\nun perro\nthe sea\n", "utf-8")
    (path / "metadata.jsonl").write_text('{"file_name": "0.png", "year": 2015}\n')
    return path


def put(path: Path, number: int, seconds: int = 1_700_000_000) -> None:
    """A picture of the gallery, of that time."""
    path.parent.mkdir(exist_ok=True)
    shutil.copy(PICTURES[number], path)
    os.utime(path, (seconds, seconds))


def synced(run: Run, *arguments: object) -> dict[str, Any]:
    """The part about the synchronisation of a run that ended well."""
    done = run("index", *(arguments or ("photos",)), "--store", URL, "--sync", "--json", "--quiet")
    assert done.code == 0, done.err
    found: dict[str, Any] = done.json["sync"]
    return found


def counts(sync: dict[str, Any]) -> tuple[int, ...]:
    """New, changed, unchanged, refreshed, removed."""
    return tuple(sync[name] for name in ("new", "changed", "unchanged", "refreshed", "removed"))


def rows(*columns: str) -> dict[str, dict[str, Any]]:
    with vb.open(URL) as photos:
        found = [row for page in photos.scan(include=columns) for row in page.batch.to_pylist()]
    return {row.pop("id"): row for row in found}


class TestSync:
    """What is embedded and removed."""

    def test_only_what_is_new_or_changed_is_embedded_and_what_is_gone_is_removed(
        self, run: Run, folder: Path, embedded: list[int]
    ) -> None:
        assert counts(synced(run)) == (13, 0, 0, 0, 0)
        before = rows("vector", "path")
        embedded.clear()
        put(folder / "1.png", 21, 1_700_000_001)
        put(folder / "new" / "a.png", 22)
        (folder / "2.png").unlink()
        (folder / "notes.txt").write_text("a red car\na cat\n", "utf-8")
        assert counts(synced(run)) == (1, 2, 8, 1, 2)
        assert sorted(embedded) == [1, 2]
        after = rows("vector", "path", "text")
        assert after.keys() - before.keys() == {"new/a.png"}
        assert before.keys() - after.keys() == {"2.png", "notes.txt#3"}
        changed = {id for id in after.keys() & before.keys() if after[id]["vector"] != before[id]["vector"]}
        assert changed == {"1.png", "notes.txt#2"}
        assert after["notes.txt#2"]["text"] == "a cat"

    def test_the_rows_are_those_of_a_collection_made_anew(self, run: Run, folder: Path) -> None:
        synced(run)
        put(folder / "1.png", 21, 1_700_000_001)
        put(folder / "3.png", 3, 1_700_000_002)
        put(folder / "new" / "a.png", 22)
        (folder / "2.png").unlink()
        synced(run)
        names = [*rows_columns(), *RESERVED]
        found = rows(*names)
        assert run("index", "photos", "--store", "faiss:anew#photos", "--quiet").code == 0
        with vb.open("faiss:anew#photos") as photos:
            anew = {
                row.pop("id"): row for page in photos.scan(include=names) for row in page.batch.to_pylist()
            }
        assert found.keys() == anew.keys()
        for id, row in found.items():
            vector, expected = np.array(row.pop("vector")), np.array(anew[id].pop("vector"))
            np.testing.assert_allclose(vector, expected, atol=1e-5)
            assert row == anew[id]

    def test_a_run_without_changes_loads_no_model_and_writes_nothing(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced(run)

        def refused(*arguments: object, **options: object) -> Any:
            raise AssertionError("nothing is to be embedded or written")

        monkeypatch.setattr(common, "load_embedder", refused)
        for name in ("upsert", "update", "delete"):
            monkeypatch.setattr(Collection, name, refused)
        assert counts(synced(run)) == (0, 0, 13, 0, 0)

    def test_plain_index_keeps_what_it_knows_for_a_later_sync(
        self, run: Run, folder: Path, embedded: list[int]
    ) -> None:
        assert run("index", "photos", "--store", URL, "--quiet").code == 0
        assert run("index", "photos", "--store", URL, "--quiet").code == 0
        embedded.clear()
        assert counts(synced(run)) == (0, 0, 13, 0, 0)
        assert embedded == []

    def test_a_touched_picture_and_other_fields_are_written_without_the_model(
        self, run: Run, folder: Path, embedded: list[int]
    ) -> None:
        synced(run)
        before = rows("vector")
        embedded.clear()
        os.utime(folder / "1.png", (1_800_000_000, 1_800_000_000))
        (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "year": 2016}\n')
        assert counts(synced(run)) == (0, 0, 11, 2, 0)
        assert embedded == []
        after = rows("vector", "year", "modified")
        assert after["0.png"]["year"] == 2016
        assert after["1.png"]["modified"].timestamp() == 1_800_000_000
        assert {id: row["vector"] for id, row in after.items()} == {
            id: row["vector"] for id, row in before.items()
        }
        assert counts(synced(run)) == (0, 0, 13, 0, 0)

    def test_fields_that_do_not_fit_are_dead_letters_and_the_row_stays(self, run: Run, folder: Path) -> None:
        synced(run)
        (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "year": "soon"}\n')
        os.utime(folder / "1.png", (1_800_000_000, 1_800_000_000))
        done = run("index", "photos", "--store", URL, "--sync", "--json", "--dead-letters", "bad.jsonl")
        assert done.code == 1
        assert (done.json["failed"], done.json["sync"]["refreshed"]) == (1, 1)
        assert "0.png" in Path("bad.jsonl").read_text()
        assert rows("year")["0.png"]["year"] == 2015

    def test_an_old_collection_is_embedded_once(self, run: Run, folder: Path, embedded: list[int]) -> None:
        run("index", "photos", "--store", URL, "--quiet")
        with vb.open(URL) as photos:
            old = photos.spec
            batches = [page.batch for page in photos.scan()]
        with vb.connect("faiss:store") as store:
            photos = store.create(old, if_exists="replace")
            for batch in batches:
                photos.upsert(batch)
            assert not reserved.is_tracking(photos.stored_spec)
        embedded.clear()
        assert counts(synced(run)) == (13, 0, 0, 0, 0)
        assert sum(embedded) == 13
        assert counts(synced(run)) == (0, 0, 13, 0, 0)
        assert rows(*RESERVED)["1.png"][SOURCE] == f"{folder}//1.png"

    def test_content_ids(self, run: Run, folder: Path, embedded: list[int]) -> None:
        put(folder / "copy.png", 1)
        assert counts(synced(run, "photos", "--id", "content")) == (14, 0, 0, 0, 0)
        embedded.clear()
        (folder / "3.png").rename(folder / "renamed.png")
        put(folder / "4.png", 21, 1_700_000_001)
        assert counts(synced(run)) == (1, 0, 12, 1, 1)
        assert sum(embedded) == 1
        assert len(rows()) == 13


@pytest.mark.parametrize("name", ["letters.jsonl", "rows.jsonl", "rows.parquet"])
def test_rows_in_a_file_are_loaded_without_what_they_were_made_from(
    run: Run, folder: Path, name: str
) -> None:
    synced(run)
    with vb.open(URL) as photos:
        batch = photos.fetch(["1.png"], include=["vector", "path", *RESERVED])
    [record] = batch.to_pylist()
    if name == "rows.parquet":
        pq.write_table(pa.Table.from_batches([batch]), name)
    elif name == "rows.jsonl":
        Path(name).write_text(json.dumps(record))
    else:
        letter = {"id": "1.png", "source": "1.png", "error": "refused", "record": record}
        Path(name).write_text(json.dumps(letter))
    done = run("load", name, "--store", URL)
    assert done.code == 0, done.err
    assert rows(*RESERVED)["1.png"] == dict.fromkeys(RESERVED)
    assert counts(synced(run)) == (1, 0, 12, 0, 0)


def rows_columns() -> tuple[str, ...]:
    with vb.open(URL) as photos:
        return photos.spec.column_names[1:]


class TestLeftAlone:
    """What no run removes."""

    def test_rows_of_others_and_of_other_folders(self, run: Run, folder: Path, tmp_path: Path) -> None:
        put(tmp_path / "more" / "a.png", 20)
        synced(run)
        assert counts(synced(run, "more", "--prefix", "more/")) == (1, 0, 0, 0, 0)
        with vb.open(URL) as photos:
            photos.upsert(
                [{"id": "mine", "vector": [1.0] * photos.spec.vector.dim, "path": f"{folder}/x.png"}]
            )
        (folder / "1.png").unlink()
        shutil.rmtree(tmp_path / "more")
        assert counts(synced(run, "photos", "--prefix", "")) == (0, 0, 12, 0, 1)
        assert {"mine", "more/a.png"} <= rows().keys()

    def test_a_file_that_is_there_and_left_out(self, run: Run, folder: Path) -> None:
        synced(run)
        left_out = synced(run, "photos", "--no-texts")
        assert (left_out["removed"], left_out["kept"]) == (0, 3)

    def test_a_picture_that_cannot_be_read_any_more(self, run: Run, folder: Path) -> None:
        synced(run)
        (folder / "1.png").write_text("no picture")
        done = run("index", "photos", "--store", URL, "--sync", "--json")
        assert done.code == 1
        assert (done.json["failed"], done.json["sync"]["removed"]) == (1, 0)
        assert "1.png" in rows()

    def test_nothing_is_removed_where_writing_fails(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced(run)
        (folder / "1.png").unlink()
        put(folder / "new.png", 20)

        def fail(*arguments: object, **options: object) -> Any:
            raise vb.BackendError("the disk is on fire")

        with monkeypatch.context() as patch:
            patch.setattr(Collection, "upsert", fail)
            done = run("index", "photos", "--store", URL, "--sync", "--json")
        assert (done.code, done.json["sync"]["removed"]) == (1, 0)
        assert "nothing was removed" in done.err
        assert "1.png" in rows()
        assert counts(synced(run)) == (1, 0, 12, 0, 1)

    def test_an_interrupted_run_is_completed_by_the_same_command(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced(run)
        (folder / "1.png").unlink()
        put(folder / "new.png", 20)

        def interrupt(*arguments: object, **options: object) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Collection, "upsert", interrupt)
            done = run("index", "photos", "--store", URL, "--sync")
        assert done.code == 130
        assert "the same command completes it" in done.err
        assert "--journal" not in done.err
        assert "1.png" in rows()
        assert counts(synced(run)) == (1, 0, 12, 0, 1)

    def test_a_file_that_is_there_again(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced(run)
        (folder / "1.png").rename(folder / "away")
        flush = Collection.flush

        def restored(photos: Collection, timeout: float = 60.0) -> None:
            if (folder / "away").exists():  # once the new picture is written
                (folder / "away").rename(folder / "1.png")
            flush(photos, timeout)

        put(folder / "new.png", 20)
        with monkeypatch.context() as patch:
            patch.setattr(Collection, "flush", restored)
            once = run("index", "photos", "--store", URL, "--sync", "--json")
        assert once.json["sync"]["removed"] == 0
        assert counts(synced(run)) == (0, 0, 14, 0, 0)


class TestAsking:
    """Before anything is changed."""

    def refused(self, run: Run, *options: str) -> Ran:
        before = rows(*RESERVED)
        done = run("index", "photos", "--store", URL, "--sync", *options)
        assert rows(*RESERVED) == before
        return done

    def test_more_than_a_fifth(self, run: Run, folder: Path) -> None:
        synced(run)
        for number in range(1, 5):
            (folder / f"{number}.png").unlink()
        put(folder / "new.png", 20)
        done = self.refused(run)
        assert done.code == 2
        assert "4 of 13 records would be removed" in done.err
        assert "--yes" in done.err
        assert counts(synced(run, "photos", "--yes")) == (1, 0, 9, 0, 4)

    def test_an_empty_folder(self, run: Run, folder: Path) -> None:
        synced(run)
        shutil.rmtree(folder)
        folder.mkdir()
        done = self.refused(run)
        assert done.code == 2
        assert f"nothing in {folder}" in done.err
        assert counts(synced(run, "photos", "--yes")) == (0, 0, 0, 0, 13)
        assert rows() == {}

    def test_a_folder_that_is_not_there_is_an_error(self, run: Run, folder: Path) -> None:
        synced(run)
        shutil.rmtree(folder)
        assert self.refused(run, "--yes").code == 2

    def test_a_dry_run_changes_nothing_and_counts_as_the_run_does(self, run: Run, folder: Path) -> None:
        synced(run)
        put(folder / "1.png", 21, 1_700_000_001)
        put(folder / "new.png", 20)
        os.utime(folder / "4.png", (5, 5))
        for number in (2, 3, 5):
            (folder / f"{number}.png").unlink()
        done = self.refused(run, "--dry-run", "--json")
        assert (done.code, done.json["sync"]["dry_run"]) == (0, True)
        assert done.json["sync"]["asks"] == ["3 of 13 records would be removed"]
        assert counts(done.json["sync"]) == (1, 1, 8, 1, 3)
        assert "asks first" in self.refused(run, "--dry-run").out
        assert counts(synced(run, "photos", "--yes")) == (1, 1, 8, 1, 3)

    def test_a_dry_run_makes_no_collection(self, run: Run, folder: Path) -> None:
        done = run("index", "photos", "--store", URL, "--sync", "--dry-run", "--json")
        assert done.json["sync"]["new"] == 13
        with vb.connect("faiss:store") as store:
            assert store.collections() == []

    @pytest.mark.parametrize(
        "options",
        [["--dry-run"], ["--checksum"], ["--yes"], ["--sync", "--journal", "a.journal"]],
        ids=lambda options: options[-2] if len(options) > 1 else options[0],
    )
    def test_options_that_do_not_go_together(self, run: Run, folder: Path, options: list[str]) -> None:
        done = run("index", "photos", "--store", URL, *options)
        assert done.code == 2
        assert "--sync" in done.err


def test_checksum_reads_every_file(run: Run, folder: Path) -> None:
    synced(run)
    path = folder / "1.png"
    stamp = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert counts(synced(run)) == (0, 0, 13, 0, 0)
    assert counts(synced(run, "photos", "--dry-run", "--checksum")) == (0, 1, 12, 0, 0)


@pytest.mark.parametrize("count", [500, pytest.param(5_000, marks=pytest.mark.long)])
def test_of_many_pictures_those_that_changed_are_embedded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    given: list[int] = []

    def embed(model: OnnxEmbedder, pictures: Sequence[Any]) -> Any:
        given.append(len(pictures))
        vectors = np.stack([np.asarray(each, np.float32).ravel()[: model.dim] for each in pictures])
        vectors += np.arange(1, model.dim + 1, dtype=np.float32)  # no zero vector
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(OnnxEmbedder, "embed_prepared", embed)
    files = [tmp_path / "photos" / f"{number % 20:02}" / f"{number:05}.png" for number in range(count)]
    for number, path in enumerate(files):
        tiny(path, number)
    assert counts(synced(run)) == (count, 0, 0, 0, 0)
    step, before = count // 10, rows(*RESERVED)
    given.clear()
    for number in range(10):
        tiny(files[number * step], count + number, 1_700_000_001)
        tiny(tmp_path / "photos" / "new" / f"{number}.png", 2 * count + number)
        files[number * step + 7].unlink()
    assert counts(synced(run)) == (10, 10, count - 20, 0, 10)
    assert sum(given) == 20
    after = rows(*RESERVED)
    assert len(after) == count
    assert sum(row != after.get(id) for id, row in before.items()) == 20
    assert counts(synced(run)) == (0, 0, count, 0, 0)


def tiny(path: Path, number: int, seconds: int = 1_700_000_000) -> None:
    """A picture of one colour that no other has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (number % 256, number // 256 % 256, number // 65_536)
    Image.new("RGB", (8, 8), colour).save(path)
    os.utime(path, (seconds, seconds))
