"""``embed export`` and ``embed bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vecbridge.embed.files import BUNDLED

Run = Callable[..., Any]  # the fixture of conftest.py


def test_bench_prints_what_runs_and_what_does_not(run: Run) -> None:
    ran = run("embed", "bench", "bundled", "--device", "cpu", "--pictures", "2", "--rounds", "1", "--json")
    assert ran.code == 0, ran.err
    lines = {(line["runtime"], line["dtype"]): line for line in ran.json["lines"]}
    best = lines["onnx", "float32"]
    assert best["options"] == "--runtime onnx --dtype float32"
    assert best["pictures_per_s"] > 0
    assert lines["onnx", "int8"]["pictures_per_s"] is None
    assert "--int8" in lines["onnx", "int8"]["problem"]


def test_bench_is_a_table_in_a_terminal_and_takes_a_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes((BUNDLED / "gallery" / "1f300.png").read_bytes())
    ran = run("embed", "bench", "--images", str(tmp_path), "--rounds", "1", "--device", "cpu")
    assert ran.code == 0, ran.err
    assert "pictures/s" in ran.out
    assert "--runtime onnx --dtype float32" in ran.out
    assert "onnx, int8: model 'bundled' has no graphs of int8" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bench", "--images", "./nowhere"), "nowhere"),
        (("bench", "./nowhere"), "nowhere"),
        (("bench", "--rounds", "0"), "rounds"),
        (("export", "bundled"), "DIR"),
        (("measure",), "measure"),
    ],
)
def test_bad_usage_is_status_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    ran = run("embed", *arguments)
    assert ran.code == 2
    assert words in ran.err


def test_export_leaves_a_directory_alone(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    ran = run("embed", "export", "bundled", str(tmp_path))
    assert ran.code == 2
    assert "exists" in ran.err
    assert list(tmp_path.iterdir()) == []
