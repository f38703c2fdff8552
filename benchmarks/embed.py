"""Embedding JPEG files by a ViT-B/32 with random weights, beside the loops that people write by hand.

Files of 640x480 are decoded, preprocessed and embedded in float32 on the CPU, by each contender in turn. It
needs the extra `export`; sentence-transformers and open_clip take part where installed. Prints a table
and writes results/embed.json and a figure beside it. The exit code is 1 if a target does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from rich.console import Console
from support import plots
from support.harness import Line, Samples, Target, machine, print_table

import vecbridge as vb
from vecbridge.embed.files import BUNDLED
from vecbridge.embed.torch_export import export

HERE = Path(__file__).parent
BATCH = 32
BF16 = {"avx512_bf16", "amx_bf16"}
Contender = Callable[[Sequence[Path]], np.ndarray]


def main() -> int:
    options = _arguments()
    with tempfile.TemporaryDirectory() as place:
        directory = _checkpoint(Path(place) / "vit-b-32")
        files = _pictures(Path(place), options.images, (640, 480))
        large = _pictures(Path(place), max(options.images // 8, 2), (4000, 3000))
        export(str(directory), directory)
        runners = _contenders(directory)
        wanted = runners["transformers"](files[:4])
        cosines = {
            name: _cosine(run(files[:4]), wanted) for name, run in runners.items() if name != "open_clip"
        }
        rates = _in_turns(runners, files, options.runs)
        ends = _end_to_end(directory, files, large, options.runs)
    lines = _lines(rates, ends)
    print_table("Embedding pictures beside plain loops of the same run", lines, Console(width=None))
    result = {
        "machine": machine("torch", "transformers", "onnxruntime", "pillow"),
        "parameters": {
            "images": options.images, "runs": options.runs, "batch": BATCH,
            "torch_threads": torch.get_num_threads(),
            "bf16_instructions": sorted(BF16 & _flags()), "load_average": os.getloadavg()[0],
        },
        "cosine_to_transformers": cosines,
        "lines": [line.to_dict() for line in lines],
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "embed.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    plots.draw(lines, options.out / "embed.png")
    return 0 if all(line.holds is not False for line in lines) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


def _checkpoint(directory: Path) -> Path:
    """A CLIP of the shape of ViT-B/32; the bundled tokenizer, since texts are not measured."""
    torch.manual_seed(0)
    config = transformers.CLIPConfig()
    config.text_config.eos_token_id = 5899
    transformers.CLIPModel(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((BUNDLED / name).read_bytes())
    values = json.loads((BUNDLED / "preprocessor_config.json").read_text("utf-8"))
    values |= {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    (directory / "preprocessor_config.json").write_text(json.dumps(values), "utf-8")
    return directory


def _pictures(place: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of smooth random colours: noise would be larger and slower to decode than photographs."""
    random = np.random.default_rng(size[0])
    found = []
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8))
        path = place / f"{size[0]}-{number}.jpg"
        small.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        found.append(path)
    return found


def _contenders(directory: Path) -> dict[str, Contender]:
    found: dict[str, Contender] = {
        "transformers": _plain_torch(directory),
        "onnxruntime": _plain_onnx(directory),
    }
    for name, make in (("sentence-transformers", _sentence_transformers), ("open_clip", _open_clip)):
        try:
            found[name] = make(directory)
        except ImportError as exc:
            print(f"{name} does not take part: {exc}", file=sys.stderr)
    ours = {
        "vecbridge torch": vb.embedder(directory, device="cpu", dtype="float32", runtime="torch"),
        "vecbridge onnx": vb.embedder(directory, device="cpu", runtime="onnx"),
    }
    return found | {name: model.embed_images for name, model in ours.items()}


def _processor(directory: Path) -> Any:
    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind.from_pretrained(directory)


def _opened(files: Sequence[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in files]


def _batches(files: Sequence[Path]) -> list[Sequence[Path]]:
    return [files[start : start + BATCH] for start in range(0, len(files), BATCH)]


def _plain_torch(directory: Path) -> Contender:
    model, processor = transformers.CLIPModel.from_pretrained(directory).eval(), _processor(directory)

    def run(files: Sequence[Path]) -> np.ndarray:
        parts = []
        for part in _batches(files):
            inputs = processor(_opened(part), return_tensors="pt")
            with torch.inference_mode():
                found = model.get_image_features(pixel_values=inputs["pixel_values"])
            parts.append(getattr(found, "pooler_output", found).numpy())
        return np.concatenate(parts)

    return run


def _plain_onnx(directory: Path) -> Contender:
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(
        str(directory / "onnx" / "vision_model.onnx"), providers=["CPUExecutionProvider"]
    )
    processor = _processor(directory)

    def run(files: Sequence[Path]) -> np.ndarray:
        parts = []
        for part in _batches(files):
            inputs = processor(_opened(part), return_tensors="np")
            parts.append(session.run(["image_embeds"], {"pixel_values": inputs["pixel_values"]})[0])
        return np.concatenate(parts)

    return run


def _sentence_transformers(directory: Path) -> Contender:
    package = importlib.import_module("sentence_transformers")
    model = package.SentenceTransformer(str(directory), device="cpu")
    return lambda files: model.encode(_opened(files), batch_size=BATCH, show_progress_bar=False)


def _open_clip(_: Path) -> Contender:
    """Its own random weights, of the same shape."""
    package = importlib.import_module("open_clip")
    model, _, preprocess = package.create_model_and_transforms("ViT-B-32")
    model.eval()

    def run(files: Sequence[Path]) -> np.ndarray:
        parts = []
        for part in _batches(files):
            with torch.inference_mode():
                parts.append(
                    model.encode_image(torch.stack([preprocess(each) for each in _opened(part)])).numpy()
                )
        return np.concatenate(parts)

    return run


def _cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


def _in_turns(runners: dict[str, Contender], files: list[Path], runs: int) -> dict[str, Samples]:
    """Pictures a second; one run of each warms up."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run(files[:BATCH])
    for number in range(runs):
        names = list(runners) if number % 2 == 0 else list(reversed(runners))
        for name in names:
            start = time.perf_counter()
            runners[name](files)
            times[name].append(len(files) / (time.perf_counter() - start))
    return {name: Samples(tuple(each)) for name, each in times.items()}


def _end_to_end(directory: Path, files: list[Path], large: list[Path], runs: int) -> dict[str, Samples]:
    """Vecbridge on torch: the forward pass alone, from files, and from files of 12 megapixels."""
    with vb.embedder(directory, device="cpu", dtype="float32", runtime="torch") as model:
        prepared = [model.prepare(path) for path in files]  # type: ignore[attr-defined]
        return _in_turns(
            {
                "forward": lambda part: model.embed_prepared(prepared[: len(part)]),  # type: ignore[attr-defined]
                "files": model.embed_images,
            },
            files,
            runs,
        ) | _in_turns({"12 megapixels": model.embed_images}, large, runs)


def _lines(rates: dict[str, Samples], ends: dict[str, Samples]) -> list[Line]:
    best = max((name for name in rates if name.startswith("vecbridge")), key=lambda name: rates[name].median)
    peers = [name for name in rates if not name.startswith("vecbridge") and name != "transformers"]
    best_peer = max(peers, key=lambda name: rates[name].median)
    lines = [
        _line(
            "best runtime",
            f"{best}, float32",
            rates[best],
            rates["transformers"],
            "plain transformers loop",
            1.1,
        ),
        _line(
            "best runtime", f"{best}, float32", rates[best], rates[best_peer], f"best peer: {best_peer}", 0.95
        ),
        _line("end to end", "from 640x480 files", ends["files"], ends["forward"], "forward pass alone", 0.9),
        _line(
            "end to end",
            "from 12-megapixel files",
            ends["12 megapixels"],
            ends["forward"],
            "forward pass alone",
        ),
    ]
    loop, against = rates["transformers"], "plain transformers loop"
    others = (name for name in rates if name != "transformers")
    return lines + [_line("all", name, rates[name], loop, against) for name in others]


def _line(
    section: str, what: str, ours: Samples, theirs: Samples, against: str, bound: float | None = None
) -> Line:
    target = None if bound is None else Target("ratio", ">=", bound)
    paired = statistics.median(a / b for a, b in zip(ours.values, theirs.values, strict=True))
    return Line(
        section, what, "pictures/s", ours.median, theirs.median, against, target, (ours, theirs), paired
    )


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


if __name__ == "__main__":
    sys.exit(main())
