"""One damaged picture among thousands is one dead letter, and changes no other picture's vector."""

import json

import numpy as np
import pytest
from PIL import Image

import vecbridge as vb
from vecbridge.embed.pipeline import embed_items
from vecbridge.sources.images import ImageSource

pytest.importorskip("torch")

COUNTS = [1_000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]


@pytest.fixture(scope="module")
def model(tiny_clip):
    with vb.embedder(tiny_clip, runtime="torch", device="cpu", dtype="float32") as made:
        yield made


@pytest.fixture(scope="module", params=COUNTS)
def folder(request, tmp_path_factory):
    """Pictures of 8x8 to 40x40 pixels, one of which ends in its middle."""
    directory = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(7)
    for number in range(request.param):
        height, width = random.integers(8, 41, 2)
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        picture.save(directory / f"{number:05}.png", compress_level=1)
    whole = bad(directory).read_bytes()
    bad(directory).write_bytes(whole[: len(whole) // 2])
    return directory


@pytest.fixture(scope="module")
def without(folder, model):
    """The vectors of a run to which the damaged picture is not given, by id."""
    found, letters = embedded([item for item in ImageSource(folder) if item.path != str(bad(folder))], model)
    assert letters == []
    assert len(found) == len(list(folder.iterdir())) - 1
    return found


def bad(directory):
    return directory / "00570.png"


def spec(model):
    return vb.CollectionSpec.single("photos", dim=model.dim, index=vb.Flat(), embedder=model.identity)


def embedded(items, model):
    letters = []
    batches = list(embed_items(items, model, spec(model), on_dead_letter=letters.append))
    ids = [id for batch in batches for id in batch["id"].to_pylist()]
    return dict(zip(ids, np.concatenate([vb.vectors(batch) for batch in batches]), strict=True)), letters


def least_cosine(some, others):
    assert some.keys() == others.keys()
    return np.min([some[id] @ others[id] for id in some])


def test_embed_items_gives_the_others_their_vectors_and_one_dead_letter(folder, model, without):
    found, letters = embedded(ImageSource(folder), model)
    assert [letter.id for letter in letters] == [bad(folder).name]
    assert least_cosine(found, without) >= 0.99999


def test_ingest_stores_the_others_and_writes_one_dead_letter(folder, model, without, tmp_path):
    with vb.connect("memory://") as store:
        photos = store.create(spec(model))
        report = vb.ingest(folder, model, photos, dead_letters=tmp_path / "bad.jsonl")
        assert (report.written, report.failed) == (len(without), 1)
        found = {
            id: vector
            for page in photos.scan()
            for id, vector in zip(page.batch["id"].to_pylist(), vb.vectors(page.batch), strict=True)
        }
    assert least_cosine(found, without) >= 0.99999
    [letter] = (tmp_path / "bad.jsonl").read_text("utf-8").splitlines()
    assert json.loads(letter)["id"] == bad(folder).name
