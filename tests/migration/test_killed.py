"""A copy that is killed at any point goes on where it was, and ends with the same rows."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.children import CHILDREN
from tests.migration.sides import PLACES, fresh_name
from vecbridge.migration import reading

pytestmark = pytest.mark.timeout(400)

ROWS, PAGE = 2_000, 40


def copy(source: str, target: str, journal: Path, resumed: Any = None) -> None:
    """What a child does; its pages are small, so that there are many."""
    reading.MAX_PAGE_ROWS = PAGE  # type: ignore[misc]
    report = vb.migrate(source, target, journal=journal, workers=2, wait=0)
    if resumed is not None:
        resumed.value = report.resumed


def filled(url: str) -> str:
    """A collection in two namespaces."""
    spec = vb.CollectionSpec.single(
        "photos", dim=16, index=vb.Flat(), fields={"year": "int64", "title": "string"}, namespaced=True
    )
    values = np.random.default_rng(5)
    with vb.connect(url) as store:
        for namespace, rows in (("", ROWS), ("eu", ROWS // 4)):
            photos = store.create(spec, if_exists="open", namespace=namespace)
            vectors = values.normal(size=(rows, 16)).astype(np.float32)
            ids = [f"{namespace}{number}" for number in range(rows)]
            titles = [None if number % 7 == 0 else f"t{number}" for number in range(rows)]
            photos.upsert(vb.batch(spec, id=ids, vector=vectors, year=list(range(rows)), title=titles))
    return f"{url}#photos"


def contents(url: str) -> dict[tuple[str, str], dict[str, object]]:
    store_url, _, name = url.partition("#")
    with vb.connect(store_url) as store:
        return {
            (namespace, row["id"]): row
            for namespace in store.namespaces(name)
            for page in store.open(name, namespace=namespace).scan()
            for row in page.batch.to_pylist()
        }


def pages(journal: Path) -> int:
    """Pages that a journal has recorded; what a kill has torn does not count."""
    return journal.read_bytes().count(b'"cursor"') if journal.exists() else 0


def finished(journal: Path) -> bool:
    return journal.exists() and b'"finished"' in journal.read_bytes()


def killed_after(pages_written: int, source: str, target: str, journal: Path) -> None:
    """Runs the copy, and kills it once the journal has so many pages; a little later, at random."""
    child = CHILDREN.Process(target=copy, args=(source, target, journal))
    child.start()
    while child.is_alive() and pages(journal) < pages_written:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.02))
    child.kill()
    child.join()


@pytest.mark.parametrize("kind", ["milvus", "snapshot"])
def test_a_killed_copy_goes_on_and_reads_nothing_twice(kind: str, tmp_path: Path, kills: int) -> None:
    pytest.importorskip("faiss")
    source = filled(f"faiss://{tmp_path}/source")
    base = PLACES[kind].url(tmp_path / kind)
    expected, rows, killed = contents(source), ROWS + ROWS // 4, 0
    while killed < kills:
        target = f"{base}#{fresh_name('moved')}"
        journal = tmp_path / f"{fresh_name('run')}.journal"
        for point in sorted(random.sample(range(rows // PAGE), 7)):
            killed_after(point, source, target, journal)
            killed += not finished(journal)
        before, resumed = pages(journal), CHILDREN.Value("q", -1)
        last = CHILDREN.Process(target=copy, args=(source, target, journal, resumed))
        last.start()
        last.join()
        assert last.exitcode == 0
        assert (resumed.value > 0) == (before > 0), "it began anew"
        assert contents(target) == expected
        copied = [json.loads(line) for line in journal.read_text().splitlines() if '"cursor"' in line]
        assert sum(line["rows"] for line in copied) == rows, "a page was recorded twice"
        assert vb.migrate(source, target, journal=journal).already_done
        with vb.connect(base) as store:
            store.drop(target.partition("#")[2])
