"""The documentation keeps its promises: its examples run, its links lead somewhere, its table is current."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from vecbridge.cli.main import app, main

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
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


BLOCKS = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVER = "# needs a server"  # how the first line of a block begins whose commands cannot be run here
USAGE_ERROR = typer.BadParameter.__bases__[0]  # of the click that typer brings along
COMMENT = re.compile(r"\s+# .*$")
# What the commands of the pages expect to find.
FILES = f"""{PICTURES}
import json
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
folder = Path("home/Pictures")
(folder / "more").mkdir(parents=True)
for number, name in enumerate(("beach.jpg", "sunset.png", "more/car.jpg")):
    Image.new("RGB", (96, 64), (200, 60 * number, 40)).save(folder / name)
lines = [{{"file_name": "beach.jpg", "year": 2021}}, {{"file_name": "sunset.png", "year": 1999}}]
(folder / "metadata.jsonl").write_text("".join(json.dumps(line) + chr(10) for line in lines))
Image.new("RGB", (96, 64), (200, 0, 40)).save("car.jpg")
pq.write_table(pa.table({{"id": ["a", "b"], "vector": [[1.0, 0.0], [0.0, 1.0]]}}), "vectors.parquet")
"""


def blocks(page: Path) -> list[tuple[str, list[str]]]:
    """The fenced blocks of a page: language, lines."""
    return [(language, text.splitlines()) for language, text in BLOCKS.findall(page.read_text("utf-8"))]


def commands(page: Path) -> list[str]:
    """The lines of all shell blocks, whether they need a server or not, without comments."""
    lines = [line for language, block in blocks(page) if language == "sh" for line in block]
    return [COMMENT.sub("", line) for line in lines if line and not line.startswith("#")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a home with pictures, where no setting of the machine reaches."""
    for name in [name for name in os.environ if name.startswith(("VECBRIDGE_", "XDG_", "COLUMNS"))]:
        monkeypatch.delenv(name)
    program = tmp_path / "bin" / "vecbridge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vecbridge "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    finish(sys.executable, "-c", FILES)
    return tmp_path


def finish(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (command[-1], done.stderr)


def run_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs a command: in this process, where the imports are paid once, or in a shell where it needs one."""
    if re.search(r"[|>$*]", line):
        finish("bash", "-euo", "pipefail", "-c", line)
        return
    name, *arguments = shlex.split(line)
    assert name == "vecbridge", line
    with pytest.raises(SystemExit) as ended:
        main([str(Path(each).expanduser()) if each.startswith("~") else each for each in arguments])
    assert ended.value.code in (0, None), (line, capsys.readouterr().err)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_the_commands_of_a_page_run_line_by_line_after_the_examples_before_them(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("onnxruntime")
    runnable = [
        (language, lines)
        for language, lines in blocks(page)
        if language == "python" or (language == "sh" and not lines[0].startswith(SERVER))
    ]
    last = max((number for number, (language, _) in enumerate(runnable) if language == "sh"), default=-1)
    for language, lines in runnable[: last + 1]:
        if language == "python":
            finish(sys.executable, "-c", "\n".join(lines))
            continue
        for line in lines:
            if line.startswith("pip "):  # installing takes minutes
                assert extras_of(line) <= EXTRAS, line
            else:
                run_line(line, capsys)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_every_command_of_a_page_has_options_and_arguments_that_exist(page: Path) -> None:
    for line in commands(page):
        if not line.startswith("pip "):
            parse(line)


@pytest.mark.parametrize("line", ["vecbridge serch x", "vecbridge list --no-such", "vecbridge plan", "ls"])
def test_a_command_that_does_not_exist_would_be_noticed(line: str) -> None:
    with pytest.raises((USAGE_ERROR, AssertionError)):
        parse(line)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_stands_in_a_block_that_is_checked(page: Path) -> None:
    unchecked = [line for language, lines in blocks(page) if language != "sh" for line in lines]
    assert [line for line in unchecked if line.startswith("vecbridge ")] == []


@pytest.mark.parametrize("suffix", [".md", ".py", ".toml"])
def test_nothing_says_to_install_from_a_package_index_what_is_not_there(suffix: str) -> None:
    folders = [ROOT / name for name in ("docs", "examples", "tests", "vecbridge", "benchmarks")]
    files = [*ROOT.glob(f"*{suffix}"), *(path for folder in folders for path in folder.rglob(f"*{suffix}"))]
    assert files
    install = re.compile("pip install[^\n`]*" + "vecbridge")
    lines = [line for path in files for line in path.read_text("utf-8").splitlines()]
    assert [line for line in lines if install.search(line.replace("checkout of vecbridge", ""))] == []
    said = [line for line in lines if re.search(r"pip install '\.\[\w", line)]
    assert [line for line in said if not extras_of(line) <= EXTRAS] == []


def extras_of(line: str) -> set[str]:
    """The extras that a line of pip installs from a folder."""
    found = re.search(r"\.\[([\w,-]+)\]", line.replace("\\", ""))
    assert found, line
    return set(found[1].split(","))


def parse(line: str) -> None:
    """Parses a command of vecbridge as far as it can be without running it.

    Raises:
        UsageError: No such command, option or argument.
    """
    name, *arguments = shlex.split(line.partition(" > ")[0].partition(" | ")[0])
    assert name == "vecbridge", line
    group: Any = typer.main.get_command(app)
    with group.context_class(group, info_name="vecbridge") as context:
        name, command, rest = group.resolve_command(context, arguments)
        command.make_context(name, rest, parent=context)


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
