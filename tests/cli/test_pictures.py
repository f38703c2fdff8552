"""Odd pictures on the command line: limits, damaged metadata, and fields from a CSV file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

Run = Callable[..., Any]  # the fixture of conftest.py
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def picture(folder: Path, name: str, **options: object) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(NOISE).save(folder / name, **options)
    return folder / name


def test_max_pixels_refuses_and_says_how_to_raise_it(run: Run, tmp_path: Path) -> None:
    path = picture(tmp_path / "p", "a.png")
    assert run("index", "p", "--store", "faiss:./s#c", "--max-pixels", 2399).code == 1
    [letter] = map(json.loads, Path("vecbridge-dead-letters.jsonl").read_text().splitlines())
    assert letter["error"].startswith("60x40 is more than 2399 pixels")
    assert "--max-pixels" in letter["error"]
    ran = run("index", "p", "--store", "faiss:./s#c", "--max-pixels", 2400, "--json")
    assert (ran.code, ran.json["written"]) == (0, 1)
    ran = run("search", "--image", path, "--store", "faiss:./s#c", "--max-pixels", 2399)
    assert ran.code == 1
    assert "60x40 is more than 2399 pixels" in ran.err
    assert run("search", "--image", path, "--store", "faiss:./s#c", "--json").json["hits"][0]["id"] == "a.png"
    assert run("index", "p", "--store", "faiss:./s#c", "--max-pixels", 0).code == 2


def test_damaged_metadata_is_neither_an_error_nor_a_warning_of_pillow_s(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "x" * 3_000_000, zip=True)
    picture(folder, "text.png", pnginfo=text)
    picture(folder, "exif.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    picture(folder, "plain.png")
    ran = run("index", "p", "--store", "faiss:./s#c", "--json")
    assert (ran.code, ran.json["written"]) == (0, 3)
    assert "EXIF" not in ran.err
    assert "Warning" not in ran.err


def test_fields_come_from_metadata_csv(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "p", "a.png")
    picture(tmp_path / "p", "b.png")
    (tmp_path / "p" / "metadata.csv").write_text("file_name,title,year\na.png,A,2020\nb.png,,2021\n")
    assert run("index", "p", "--store", "faiss:./s#c").code == 0
    found = run("search", "x", "--store", "faiss:./s#c", "--where", "year = 2021", "--json").json["hits"]
    assert [(hit["id"], hit["record"]["title"], hit["record"]["year"]) for hit in found] == [
        ("b.png", None, 2021)
    ]
