"""The package as others get it: what the wheel holds, what it depends on, what its files promise."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import hatchling.build
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vecbridge.settings import Settings, read_settings, variable_name
from vecbridge.stores.milvus import driver as milvus
from vecbridge.stores.pinecone import options as pinecone
from vecbridge.stores.weaviate import options as weaviate

# Where the import name is not the distribution's.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "grpc": "grpcio",
    "opentelemetry": "opentelemetry-api",
    "weaviate": "weaviate-client",
    "yaml": "pyyaml",
}
# Distributions that are installed for what they do, not to be imported by name.
NOT_IMPORTED = {"faiss-gpu-cu12", "weaviate-client", "pinecone", "tzdata"}  # pyarrow asks zoneinfo for UTC


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


def requirements(project: dict[str, Any], *extras: str) -> set[str]:
    """Names of the distributions that the base (no extras given) or the extras ask for."""
    lines = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return {
        canonicalize_name(Requirement(line).name) for line in (lines if extras else project["dependencies"])
    }


def imported_distributions(package: Path) -> set[str]:
    """What the package imports, anywhere in it, besides the standard library and itself."""
    names: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    foreign = names - set(sys.stdlib_module_names) - {"vecbridge"}
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in foreign}


def closure(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """Every distribution that installing `name[extras]` brings along on this machine."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    yield name
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return  # wanted by a marker of another platform
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield from closure(canonicalize_name(requirement.name), frozenset(requirement.extras), seen)


def test_the_demo_installs_no_torch(root: Path) -> None:
    found = re.search(r"^EXTRAS_demo := (.+)$", (root / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert found
    installed = set(closure("vecbridge", frozenset(found[1].split(",")), set()))
    assert {"faiss-cpu", "onnxruntime", "numpy"} <= installed
    assert installed & {"torch", "transformers", "scipy", "pandas"} == set()


def test_every_import_is_a_declared_dependency(root: Path, project: dict[str, Any]) -> None:
    extras = [name for name in project["optional-dependencies"] if name not in ("all", "docs", "bench")]
    declared = requirements(project) | requirements(project, *extras)
    assert imported_distributions(root / "vecbridge") - declared == set()


def test_every_dependency_is_imported(root: Path, project: dict[str, Any]) -> None:
    declared = requirements(project) | requirements(project, "faiss", "milvus", "onnx", "clip")
    assert declared - NOT_IMPORTED - imported_distributions(root / "vecbridge") == set()


def test_all_is_every_extra_for_users_but_the_gpu_build(project: dict[str, Any]) -> None:
    [line] = project["optional-dependencies"]["all"]
    not_for_users = {"all", "testing", "dev", "docs", "bench", "mutation", "faiss-gpu", "ray"}
    for_users = set(project["optional-dependencies"]) - not_for_users
    assert Requirement(line).extras == for_users


def test_the_wheel_holds_the_whole_package(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with zipfile.ZipFile(tmp_path / hatchling.build.build_wheel(str(tmp_path))) as wheel:
        held = set(wheel.namelist())
        entry_points = wheel.read(next(name for name in held if name.endswith("/entry_points.txt")))
    on_disk = {
        path.relative_to(root).as_posix()
        for path in (root / "vecbridge").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in held if not name.partition("/")[0].endswith(".dist-info")} == on_disk
    assert {"vecbridge/py.typed", "vecbridge/pages/templates/style.css"} <= held
    assert any(name.endswith("/licenses/LICENSE") for name in held)
    assert b"vecbridge = vecbridge.cli.main:main" in entry_points


def test_env_example_names_every_setting_and_nothing_else(root: Path) -> None:
    text = (root / ".env.example").read_text("utf-8")
    named = re.findall(r"^# ([A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    settings = [variable_name(name) for name in Settings.model_fields]
    stack = {
        variable
        for path in (root / "docker").rglob("*.yaml")
        for variable in re.findall(r"\$\{?([A-Z][A-Z0-9_]*)(?=[}:])", path.read_text("utf-8"))
    }
    keys = [
        f"{environment.model_config['env_prefix']}{name.upper()}"
        for environment in (pinecone.Environment, milvus.Environment, weaviate.Environment)
        for name in environment.model_fields
    ]
    assert sorted(named) == sorted([*settings, *keys, *stack])
    assert all(line.startswith("#") for line in text.splitlines() if line)


def test_env_example_is_a_valid_env_file_once_uncommented(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / ".env.example").read_text("utf-8")
    (tmp_path / ".env").write_text(re.sub(r"^# (?=[A-Z][A-Z0-9_]*=)", "", text, flags=re.MULTILINE), "utf-8")
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_name(name), raising=False)
    assert read_settings().store == "faiss:./vectors#photos"
    monkeypatch.setenv("VECBRIDGE_STORE", "memory://#photos")
    assert read_settings().store == "memory://#photos"


def test_every_variable_that_the_code_names_is_a_setting(root: Path) -> None:
    code = "\n".join(path.read_text("utf-8") for path in (root / "vecbridge").rglob("*.py"))
    named = set(re.findall(r"\bVECBRIDGE_[A-Z_]+\b", code))
    assert named - {"VECBRIDGE_"} <= {variable_name(name) for name in Settings.model_fields}
