"""The examples of what is built on stores and embedders run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _needed() -> None:
    pytest.importorskip("onnxruntime")


def printed(directory: Path, example: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), *arguments], cwd=directory, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_cross_modal_finds_by_text_by_picture_and_by_both(tmp_path: Path) -> None:
    lines = dict(line.split(": ", 1) for line in printed(tmp_path, "cross_modal.py"))
    assert lines["text to picture"].startswith("dog")
    assert lines["picture to picture"].split(", ")[0] == lines["picture to text"].split(", ")[0] == "house"
    assert "red apple" not in lines["like a stored record"], "the record itself is left out"
    assert lines["this picture, but in snow"].startswith("house, ")
    assert lines["this picture, but in snow"] != lines["picture to picture"]
    for fusion in ("weighted", "rrf"):
        assert re.fullmatch(r"red apple \(picture 0\.\d\d, caption 0\.9\d\)", lines[fusion]), lines[fusion]


def test_zero_shot_sorts_and_says_what_none_of_these_costs(tmp_path: Path) -> None:
    lines = dict(line.split(": ", 1) for line in printed(tmp_path, "zero_shot.py"))
    assert lines["a pizza"].startswith("food 0.")
    assert lines["in Spanish"] == "pizza"
    assert all(re.fullmatch(r"\d+\.\d % \(.* %, n=80\)", lines[name]) for name in (
        "right", "false reject", "false accept",
    ))  # fmt: skip
