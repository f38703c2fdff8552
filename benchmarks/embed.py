"""Embedding JPEG files by a ViT-B/32 of random weights, beside the loops that people write by hand.

    python benchmarks/embed.py                # needs the extra `export`; 640x480 pixels, on the CPU
    python benchmarks/embed.py --images 64 --rounds 3

Files are read, decoded, resized and embedded by each in turns. The plain loop of transformers and vecbridge
are in float32; sentence-transformers and open_clip take part where they are installed, each at its fastest
batch size. Prints a table and writes results/embed.json and a figure beside it. The exit code is 1 if a
target does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import embedding
from support.harness import Line, Samples, Target, in_turns, machine, paired, seconds
from support.models import jpegs, random_clip
from support.report import reported

from vecbridge.embed.base import StagedEmbedder
from vecbridge.embed.hardware import cpu_flags
from vecbridge.embed.torch_export import export

RESULTS = Path(__file__).parent / "results"
FLOAT32 = {"vecbridge on torch": ("torch", "float32"), "vecbridge on onnx": ("onnx", "float32")}
BF16 = {"avx512_bf16", "amx_bf16"}  # the instructions that make bfloat16 fast
INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}
LEAST_COSINE = 0.99
Rates = dict[str, Samples]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where JSON and figure go")
    return parser.parse_args()


def rates(runs: Mapping[str, Callable[[Sequence[Path]], Any]], files: list[Path], rounds: int) -> Rates:
    """Pictures a second, after one batch each to warm up."""
    for run in runs.values():
        run(files[: embedding.BATCH])
    actions = {name: partial(seconds, partial(run, files)) for name, run in runs.items()}
    return {
        name: Samples(tuple(len(files) / each for each in taken))
        for name, taken in in_turns(actions, rounds).items()
    }


def fastest(runs: Mapping[str, Callable[[Sequence[Path]], Any]], files: list[Path]) -> dict[str, float]:
    """Pictures a second of one try each."""
    found = {}
    for name, run in runs.items():
        run(files[: embedding.BATCH])
        found[name] = len(files) / seconds(partial(run, files))
    return found


def best_of_each(tried: Mapping[str, float]) -> list[str]:
    """Of each library the batch size at which it was fastest."""
    libraries = dict.fromkeys(name.partition(",")[0] for name in tried)
    return [
        max((name for name in tried if name.partition(",")[0] == library), key=lambda name: tried[name])
        for library in libraries
    ]


def float32(directory: Path, files: list[Path], rounds: int, details: dict[str, Any]) -> list[Line]:
    """Vecbridge beside the plain loop, and beside the best of the peers."""
    peers = embedding.peers(directory)
    tried = fastest(peers, files)
    chosen = best_of_each(tried)
    details["peers_pictures_per_s"] = tried
    models = {name: embedding.own(directory, *how) for name, how in FLOAT32.items()}
    runs = {embedding.PLAIN: embedding.plain(directory)} | {name: peers[name] for name in chosen}
    runs |= {name: model.embed_images for name, model in models.items()}
    found = rates(runs, files, rounds)
    for model in models.values():
        model.close()
    own = max(models, key=lambda name: found[name].median)
    peer = max(chosen, key=lambda name: found[name].median)
    against = "plain loop of transformers"
    lines = [
        _line("float32", f"the faster: {own}", found[own], found[embedding.PLAIN], against, 1.1),
        _line("float32", f"the faster: {own}", found[own], found[peer], f"best peer: {peer}", 0.95),
    ]
    others = [name for name in found if name not in (own, embedding.PLAIN)]
    return lines + [_line("float32", name, found[name], found[embedding.PLAIN], against) for name in others]


def smaller(directory: Path, files: list[Path], rounds: int, details: dict[str, Any]) -> list[Line]:
    """bfloat16 and int8 beside float32 of the same runtime; judged where the CPU has their instructions."""
    flags = cpu_flags()
    forms = (
        ("torch", "bfloat16", "float32", 5.0 if BF16 & flags else None),
        ("onnx", "int8", "float32", 2.0 if INT8 & flags else None),
    )
    lines = []
    for runtime, dtype, exact, least in forms:
        models = {name: embedding.own(directory, runtime, name) for name in (dtype, exact)}
        vectors = {name: model.embed_images(files) for name, model in models.items()}
        cosine = float((vectors[dtype] * vectors[exact]).sum(axis=1).min())
        details[f"cosine: {runtime}, {dtype}"] = cosine
        found = rates({name: model.embed_images for name, model in models.items()}, files, rounds)
        what = f"vecbridge on {runtime}, {dtype}, cosine {cosine:.4f}"
        lines.append(_line("smaller", what, found[dtype], found[exact], f"{exact} on {runtime}", least))
        for model in models.values():
            model.close()
    return lines


def from_files(directory: Path, place: Path, files: list[Path], rounds: int) -> list[Line]:
    """From files beside the model alone, in float32."""
    large = jpegs(place / "large", max(len(files) // 4, 2), (4000, 3000))
    lines = []
    for name, how in FLOAT32.items():
        with embedding.own(directory, *how) as model:
            assert isinstance(model, StagedEmbedder)
            prepared = {path: model.prepare(path) for path in [*files, *large]}
            runs = {"files": model.embed_images, "model": partial(_of_prepared, model, prepared)}
            small, big = rates(runs, files, rounds), rates(runs, large, rounds)
        for size, found, least in (("640x480", small, 0.9), ("12 megapixels", big, None)):
            what = f"{name}, files of {size}"
            lines.append(_line("from files", what, found["files"], found["model"], "model alone", least))
    return lines


def _of_prepared(model: StagedEmbedder, prepared: Mapping[Path, Any], files: Sequence[Path]) -> Any:
    return model.embed_prepared([prepared[path] for path in files])


def _line(
    section: str, what: str, own: Samples, other: Samples, against: str, least: float | None = None
) -> Line:
    target = None if least is None else Target("ratio", ">=", least)
    return paired(section, what, "pictures/s", own, other, against, target)


def cosines(directory: Path, files: list[Path]) -> dict[str, float]:
    """The smallest between vecbridge's vectors and those of the plain loop."""
    exact = embedding.plain(directory)(files)
    exact = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    found = {}
    for name, how in FLOAT32.items():
        with embedding.own(directory, *how) as model:
            found[name] = float((model.embed_images(files) * exact).sum(axis=1).min())
    return found


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    options = arguments()
    details: dict[str, Any] = {"load_average_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as place:
        directory = random_clip(Path(place) / "vit-b-32")
        files = jpegs(Path(place) / "small", options.images, (640, 480))
        export(str(directory), directory, int8=True)
        details["cosine to transformers"] = cosines(directory, files[:8])
        lines = float32(directory, files, options.rounds, details)
        lines += from_files(directory, Path(place), files, options.rounds)
        lines += smaller(directory, files[: len(files) // 3], min(options.rounds, 3), details)
    details["load_average_after"] = os.getloadavg()[0]
    title = "Embedding pictures beside plain loops of the same run"
    result = {
        "machine": machine("torch", "transformers", "onnxruntime", "pillow"),
        "parameters": {
            "images": options.images, "rounds": options.rounds, "batch": embedding.BATCH,
            "torch_threads": torch.get_num_threads(), "flags": sorted((BF16 | INT8) & cpu_flags()),
        },
        "details": details,
    }  # fmt: skip
    return reported(title, lines, result, options.out / "embed")


if __name__ == "__main__":
    sys.exit(main())
