"""The documentation keeps its promises: its examples run, its links lead somewhere, its table is current."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(<!-- not run -->\n)?```python\n(.*?)```", re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
# Two pictures for the examples, made here so that they need no file of ours.
PICTURES = """
from PIL import Image
Image.new("RGB", (96, 64), (80, 160, 220)).save("beach.jpg")
Image.new("RGB", (96, 64), (30, 90, 40)).save("forest.jpg")
"""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def examples(page: Path) -> list[str]:
    return [code for skip, code in BLOCK.findall(page.read_text("utf-8")) if not skip]


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=name_of)
def test_the_examples_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("onnxruntime")
    code = PICTURES + "\n".join(examples(page))
    # FAISS's extension crashes when importing it warns and warnings are errors, as with SWIG's types.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *warnings, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


COMMANDS = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```sh\n" in page.read_text("utf-8")], ids=name_of
)
def test_the_commands_of_a_page_run_line_by_line_after_the_examples_before_them(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    blocks = COMMANDS.findall(page.read_text("utf-8"))
    last = max(number for number, (language, _) in enumerate(blocks) if language == "sh")
    for language, text in blocks[: last + 1]:
        lines = text.splitlines() if language == "sh" else [text]
        for line in lines:
            command = [sys.executable, "-c", line]
            if language == "sh":
                name, *arguments = shlex.split(line)
                assert name == "vecbridge"
                command = [sys.executable, "-m", "vecbridge", *arguments]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, (line, done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tests_and_scripts_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"\b(?:tests|benchmarks|docs|docker)/[\w/.-]*\w", page.read_text("utf-8"))
    assert [
        path for path in named if not any((folder / path).exists() for folder in (ROOT, page.parent))
    ] == []


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def generator(name: str) -> Any:
    """A script that writes a page."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_tables_are_what_the_code_says() -> None:
    module = generator("generate_matrix")
    for name, page in (
        ("support-matrix.md", module.page()),
        ("migration-matrix.md", module.migration_page()),
    ):
        written = (ROOT / "docs" / name).read_text("utf-8")
        assert page == written, "run: python docs/generate_matrix.py"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_the_page_of_odd_files_is_what_the_code_does() -> None:
    """Its second part lists files of packages that need not be installed."""
    module = generator("generate_odd_files")
    written = module.PAGE.read_text("utf-8").partition(module.PACKAGES)[0]
    assert module.page() == written, "run: python docs/generate_odd_files.py"


def test_the_page_of_figures_is_what_the_results_say() -> None:
    written = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert generator("generate_performance").page() == written, "run: python docs/generate_performance.py"


def test_the_page_of_figures_names_what_failed_and_where_vecbridge_is_slower(tmp_path: Path) -> None:
    ratio = {"of": "ratio", "sense": ">=", "bound": 2}
    common = {"section": "write", "unit": "rows/s", "figure": 50.0, "baseline": 100.0, "ratio": 0.5}
    lines = [
        common | {"what": "first", "against": "a client", "target": ratio, "holds": False},
        common | {"what": "second", "against": "a client", "target": None, "holds": None},
        common | {"what": "third", "against": "a client", "target": None, "holds": None, "withdrawn": "easy"},
        common | {"what": "fourth", "against": "", "ratio": None, "target": None, "holds": None},
    ]
    machine = {"date": "2026-01-02", "cpu": "a CPU", "cores": 2, "system": "Linux", "faiss-cpu": "1.2.3"}
    (tmp_path / "faiss_store.json").write_text(json.dumps({"machine": machine, "lines": lines}), "utf-8")
    cells = {"cells": [{"share": 0.5, "recall": 0.97}, {"share": 0.1, "recall": 1.0}]}
    (tmp_path / "recall-faiss.json").write_text(json.dumps(cells), "utf-8")
    page = generator("generate_performance").page(tmp_path)
    failed, slower = page.index("## Targets that did not hold"), page.index("## Slower than the baseline")
    assert "Of 1 targets, 0 held." in page
    assert failed < page.index("- first, beside a client: 50 rows/s, 0.50 of the baseline") < slower
    assert slower < page.index("- second, beside a client") < page.index("## FAISS")
    assert "Measured on 2026-01-02, a CPU, 2 cores, Linux. Versions: faiss-cpu 1.2.3." in page
    figures = "<br>beside a client | 50 rows/s | 100 rows/s | 0.50 slower"
    assert f"| write: first{figures} | at least 2 of the baseline: **did not hold** |" in page
    assert f"| write: third{figures} | withdrawn: easy |" in page
    assert "| share | recall |\n| --- | --- |\n| 0.5 | 0.97 |" in page
    assert "No date was recorded." in page
