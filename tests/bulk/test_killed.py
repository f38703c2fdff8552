"""A bulk write whose process is killed at any point goes on where it was, and ends with every row once."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.ingesting import IDENTITY, Colours
from tests.children import CHILDREN
from tests.migration.copies import options
from tests.migration.sides import PLACES, fresh_name

pytestmark = pytest.mark.timeout(400)

ROWS, PART, DIM = 2_048, 32, 16
BATCH_SECONDS = 0.003  # that the source takes, so that a kill meets a run
KINDS = ("faiss", "milvus-lite", "milvus", "pinecone", "weaviate")
Writer = Callable[[str, Path, Path, Any], None]


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often the writer is killed."""
    return 20 if request.config.getoption("--long") else 2


def identifier(number: int) -> str:
    """The id of a line of the text: ``lines.txt#1`` is the first."""
    return f"lines.txt#{number + 1}"


def vectors(numbers: range) -> np.ndarray[Any, Any]:
    """Vectors that tell a row's number, and no two of which are alike."""
    rows = np.random.default_rng(8).normal(size=(ROWS, DIM)).astype(np.float32)
    return rows[numbers.start : numbers.stop]


def batches(spec: vb.CollectionSpec) -> Iterator[pa.RecordBatch]:
    for start in range(0, ROWS, PART):
        numbers = range(start, start + PART)
        time.sleep(BATCH_SECONDS)
        ids = [identifier(number) for number in numbers]
        yield vb.batch(spec, id=ids, vector=vectors(numbers), line=[number + 1 for number in numbers])


class Lines(Colours):
    """The vector of a line is the row of its number."""

    identity = vb.EmbedderIdentity("lines", "1", DIM, "none")
    dim = DIM

    def embed_texts(self, texts: Any) -> Any:
        time.sleep(BATCH_SECONDS)
        return np.concatenate([vectors(range(int(text), int(text) + 1)) for text in texts])


def write(url: str, folder: Path, journal: Path, result: Any) -> None:
    """What a child does."""
    with vb.open(url, **options(url)) as photos:
        report = vb.write(photos, batches(photos.spec), journal=journal, workers=4)
    tell(result, report)


def ingest(url: str, folder: Path, journal: Path, result: Any) -> None:
    """The same, from a file of texts."""
    with vb.open(url, **options(url)) as photos:
        report = vb.ingest(folder, Lines(), photos, journal=journal, batch_rows=PART, workers=4)
    tell(result, report)


def tell(result: Any, report: vb.WriteReport) -> None:
    if result is not None:
        result[:] = [report.written, report.failed, report.recalled]


def settled(journal: Path) -> int:
    """Rows that the journal has settled; a line that a kill has torn does not count."""
    if not journal.exists():
        return 0
    whole = [line for line in journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    entries = [json.loads(line) for line in whole]
    return sum(entry.get("rows", entry.get("items", 0)) for entry in entries)


def killed_after(rows: int, writer: Writer, url: str, folder: Path, journal: Path) -> bool:
    """Kills a writer a little after so many rows are settled; whether it was running."""
    child = CHILDREN.Process(target=writer, args=(url, folder, journal, None))
    child.start()
    while child.is_alive() and settled(journal) < rows:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.02))
    was_running = child.is_alive()
    child.kill()
    child.join()
    return was_running


def finished(writer: Writer, url: str, folder: Path, journal: Path) -> list[int]:
    """Runs the writer to its end; what it reports: written, failed, recalled."""
    result = CHILDREN.Array("q", 3)
    child = CHILDREN.Process(target=writer, args=(url, folder, journal, result))
    child.start()
    child.join()
    assert child.exitcode == 0
    return list(result)


def contents(url: str) -> dict[str, bytes]:
    """Ids, and the vectors of each bit by bit."""
    with vb.open(url, **options(url)) as photos:
        photos.flush()
        assert photos.count() == ROWS
        found = [row for page in photos.scan(include=["vector"]) for row in page.batch.to_pylist()]
    assert len(found) == ROWS, "a row comes twice"
    return {row["id"]: np.array(row["vector"], np.float32).tobytes() for row in found}


@pytest.mark.parametrize("writer", [write, ingest])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_writer_goes_on_without_a_gap_and_without_a_double(
    kind: str, writer: Writer, tmp_path: Path, kills: int
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "lines.txt").write_text("".join(f"{number}\n" for number in range(ROWS)))
    base, killed, rounds = PLACES[kind].url(tmp_path / kind), 0, 0
    expected = {identifier(n): row.tobytes() for n, row in enumerate(vectors(range(ROWS)))}
    while killed < kills:
        rounds += 1
        assert rounds <= kills + 2, "the writer ends before it is killed"
        name, journal = fresh_name("killed"), tmp_path / f"{fresh_name('run')}.journal"
        url = f"{base}#{name}"
        spec = vb.CollectionSpec.single(name, dim=DIM, metric="l2", index=vb.Flat(), fields={"line": "int64"})
        with vb.connect(base, **options(base)) as store:
            store.create(store.capabilities.nearest(spec)[0]).close()
        for rows in sorted(random.sample(range(ROWS * 3 // 4), min(kills - killed, 4))):
            killed += killed_after(rows, writer, url, folder, journal)
        known = settled(journal)
        assert finished(writer, url, folder, journal) == [ROWS, 0, known]
        assert contents(url) == expected
        # as after a kill between the last acknowledgement and the end of the process
        whole = journal.read_bytes()
        journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
        for _ in range(2):
            assert finished(writer, url, folder, journal) == [ROWS, 0, ROWS]
            assert journal.read_bytes() == whole
        with vb.connect(base, **options(base)) as store:
            store.drop(name)


POISON = 1_234


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_of_three_thousand_that_cannot_be_stored_is_one_dead_letter(
    kind: str, tmp_path: Path
) -> None:
    total, name = 3_000, fresh_name("poison")
    base, dead = PLACES[kind].url(tmp_path / kind), tmp_path / "bad.jsonl"
    spec = vb.CollectionSpec.single(name, dim=3, metric="cosine", embedder=IDENTITY, fields={"line": "int64"})
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "lines.txt").write_text("".join(f"{number}\n" for number in range(total)))

    class Poisonous(Colours):
        """Makes a vector without a direction of one line."""

        def embed_texts(self, texts: Any) -> Any:
            found = np.array([[float(text) + 1, 1, 2] for text in texts], np.float32)
            found[[text == str(POISON) for text in texts]] = 0
            return found

    with vb.connect(base, **options(base)) as store:
        photos = store.create(spec)
        report = vb.ingest(folder, Poisonous(), photos, dead_letters=dead)
        assert (report.written, report.failed) == (total - 1, 1)
        photos.flush()
        ids = [key for page in photos.scan(include=()) for key in page.batch.column("id").to_pylist()]
        assert len(ids) == total - 1
        assert set(ids) == {identifier(number) for number in range(total)} - {identifier(POISON)}
        [letter] = map(json.loads, dead.read_text().splitlines())
        assert letter["id"] == identifier(POISON)
        assert letter["source"].endswith(f"lines.txt:{POISON + 1}")
        store.drop(name)
