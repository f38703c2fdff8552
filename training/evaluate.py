"""Measure the shipped files as users load them: text to picture, on held-out styles and on the gallery."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPModel

from training import concepts as concepts_module
from training.augment import MEAN, STD
from training.concepts import Concepts
from training.model import IMAGE_SIZE, embed_pictures, embed_texts
from training.pictures import TEST, VALIDATION, Style
from training.tokenizer import encode, end_id
from training.workspace import Workspace

Vectors = NDArray[np.float32]
_CUTS = (1, 5, 10)
_CHUNK = 64
_FLAG_GROUP = 9
PHRASES = Path(__file__).with_name("phrases.json")


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run the shipped model."""

    name: str
    pictures: Callable[[Vectors], Vectors]
    texts: Callable[[list[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Album:
    """Candidate pictures: preprocessed pixels, and the concept of each."""

    name: str
    pixels: Vectors
    rows: list[int]


def runtimes(folder: Path) -> list[Runtime]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [_torch_runtime(folder, tokenizer), _onnx_runtime(folder, tokenizer)]


def _torch_runtime(folder: Path, tokenizer: Tokenizer) -> Runtime:
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()

    def pictures(pixels: Vectors) -> Vectors:
        with torch.no_grad():
            parts = [embed_pictures(model, part) for part in torch.from_numpy(pixels).split(_CHUNK)]
        return np.asarray(torch.cat(parts).numpy())

    def texts(captions: list[str]) -> Vectors:
        with torch.no_grad():
            return np.asarray(embed_texts(model, tokenizer, captions).numpy())

    return Runtime("torch fp32", pictures, texts)


def _onnx_runtime(folder: Path, tokenizer: Tokenizer) -> Runtime:
    vision = onnxruntime.InferenceSession(
        folder / "onnx" / "vision_model.onnx", providers=["CPUExecutionProvider"]
    )
    text = onnxruntime.InferenceSession(
        folder / "onnx" / "text_model.onnx", providers=["CPUExecutionProvider"]
    )

    def pictures(pixels: Vectors) -> Vectors:
        parts = [pixels[start : start + _CHUNK] for start in range(0, len(pixels), _CHUNK)]
        return np.concatenate([vision.run(None, {"pixel_values": part})[0] for part in parts])

    def texts(captions: list[str]) -> Vectors:
        parts = [captions[start : start + _CHUNK] for start in range(0, len(captions), _CHUNK)]
        return np.concatenate([text.run(None, padded(tokenizer, part))[0] for part in parts])

    return Runtime("onnx int8", pictures, texts)


def padded(tokenizer: Tokenizer, captions: list[str]) -> dict[str, NDArray[np.int64]]:
    """Token ids padded with END to the longest, and the mask."""
    rows = encode(tokenizer, captions)
    ids = np.full((len(rows), max(map(len, rows))), end_id(tokenizer), np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def preprocess(picture: Image.Image) -> Vectors:
    """What preprocessor_config.json says, with alpha composited on white: (3, 64, 64) float32."""
    rgba = picture.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    scale = IMAGE_SIZE / min(flat.size)
    width, height = (max(IMAGE_SIZE, int(side * scale)) for side in flat.size)
    flat = flat.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - IMAGE_SIZE) // 2, (height - IMAGE_SIZE) // 2
    cropped = flat.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE))
    values = (np.asarray(cropped, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def style_album(style: Style, work: Workspace) -> Album:
    saved = np.load(work.pictures / f"{style.name}.npz")
    pixels = np.stack([preprocess(Image.fromarray(picture)) for picture in saved["pictures"]])
    return Album(style.name, pixels, saved["concepts"].tolist())


def gallery_album(folder: Path, concepts: Concepts) -> Album:
    lines = [json.loads(line) for line in (folder / "gallery.jsonl").read_text("utf-8").splitlines()]
    number = {concept.code: row for row, concept in enumerate(concepts.rows)}
    pixels = np.stack([preprocess(Image.open(folder / line["file"])) for line in lines])
    return Album("gallery", pixels, [number[line["codepoint"]] for line in lines])


def recall(
    texts: Vectors, pictures: Vectors, rows: list[int], accepted: Sequence[set[int]]
) -> dict[str, float]:
    """Share of the queries, in per cent, with an accepted concept among the first 1, 5, 10 pictures."""
    ranked = np.argsort(-(texts @ pictures.T), axis=1)[:, : max(_CUTS)]
    hits = np.array([[rows[k] in fits for k in order] for order, fits in zip(ranked, accepted, strict=True)])
    return {f"R@{cut}": round(100 * float(hits[:, :cut].any(1).mean()), 1) for cut in _CUTS}


def measure(runtime: Runtime, album: Album, concepts: Concepts) -> dict[str, dict[str, float]]:
    """Labels as queries, every picture of the album as candidate."""
    pictures = runtime.pictures(album.pixels)
    everything = sorted(set(album.rows))
    drawings = [row for row in everything if concepts.rows[row].group != _FLAG_GROUP]
    figures = {}
    for language in ("en", "es"):
        for kind, queries in (("labels", everything), ("labels without flags", drawings)):
            spoken = [row for row in queries if language in concepts.rows[row].captions]
            texts = runtime.texts([concepts.rows[row].captions[language].label for row in spoken])
            if kind == "labels" or len(drawings) < len(everything):
                figures[f"{kind} {language}"] = recall(texts, pictures, album.rows, [{row} for row in spoken])
    return figures


def measure_phrases(runtime: Runtime, album: Album, concepts: Concepts) -> dict[str, dict[str, float]]:
    """Free phrases, written by hand, against the gallery; phrases.json says what is accepted."""
    phrases = json.loads(PHRASES.read_text("utf-8"))
    number = {concept.code: row for row, concept in enumerate(concepts.rows)}
    accepted = [{number[code] for code in phrase["codes"] if code in number} for phrase in phrases]
    pictures = runtime.pictures(album.pixels)
    return {
        f"phrases {language}": recall(
            runtime.texts([phrase[language] for phrase in phrases]), pictures, album.rows, accepted
        )
        for language in ("en", "es")
    }


def agreement(one: Runtime, other: Runtime, album: Album, captions: list[str]) -> dict[str, float]:
    """The smallest cosine between what two runtimes say of the same input."""
    seen = (one.pictures(album.pixels) * other.pictures(album.pixels)).sum(1).min()
    said = (one.texts(captions) * other.texts(captions)).sum(1).min()
    return {"pictures": round(float(seen), 4), "texts": round(float(said), 4)}


def evaluate(work: Workspace, folder: Path, *, test: bool) -> dict[str, Any]:
    """All figures of the model in `folder`. The test style is looked at only if asked, at the very end."""
    concepts = concepts_module.load(work.packages)
    gallery = gallery_album(folder / "gallery", concepts)
    albums = [style_album(style, work) for style in ((VALIDATION, TEST) if test else (VALIDATION,))]
    ways = runtimes(folder)
    captions = [
        concepts.rows[row].captions[language].label for row in gallery.rows for language in ("en", "es")
    ]
    return {
        "candidates": {album.name: len(album.rows) for album in (*albums, gallery)},
        "recall": {
            way.name: {
                **{album.name: measure(way, album, concepts) for album in (*albums, gallery)},
                "gallery, free phrases": measure_phrases(way, gallery, concepts),
            }
            for way in ways
        },
        "least cosine, onnx int8 to torch fp32": agreement(ways[0], ways[1], gallery, captions),
    }
