"""The bundled model, read as files: what ships is whole, small, consistent, and finds what it should."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbridge.embed.factory import embedder

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "vecbridge" / "embed" / "bundled"
GALLERY = BUNDLED / "gallery"
MIB = 1 << 20
# figures.json says 100 for both; the margin is for another CPU's int8 kernels.
FLOOR = {"name": 97.0, "name_es": 97.0}


@cache
def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]


@cache
def pixels() -> np.ndarray:
    """The gallery as preprocessor_config.json describes it, on white."""
    image = pytest.importorskip("PIL.Image")
    config = json.loads((BUNDLED / "preprocessor_config.json").read_text("utf-8"))
    side = config["size"]["shortest_edge"]

    def prepared(file: Path) -> np.ndarray:
        picture = image.open(file).convert("RGBA")
        flat = image.alpha_composite(image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        values = np.asarray(flat.resize((side, side), config["resample"]), np.float32)
        values = values * np.float32(config["rescale_factor"]) - np.float32(config["image_mean"])
        return (values / np.float32(config["image_std"])).transpose(2, 0, 1)

    return np.stack([prepared(GALLERY / line["file"]) for line in lines()])


@cache
def token_rows(key: str) -> list[list[int]]:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    return [row.ids for row in tokenizer.encode_batch([line[key] for line in lines()])]


def padded(rows: list[list[int]]) -> dict[str, np.ndarray]:
    ids = np.full((len(rows), max(map(len, rows))), rows[0][-1], np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def run_onnx(name: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(BUNDLED / "onnx" / name, providers=["CPUExecutionProvider"])
    [found] = session.run(None, feeds)
    return found


@cache
def onnx_pictures() -> np.ndarray:
    return run_onnx("vision_model.onnx", {"pixel_values": pixels()})


@cache
def onnx_texts(key: str) -> np.ndarray:
    return run_onnx("text_model.onnx", padded(token_rows(key)))


@cache
def torch_model() -> Any:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    return transformers.CLIPModel.from_pretrained(BUNDLED, dtype=torch.float32).eval()


def unit(features: Any) -> np.ndarray:
    """transformers 4 returns a tensor, 5 an object that holds one."""
    found = getattr(features, "pooler_output", features).detach().numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def first_ten(key: str) -> np.ndarray:
    return np.argsort(-(onnx_texts(key) @ onnx_pictures().T), axis=1)[:, :10]


def test_the_weights_stay_within_24_mb() -> None:
    weights = [BUNDLED / "model.safetensors", *sorted((BUNDLED / "onnx").iterdir())]
    assert [file.name for file in weights] == ["model.safetensors", "text_model.onnx", "vision_model.onnx"]
    assert sum(file.stat().st_size for file in weights) <= 24 * MIB


def test_no_file_names_the_machine_that_made_it() -> None:
    suspicious = re.compile(rb'_name_or_path|site-packages|/home/|/root/|/tmp/|File "')
    for file in BUNDLED.rglob("*"):
        if file.is_file() and file.suffix != ".png":
            assert suspicious.search(file.read_bytes()) is None, file


def test_every_gallery_line_has_a_picture_and_every_picture_a_line() -> None:
    image = pytest.importorskip("PIL.Image")
    assert len(lines()) >= 300
    assert {line["file"] for line in lines()} == {file.name for file in GALLERY.glob("*.png")}
    for line in lines():
        with image.open(GALLERY / line["file"]) as picture:
            picture.load()
            assert picture.size == (128, 128), line["file"]


def test_gallery_lines_have_the_fields_that_the_demo_filters_on() -> None:
    for line in lines():
        assert line["name"]
        assert line["name_es"]
        assert 2010 <= line["year"] <= 2025
        assert all(isinstance(word, str) for word in [*line["keywords"], *line["keywords_es"]])
    groups = {line["group"] for line in lines()}
    assert groups == {"animals-nature", "food-drink", "travel-places", "activities", "objects"}
    assert {"sunrise over mountains", "sunset", "dog", "cat", "pizza"} <= {line["name"] for line in lines()}


def test_the_gallery_stays_small() -> None:
    assert sum(file.stat().st_size for file in GALLERY.iterdir()) <= 3 * MIB


def test_onnx_embeddings_are_unit_float32_rows() -> None:
    for found in (onnx_pictures(), onnx_texts("name")):
        assert found.dtype == np.float32
        assert found.shape == (len(lines()), 256)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_onnx_padding_does_not_change_a_text() -> None:
    rows = token_rows("name")[:8]
    longer = padded([*rows, rows[0][:-1] * 8 + rows[0][-1:]])
    np.testing.assert_array_less(
        0.99, (run_onnx("text_model.onnx", longer)[:8] * run_onnx("text_model.onnx", padded(rows))).sum(1)
    )


def test_onnx_agrees_with_torch_on_the_gallery_pictures() -> None:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        expected = unit(torch_model().get_image_features(pixel_values=torch.from_numpy(pixels())))
    assert (onnx_pictures() * expected).sum(1).min() >= 0.99


@pytest.mark.parametrize("key", ["name", "name_es"])
def test_onnx_agrees_with_torch_on_the_gallery_names(key: str) -> None:
    torch = pytest.importorskip("torch")
    feeds = {name: torch.from_numpy(values) for name, values in padded(token_rows(key)).items()}
    with torch.no_grad():
        expected = unit(torch_model().get_text_features(**feeds))
    assert (onnx_texts(key) * expected).sum(1).min() >= 0.99


@pytest.mark.parametrize("key", ["name", "name_es"])
def test_names_find_their_gallery_pictures(key: str) -> None:
    found = first_ten(key)
    recall = 100 * (found == np.arange(len(found))[:, None]).any(1).mean()
    assert recall >= FLOOR[key]


@pytest.mark.parametrize("text", ["sunset over the mountains", "atardecer sobre montañas"])
def test_a_sunset_over_mountains_finds_the_sun_low_in_the_sky(text: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    [query] = run_onnx("text_model.onnx", padded([tokenizer.encode(text).ids]))
    best = [lines()[k]["name"] for k in np.argsort(-(onnx_pictures() @ query))[:5]]
    assert {"sunrise over mountains", "sunset", "cityscape at dusk", "sunrise"} & set(best), best


def test_tokenizer_json_agrees_with_the_tokenizer_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    alone = tokenizers.Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    odd = ["", "Un atardecer  sobre\nmontañas", "A DOG'S life", "日本 🐶 ñandú", "x" * 50, "it's 3:30 — no?"]
    texts = [*odd, *(line["name"] for line in lines()), *(line["name_es"] for line in lines())]
    for kind in (transformers.CLIPTokenizerFast, transformers.AutoTokenizer):
        theirs = kind.from_pretrained(BUNDLED)
        assert theirs(texts)["input_ids"] == [row.ids for row in alone.encode_batch(texts)]


def test_figures_are_those_of_the_shipped_files() -> None:
    figures = json.loads((BUNDLED / "figures.json").read_text("utf-8"))
    for language, key in (("en", "name"), ("es", "name_es")):
        found = first_ten(key)
        recall = 100 * (found == np.arange(len(found))[:, None]).any(1).mean()
        said = figures["recall"]["onnx int8"]["gallery"][f"labels {language}"]["R@10"]
        assert recall == pytest.approx(said, abs=1.0)


def test_the_onnx_vector_of_a_text_does_not_depend_on_what_else_is_in_its_batch() -> None:
    texts = [
        "a red heart",
        "",
        *(f"number {n} of some texts that are longer than the others" for n in range(40)),
    ]
    with embedder("bundled", runtime="onnx") as clip:
        together = clip.embed_texts(texts)
        alone = np.concatenate([clip.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
