"""Whether the stages of ``vb.ingest`` run at the same time: simulated ones, and those of the real gallery.

Efficiency is max(slowest stage alone, CPU seconds / cores) / elapsed: 1 where the whole takes as long as its
slowest stage, or as long as all cores need for its work.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import vecbridge as vb
from support.harness import Line, Target, in_turns
from support.pipelines import PipelineBench
from vecbridge.bulk import Progress
from vecbridge.embed.files import BUNDLED
from vecbridge.embed.items import ItemReader, Ready, build, embed
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource, PictureItem
from vecbridge.sources.texts import TextItem

SECONDS: Final = 0.01  # that the simulated stages take for a batch
BATCHES: Final = 200
ROWS: Final = 64
DIM: Final = 16


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took."""

    elapsed: float
    cpu: float


def overlap(bench: PipelineBench) -> list[Line]:
    """Simulated stages first, then the gallery."""
    return [_simulated(bench), _gallery(bench)]


def _timed(action: Callable[[], object]) -> Spent:
    cpu, start = time.process_time(), time.perf_counter()
    action()
    return Spent(time.perf_counter() - start, time.process_time() - cpu)


def _line(
    bench: PipelineBench, name: str, what: str, whole: str, turns: dict[str, list[Spent]], bound: float
) -> Line:
    """The efficiency: the median over the rounds, in each of which the stages and the whole took turns."""
    cores = os.cpu_count() or 1
    alone = {stage: spent for stage, spent in turns.items() if stage != whole}
    efficiencies = [
        max(*(spent[turn].elapsed for spent in alone.values()), run.cpu / cores) / run.elapsed
        for turn, run in enumerate(turns[whole])
    ]
    bench.details[name] = {
        "efficiencies": [round(each, 4) for each in efficiencies],
        "cpu_seconds_per_core": [round(run.cpu / cores, 4) for run in turns[whole]],
        "elapsed": {stage: [round(each.elapsed, 4) for each in spent] for stage, spent in turns.items()},
    }
    return Line("overlap", what, "", statistics.median(efficiencies), target=Target("figure", ">=", bound))


# ---------------------------------------------------------------------------------------- simulated


class SleepingEmbedder:
    """Takes 10 ms for a batch."""

    identity = vb.EmbedderIdentity("sleeping", "1", DIM, "none")
    dim = DIM
    note = ""

    def embed_texts(self, texts: Sequence[str]) -> Any:
        time.sleep(SECONDS)
        return np.ones((len(texts), DIM), np.float32)

    def embed_images(self, images: Sequence[Any]) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def __enter__(self) -> SleepingEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SleepingCollection:
    """Takes 10 ms for an upsert, one at a time, and keeps nothing."""

    def __init__(self, spec: vb.CollectionSpec) -> None:
        self._inner = vb.connect("memory://").create(spec)
        self.rows = 0

    def upsert(self, checked: Any, *, on_conflict: Any = "replace") -> vb.WriteReport:
        time.sleep(SECONDS)
        self.rows += checked.batch.num_rows
        return vb.WriteReport(written=checked.batch.num_rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _items() -> Iterator[TextItem]:
    for number in range(BATCHES * ROWS):
        yield TextItem(f"{number}", "/lines.txt", number + 1, "a line")


def _simulated(bench: PipelineBench) -> Line:
    embedder = SleepingEmbedder()
    spec = vb.CollectionSpec.single("sleeping", dim=DIM, embedder=embedder.identity, fields={"line": "int64"})

    def whole() -> None:
        collection: Any = SleepingCollection(spec)
        report = vb.ingest(_items(), embedder, collection, batch_rows=ROWS)
        if not report.written == collection.rows == BATCHES * ROWS:
            raise RuntimeError(f"{report.written} rows were written")

    def alone() -> None:
        for _ in range(BATCHES):
            embedder.embed_texts(["a line"] * ROWS)

    whole()  # what is imported when it is first used
    turns = in_turns({"embed": lambda: _timed(alone), "whole": lambda: _timed(whole)}, bench.rounds)
    what = f"efficiency, {BATCHES} batches of 10 ms in the embedder and 10 ms in the store"
    return _line(bench, "simulated", what, "whole", turns, 0.9)


# ------------------------------------------------------------------------------------------ gallery


def _gallery(bench: PipelineBench) -> Line:
    """The pictures that ship, several times over, into FAISS: each stage alone, and the whole."""
    folder = bench.work / "gallery"
    for copy in range(bench.copies):
        shutil.copytree(BUNDLED / "gallery", folder / str(copy))
    source = ImageSource(folder)
    items = [item for item in source if isinstance(item, PictureItem)]
    with vb.embedder("bundled") as model:
        spec = vb.CollectionSpec.single(
            "photos", dim=model.dim, fields=source.fields(), embedder=model.identity, index=vb.Flat()
        )
        reader, last = ItemReader(model, spec), Progress()
        ready: list[Ready] = []

        def read() -> None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = [outcome.result for outcome in pool.map(reader, items)]
            ready[:] = [each for each in found if isinstance(each, Ready)]

        def parts() -> Iterator[list[Ready]]:
            return (ready[start : start + ROWS] for start in range(0, len(ready), ROWS))

        def compute() -> None:
            for part in parts():
                embed(part, model)

        def store() -> None:
            vectors = np.eye(1, model.dim, dtype=np.float32).repeat(ROWS, axis=0)
            batches = (
                batch
                for part in parts()
                for batch, _ in build(part, vectors[: len(part)], spec, model.identity, _no_bad_row)
            )
            with new_collection(bench, spec) as photos:
                vb.write(photos, batches)

        def whole() -> None:
            nonlocal last

            def progress(state: Progress) -> None:
                nonlocal last
                last = state

            with new_collection(bench, spec) as photos:
                report = vb.ingest(source, model, photos, batch_rows=ROWS, progress=progress)
                if report.written != len(items):
                    raise RuntimeError(f"{report.written} of {len(items)} pictures were written")

        read()
        actions = {"read": read, "embed": compute, "store": store, "whole": whole}
        for warm in actions.values():
            warm()
        turns = in_turns({name: _bound(action) for name, action in actions.items()}, bench.rounds)
    bench.details["gallery_stages"] = {name: round(share, 3) for name, share in last.stages.items()}
    what = f"efficiency, {len(items)} pictures of the gallery, bundled model, into FAISS"
    return _line(bench, "gallery", what, "whole", turns, 0.85)


@contextmanager
def new_collection(bench: PipelineBench, spec: vb.CollectionSpec) -> Iterator[vb.Collection]:
    """A collection of FAISS in a directory of its own."""
    with vb.connect(f"faiss:{bench.work / uuid.uuid4().hex}") as store, store.create(spec) as collection:
        yield collection


def _bound(action: Callable[[], None]) -> Callable[[], Spent]:
    return lambda: _timed(action)


def _no_bad_row(row: int, letter: DeadLetter) -> None:
    raise RuntimeError(f"row {row}: {letter.error}")
