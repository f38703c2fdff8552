"""What a picture costs in each stage, in core seconds: a model a stage, fitted to runs here, with its error.

python benchmarks/scale_model.py --pictures 100000000 --megapixels 2

Core seconds, not seconds: the processor time of this process, and of the server where there is one, so that
other work on the machine changes little. Each stage is measured at several sizes; the error is that of models
which were fitted without the point that they are asked for. The last point is the largest, so that its error
is that of an extrapolation. docs/scale.md says what the figures mean, and what they leave out.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table
from support import rates
from support.harness import machine

import vecbridge as vb
from vecbridge.embed.base import StagedEmbedder
from vecbridge.store import Collection

ROOT = Path(__file__).resolve().parents[1]
SIDES = (256, 512, 1_024, 1_536, 2_048)  # of square pictures, pixels
BATCHES = (16, 32, 64, 128, 256)  # pictures embedded
ROWS = (2_000, 4_000, 8_000, 16_000, 32_000)
GRAPH_ROWS = (2_000, 4_000, 8_000, 16_000, 32_000)
SEGMENT_BYTES = 512 << 20  # of vectors that a Milvus of default settings puts under one index


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, measured.

    Attributes:
        name: Of the stage.
        size: What the sizes count.
        terms: Of its model.
        sizes: At which it was measured.
        seconds: Core seconds at each, the median of the rounds.
    """

    name: str
    size: str
    terms: tuple[str, ...]
    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def fit(self) -> rates.Fit | rates.Power:
        """Fitted to all points."""
        return rates.model(self.terms, self.sizes, self.seconds)

    @property
    def errors(self) -> list[float]:
        """Relative, of each point by the model of the others."""
        return rates.held_out(self.terms, self.sizes, self.seconds)

    @property
    def error(self) -> float:
        """The largest of them."""
        return max(map(abs, self.errors))


def measured(
    name: str, size: str, terms: tuple[str, ...], sizes: Sequence[float], rounds: int,
    run: Callable[[Any], float],
) -> Stage:  # fmt: skip
    """Runs every size once a round, and takes the medians."""
    found: dict[float, list[float]] = {each: [] for each in sizes}
    run(sizes[0])  # warms up
    for _ in range(rounds):
        for each in sizes:
            found[each].append(run(each))
            print(f"{name} {each:g}: {found[each][-1]:.3f} core seconds", file=sys.stderr)
    return Stage(name, size, terms, tuple(sizes), tuple(statistics.median(found[each]) for each in sizes))


def core_seconds(action: Callable[[], object]) -> float:
    """Processor time of this process, all threads."""
    start = time.process_time()
    action()
    return time.process_time() - start


# ------------------------------------------------------------------------------------------- the stages


def photograph(side: int) -> bytes:
    """A JPEG with the detail of a photograph: noise of every scale."""
    random = np.random.default_rng(side)
    pixels = np.zeros((side, side, 3), np.float32)
    for scale in (4, 16, 64, side // 2):
        small = Image.fromarray(random.integers(0, 255, (side // scale + 1,) * 2 + (3,), np.uint8))
        pixels += np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 4
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def decoding(model: vb.Embedder, rounds: int) -> Stage:
    """Decoding and resizing one picture, by its megapixels."""
    assert isinstance(model, StagedEmbedder)
    pictures = {side**2 / 1e6: photograph(side) for side in SIDES}

    def run(megapixels: float) -> float:
        times = max(int(4 / megapixels), 3)
        prepare = model.prepare
        return core_seconds(lambda: [prepare(pictures[megapixels]) for _ in range(times)]) / times

    return measured("decode", "megapixels of a picture", ("1", "n"), sorted(pictures), rounds, run)


def embedding(model: vb.Embedder, rounds: int) -> Stage:
    """The model's forward passes, by the number of pictures."""
    assert isinstance(model, StagedEmbedder)
    pixels = model.prepare(photograph(256))

    def run(count: int) -> float:
        return core_seconds(lambda: model.embed_prepared([pixels] * count))

    return measured("embed", "pictures", ("1", "n"), BATCHES, rounds, run)


def batches(spec: vb.CollectionSpec, rows: int) -> Iterator[Any]:
    """Random vectors, unit length."""
    random = np.random.default_rng(rows)
    for start in range(0, rows, 2_000):
        vectors = random.standard_normal((min(2_000, rows - start), spec.vector.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = [f"{start + number:09}" for number in range(len(vectors))]
        yield vb.batch(spec, id=ids, vector=vectors)


@contextmanager
def milvus() -> Iterator[tuple[str, psutil.Process]]:
    """A genuine server, and its process."""
    sys.path.insert(0, str(ROOT))
    from tests.stores.milvus import server as milvus_server

    with milvus_server.own() as server:
        yield server.url, psutil.Process(server._server.server_proc.pid)


def upserting(dim: int, rounds: int) -> Stage:
    """Upserts into a genuine Milvus, client and server together, by the number of rows."""
    with milvus() as (url, process), vb.connect(url) as store:
        idle = _idle(process)

        def run(rows: int) -> float:
            spec = vb.CollectionSpec.single("scale", dim=dim)
            photos = store.create(spec, if_exists="replace")
            source = list(batches(spec, rows))
            start, server = time.monotonic(), sum(process.cpu_times()[:2])
            client = core_seconds(lambda: (vb.write(photos, source), photos.flush()))
            waited = time.monotonic() - start
            return client + sum(process.cpu_times()[:2]) - server - idle * waited

        return measured("upsert", "rows", ("1", "n"), ROWS, rounds, run)


def _idle(process: psutil.Process) -> float:
    """Cores that a server keeps busy with nothing to do."""
    before = sum(process.cpu_times()[:2])
    time.sleep(5)
    return (sum(process.cpu_times()[:2]) - before) / 5


def indexing(dim: int, rounds: int, work: Path) -> Stage:
    """Building an HNSW graph, by the rows that are under one graph."""

    def run(rows: int) -> float:
        spec = vb.CollectionSpec.single("scale", dim=dim, index=vb.HNSW(m=16, ef_construction=200))
        with vb.connect(f"faiss://{work / 'graph'}") as store:
            photos: Collection = store.create(spec, if_exists="replace")
            vb.write(photos, batches(spec, rows))
            return core_seconds(photos.wait_ready)

    return measured("index", "rows", rates.POWER, GRAPH_ROWS, rounds, run)


# ------------------------------------------------------------------------------------------- the result


def forecast(stages: Sequence[Stage], pictures: int, megapixels: float, dim: int) -> list[dict[str, Any]]:
    """Core hours of each stage, with the span of its error."""
    segment = SEGMENT_BYTES // (4 * dim)
    lines = []
    for stage in stages:
        fit = stage.fit
        seconds = {
            "decode": lambda fit=fit: pictures * fit.at(megapixels),
            "embed": lambda fit=fit: pictures / BATCHES[-1] * fit.at(BATCHES[-1]),
            "upsert": lambda fit=fit: pictures / ROWS[-1] * fit.at(ROWS[-1]),
            "index": lambda fit=fit: pictures / segment * fit.at(segment),
        }[stage.name]()
        hours = seconds / 3_600
        low, high = hours / (1 + stage.error), hours * (1 + stage.error)
        line = {"stage": stage.name, "core ms a picture": round(1e3 * seconds / pictures, 3)}
        spans = {"core hours": hours, "low": low, "high": high}
        lines.append(line | {name: float(f"{value:.3g}") for name, value in spans.items()})
    return lines


def described(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """The models and their errors, for people."""
    return [
        {
            "stage": stage.name, "n": stage.size, "core seconds": str(stage.fit),
            "held-out error, worst": f"{stage.error:.0%}", "of the largest": f"{stage.errors[-1]:+.0%}",
        }
        for stage in stages
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000_000)
    parser.add_argument("--megapixels", type=float, default=1.0, help="of a picture, on average")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=("decode", "embed", "upsert", "index"))
    options = parser.parse_args()
    wanted = options.only or ["decode", "embed", "upsert", "index"]
    stages = []
    with vb.embedder(options.model) as model, tempfile.TemporaryDirectory() as work:
        makers = {
            "decode": lambda: decoding(model, options.rounds),
            "embed": lambda: embedding(model, options.rounds),
            "upsert": lambda: upserting(options.dim, options.rounds),
            "index": lambda: indexing(options.dim, options.rounds, Path(work)),
        }
        stages = [makers[name]() for name in wanted]
    models = described(stages)
    expected = forecast(stages, options.pictures, options.megapixels, options.dim)
    shown = Console(width=None if sys.stdout.isatty() else 160)
    for title, lines in (("models", models), (f"{options.pictures:,} pictures", expected)):
        table = Table(*lines[0], title=title)
        for line in lines:
            table.add_row(*map(str, line.values()))
        shown.print(table)
    points = [
        {"stage": stage.name, "n": size, "core seconds": round(seconds, 4), "held-out error": round(error, 3)}
        for stage in stages
        for size, seconds, error in zip(stage.sizes, stage.seconds, stage.errors, strict=True)
    ]
    name = "scale_model" if options.only is None else "scale_model-" + "-".join(wanted)
    result = {
        "machine": machine("onnxruntime", "pymilvus"),
        "parameters": vars(options) | {"only": " ".join(wanted)},
        "models": models,
        "forecast": expected,
        "points": points,
    }
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
