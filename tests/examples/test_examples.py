"""The examples run as they stand, and say the same on every store."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
STACK = EXAMPLES / "milvus_stack.sh"

pytestmark = pytest.mark.timeout(400)


def run(arguments: Sequence[str], directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=directory, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, check=False,
        capture_output=True, text=True, timeout=380,
    )  # fmt: skip


def printed(example: str, url: str, directory: Path) -> str:
    done = run([sys.executable, str(EXAMPLES / example), url], directory)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _needed() -> None:
    pytest.importorskip("onnxruntime")


def test_the_pipeline_runs_on_faiss(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    output = printed("pipeline.py", "faiss:./pictures", tmp_path)
    assert output.splitlines()[0] == "loaded 320 pictures, 0 rejected"
    assert "a red fruit: red apple" in output
    assert "reviewed 13 of 320" in output
    assert not (tmp_path / "rejected.jsonl").exists()


def test_the_pipeline_says_which_index_a_store_has_instead(tmp_path: Path) -> None:
    output = printed("pipeline.py", "memory://", tmp_path)
    assert output.startswith("instead of what was asked for: no hnsw")
    assert "reviewed 13 of 320" in output


@pytest.mark.parametrize(
    ("url", "package"),
    [("faiss:./store", "faiss"), ("milvus+lite:./store.db", "milvus_lite")],
    ids=["faiss", "milvus-lite"],
)
def test_one_line_prints_the_same_on_every_store(url: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    output = printed("one_line.py", url, tmp_path)
    assert output == printed("one_line.py", "memory://", tmp_path)
    assert len(output.splitlines()) == 3


def test_moderation_gives_verdicts_figures_and_a_calibration(tmp_path: Path) -> None:
    done = run([sys.executable, str(EXAMPLES / "moderation.py")], tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"verdicts: \{'allow': \d+, 'block': \d+, 'review': \d+\}", lines[0])
    assert [line for line in lines if line.startswith("  food: 75 pictures, average precision 0.")]
    assert "not calibrated: category 'weapons': 1 with it and 319 without it: at least 30" in done.stdout
    assert len((tmp_path / "verdicts.log").read_text("utf-8").splitlines()) == 1 + 320
    assert (tmp_path / "calibration.json").is_file()


def test_fair_retrieval_represents_groups_and_measures_recall(tmp_path: Path) -> None:
    output = printed("fair_retrieval.py", "memory://", tmp_path)
    assert "food-drink: target 50%, share" in output
    assert "NDKL" in output
    assert output.count(" queries") == 5


def test_the_readme_names_every_example_and_only_those() -> None:
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\| \[`([\w/.]+)`\]\(([\w/.]+)\)", readme, re.MULTILINE))
    assert all(text == target for text, target in named)
    there = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.[ps][yh]")}
    assert {text for text, _ in named} == there


# ------------------------------------------------------------------------------------- the Milvus stack


def test_what_the_stack_script_names_exists() -> None:
    script = STACK.read_text("utf-8")
    compose = yaml.safe_load((ROOT / "docker/milvus/compose.yaml").read_text("utf-8"))
    offered = set(re.findall(r"STACK_\w+", (ROOT / ".env.example").read_text("utf-8")))
    assert set(re.findall(r"STACK_\w+", script)) <= offered
    needed = set(re.findall(r"\$\{(STACK_\w+):\?", str(compose)))
    assert needed == set(re.findall(r'echo "(STACK_\w+)=', script))
    [port] = compose["services"]["milvus"]["ports"]
    published = re.search(r"\$\{STACK_MILVUS_PORT:-\d+\}", port)
    assert published
    assert published[0] in script
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"make (stack-\w+)", script)) <= set(targets)


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("openssl")), reason="needs make and openssl")
def test_the_stack_script_makes_passwords_starts_the_stack_and_runs_the_pipeline(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("Makefile", ".env.example", "examples", "docker"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, checkout / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {
        "docker": f'echo "$@" >>{tmp_path}/docker.log',
        "python": f'echo "$@" "$MILVUS_TOKEN" >{tmp_path}/python.log',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    clean = dict.fromkeys(("GPU", "ATTU", "MAKEFLAGS", "MAKEOVERRIDES"), "")
    for _ in range(2):  # the second time .env is there, and stays
        done = run([str(checkout / "examples" / "milvus_stack.sh")], tmp_path, PATH=path,
                   PYTHON=str(tools / "python"), **clean)  # fmt: skip
        assert done.returncode == 0, done.stderr
    environment = (checkout / ".env").read_text("utf-8")
    password = re.findall(r"^STACK_MILVUS_ROOT_PASSWORD=(\w{48})$", environment, re.MULTILINE)
    assert len(password) == 1
    assert (checkout / ".env").stat().st_mode & 0o077 == 0
    assert "up --detach --wait" in (tmp_path / "docker.log").read_text("utf-8")
    assert (tmp_path / "python.log").read_text("utf-8").split() == [
        "examples/pipeline.py", "milvus://127.0.0.1:19530", f"root:{password[0]}",
    ]  # fmt: skip


def test_a_collection_is_moved_twice_verified_and_kept_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    output = printed("migrate.py", "faiss:./moved", tmp_path)
    assert output.splitlines() == [
        "to copy: 5 rows; lost: []",
        "faiss:./shop#products -> snapshot:./exports#products: 5 copied, nothing lost: True",
        "snapshot:./exports#products -> faiss:./moved#products: 5 copied, nothing lost: True",
        "0 new, 1 changed, 1 deleted",
        "0 new, 0 changed, 0 deleted",
        "the same again: True",
    ]
