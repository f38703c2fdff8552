"""Items to batches: order, dead letters, bounded look-ahead."""

import hashlib
import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from vecbridge.embed.pipeline import embed_items
from vecbridge.errors import ConfigError, DimensionMismatchError, EmbedderMismatchError
from vecbridge.records import stamped, vectors
from vecbridge.schema import CollectionSpec, EmbedderIdentity, VectorField
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource, PictureItem
from vecbridge.sources.pictures import decode, upright_rgb

IDENTITY = EmbedderIdentity("colours", "1", 3, "none")


class Colours:
    """The mean colour of a picture; a text is as red as it is long. Not staged."""

    identity = IDENTITY
    dim = 3
    note = ""

    def embed_texts(self, texts):
        return np.array([[len(text), 0, 0] for text in texts], np.float32)

    def embed_images(self, images):
        return np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])


class StagedColours(Colours):
    """The same in two stages."""

    def prepare(self, image):
        return np.asarray(image.resize((1, 1))).transpose(2, 0, 1)

    def embed_prepared(self, pixels):
        return np.stack([each[:, 0, 0] for each in pixels]).astype(np.float32)


EMBEDDERS = pytest.mark.parametrize("embedder", [Colours(), StagedColours()], ids=["plain", "staged"])


def spec(fields=(), **options):
    return CollectionSpec.single("c", dim=3, metric="l2", fields=dict(fields), **options)


def run(items, embedder, spec, **options):
    letters = []
    batches = list(embed_items(items, embedder, spec, on_dead_letter=letters.append, **options))
    return batches, letters


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        Image.new("RGB", (10 + number, 9), (number + 1, 0, 0)).save(tmp_path / f"{number:02}.png")
    return tmp_path


@EMBEDDERS
def test_rows_come_in_order_with_vectors_columns_and_identity(folder, embedder):
    source = ImageSource(folder)
    batches, letters = run(source, embedder, spec(source.fields(), embedder=IDENTITY), batch_rows=8)
    assert letters == []
    assert [batch.num_rows for batch in batches] == [8, 8, 4]
    assert all(stamped(batch) == IDENTITY for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    for number, row in enumerate(rows):
        path = folder / f"{number:02}.png"
        assert row == {
            "id": path.name, "vector": [number + 1, 0, 0], "path": str(path), "width": 10 + number,
            "height": 9, "bytes": path.stat().st_size, "format": "png",
            "modified": datetime.fromtimestamp(int(path.stat().st_mtime), UTC),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }  # fmt: skip


def test_a_collection_with_seconds_goes_on_getting_seconds(folder):
    old = spec({"modified": "int64"})
    batches, _ = run(ImageSource(folder), Colours(), old)
    seconds = [int((folder / f"{number:02}.png").stat().st_mtime) for number in range(20)]
    assert [row["modified"] for batch in batches for row in batch.to_pylist()] == seconds


def test_a_year_that_no_timestamp_has_is_null(folder, monkeypatch):
    def from_the_year_11476(file, size, modified, **options):
        return replace(decode(file, size, modified, **options), modified=300_000_000_000)

    monkeypatch.setattr("vecbridge.embed.items.decode", from_the_year_11476)
    source = ImageSource(folder / "00.png")
    [batch], letters = run(source, Colours(), spec(source.fields()))
    assert (batch.column("modified").to_pylist(), letters) == ([None], [])


def test_what_sidecars_say_becomes_the_collection_s_types(folder):
    lines = [
        {"file_name": "00.png", "taken": "2024-05-17T14:00:00+02:00", "sizes": [1, 2.5], "deep": "text"},
        {"file_name": "01.png", "taken": "2024-05-17", "sizes": None, "deep": None},
        {"file_name": "02.png", "sizes": []},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    types = {"taken": "timestamp", "sizes": "list<float64>", "deep": "json"}
    batches, letters = run(ImageSource(folder), Colours(), spec(types))
    rows = {row["id"]: row for batch in batches for row in batch.to_pylist()}
    noon = datetime(2024, 5, 17, 12, tzinfo=UTC)
    found = [rows["00.png"][name] for name in types], [rows["02.png"][name] for name in types]
    assert found == ([noon, [1.0, 2.5], '"text"'], [None, [], None])
    [letter] = letters
    assert letter.id == "01.png"
    assert "'2024-05-17' has no time zone" in letter.error
    assert json.loads(letter.to_json())["record"]["taken"] == "2024-05-17"


@EMBEDDERS
def test_a_picture_that_cannot_be_read_is_one_dead_letter_and_the_others_come(folder, embedder):
    for number, content in [(3, b""), (7, b"text"), (12, (folder / "12.png").read_bytes()[:45])]:
        (folder / f"{number:02}.png").write_bytes(content)
    source = ImageSource(folder)
    batches, letters = run(source, embedder, spec(), batch_rows=5)
    ids = [key for batch in batches for key in batch.column("id").to_pylist()]
    assert ids == [f"{number:02}.png" for number in range(20) if number not in (3, 7, 12)]
    assert [letter.id for letter in letters] == ["03.png", "07.png", "12.png"]
    assert all(letter.source == str(folder / letter.id) and letter.error for letter in letters)


def test_the_source_s_dead_letters_are_passed_on_in_their_place(folder):
    (folder / "05.png").unlink()
    (folder / "05.png").symlink_to("/")
    (folder / "06.png").write_bytes(b"")
    _, letters = run(ImageSource(folder), Colours(), spec())
    assert [letter.id for letter in letters] == ["05.png", "06.png"]


def test_texts_and_pictures_stand_in_one_collection(folder):
    (folder / "10b.txt").write_text("two\n\nfour")
    source = ImageSource(folder, texts=True)
    batches, letters = run(source, StagedColours(), spec(source.fields()), batch_rows=64)
    [batch] = batches
    rows = batch.to_pylist()
    assert letters == []
    assert [row["id"] for row in rows[10:14]] == ["10.png", "10b.txt#1", "10b.txt#3", "11.png"]
    assert rows[12]["vector"] == [4, 0, 0]
    assert (rows[12]["text"], rows[12]["line"], rows[12]["format"], rows[12]["width"]) == (
        "four",
        3,
        "text",
        None,
    )
    assert rows[13]["text"] is None
    assert rows[13]["vector"] == [12, 0, 0]


def test_sidecar_fields_come_along_and_fields_that_the_spec_lacks_stay_behind(folder):
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "04.png", "tags": ["x"], "year": 2020}))
    batches, _ = run(ImageSource(folder), Colours(), spec({"tags": "list<string>", "width": "int64"}))
    assert batches[0].schema.names == ["id", "vector", "tags", "width"]
    assert batches[0].column("tags").to_pylist()[3:6] == [None, ["x"], None]


def test_vectors_that_no_backend_takes_are_dead_letters(folder):
    class Broken(Colours):
        def embed_images(self, images):
            found = super().embed_images(images)
            found[2] = np.nan
            return found

    batches, letters = run(ImageSource(folder), Broken(), spec())
    assert sum(batch.num_rows for batch in batches) == 19
    assert [(letter.id, "NaN" in letter.error) for letter in letters] == [("02.png", True)]
    json.loads(letters[0].to_json())


def test_no_more_is_read_ahead_than_a_batch(folder):
    taken = []

    def items():
        for item in ImageSource(folder):
            taken.append(item.id)
            yield item

    batches = embed_items(items(), Colours(), spec(), on_dead_letter=print, batch_rows=4, workers=2)
    next(batches)
    assert len(taken) <= 8
    batches.close()


def test_stopping_early_stops_the_threads(folder):
    batches = embed_items(
        ImageSource(folder), Colours(), spec(), on_dead_letter=print, batch_rows=2, workers=3
    )
    next(batches)
    batches.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("vecbridge-pictures")]


def test_an_error_of_the_source_reaches_the_caller_and_stops_the_threads(folder):
    def items():
        yield from list(ImageSource(folder))[:3]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk is gone"):
        run(items(), Colours(), spec())
    assert not [each for each in threading.enumerate() if each.name.startswith("vecbridge-pictures")]


def test_pictures_are_prepared_while_the_model_computes(folder):
    class Slow(StagedColours):
        prepared = 0
        seen = ()

        def prepare(self, image):
            time.sleep(0.02)
            type(self).prepared += 1
            return super().prepare(image)

        def embed_prepared(self, pixels):
            before = self.prepared
            time.sleep(0.4)
            type(self).seen += (self.prepared - before,)
            return super().embed_prepared(pixels)

    run(ImageSource(folder), Slow(), spec(), batch_rows=10, workers=2)
    assert len(Slow.seen) == 2
    assert Slow.seen[0] >= 5, "the second batch was made ready during the first"


def test_a_collection_of_another_model_or_width_is_refused_before_anything_is_read():
    def never():
        raise AssertionError("read")
        yield

    other = EmbedderIdentity("other", "1", 3, "none")
    with pytest.raises(EmbedderMismatchError):
        run(never(), Colours(), spec(embedder=other))
    with pytest.raises(DimensionMismatchError):
        run(never(), Colours(), CollectionSpec.single("c", dim=4))
    two = CollectionSpec("c", (VectorField("a", 3), VectorField("b", 3)))
    for unfit in (two, spec(id_type="int64")):
        with pytest.raises(ConfigError):
            run(never(), Colours(), unfit)
    for options in ({"batch_rows": 0}, {"workers": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            run(never(), Colours(), spec(), **options)


def test_nothing_in_gives_nothing():
    assert run([], Colours(), spec()) == ([], [])
    letter = DeadLetter("a", None, "no")
    assert run([letter], Colours(), spec()) == ([], [letter])


def test_an_item_that_comes_twice_comes_in_a_later_batch(folder):
    item = PictureItem("a", str(folder / "00.png"))
    batches, letters = run([item, item], Colours(), spec())
    assert [batch.column("id").to_pylist() for batch in batches] == [["a"], ["a"]]
    assert letters == []


def test_the_bundled_gallery_is_indexed_whole(bundled):
    from vecbridge.embed.factory import embedder

    source = ImageSource(bundled / "gallery")
    with embedder("bundled") as made:
        collection = CollectionSpec.single("g", dim=made.dim, fields=source.fields(), embedder=made.identity)
        batches, letters = run(source, made, collection)
        staged = np.concatenate([vectors(batch) for batch in batches])
        paths = [path for batch in batches for path in batch.column("path").to_pylist()]
        direct = made.embed_images(paths)
    assert letters == []
    assert len(staged) == len(list((bundled / "gallery").glob("*.png")))
    assert (staged * direct).sum(axis=1).min() > 0.99


class TurnedBack(StagedColours):
    """Prepares a picture as CLIP's preprocessing does, which turns it as its EXIF says."""

    def prepare(self, image):
        pixels = np.asarray(upright_rgb(image))
        return np.ascontiguousarray(pixels[:1, :1].transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_is_turned_once_on_its_way_to_the_model(tmp_path, orientation):
    corners = np.zeros((16, 16, 3), np.uint8)
    corners[:8, :8], corners[8:, :8], corners[:8, 8:] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(corners, {3: 2, 6: -1, 8: 1}[orientation])
    [batch], _ = run(ImageSource(tmp_path), TurnedBack(), spec(embedder=IDENTITY))
    assert vectors(batch).tolist() == [upright[0, 0].tolist()]


def test_pictures_above_max_pixels_are_dead_letters(folder):
    batches, letters = run(ImageSource(folder), Colours(), spec(), max_pixels=9 * 20)
    assert sum(batch.num_rows for batch in batches) == 11
    assert "29x9 is more than 180 pixels" in letters[-1].error
    with pytest.raises(ConfigError, match="max_pixels=0"):
        run(ImageSource(folder), Colours(), spec(), max_pixels=0)
