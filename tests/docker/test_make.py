"""The targets stack-up, stack-down and stack-status, with a fake docker that records its arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Make = Callable[..., subprocess.CompletedProcess[str]]
FILE = ["-f", "docker/milvus/compose.yaml"]
GPU = ["-f", "docker/milvus/compose.gpu.yaml"]
ATTU = ["--profile", "attu"]
UP = ["up", "--detach", "--wait", "--wait-timeout", "600"]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make: install it")


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / "stack.env"
    path.write_text("STACK_MILVUS_ROOT_PASSWORD=x\n", "utf-8")
    return path


@pytest.fixture
def make(root: Path, tmp_path: Path, env_file: Path) -> Make:
    """Runs make in the checkout. The path has a few tools of a shell, and `docker` if a script is given."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "awk", "echo", "test", "python3"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)

    def run(*words: str, docker: str | None = None) -> subprocess.CompletedProcess[str]:
        if docker is not None:
            (tools / "docker").write_text(f"#!{shutil.which('sh')}\n{docker}\n", "utf-8")
            (tools / "docker").chmod(0o755)
        command = [shutil.which("make") or "make", f"STACK_ENV={env_file}", *words]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        environment = clean | {"PATH": str(tools), "LOG": str(tmp_path / "log"), "GPU": "", "ATTU": ""}
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60)

    return run


RECORD = 'if [ "$2" = version ]; then exit 0; fi; for word in "$@"; do echo "$word"; done >"$LOG"'


@pytest.mark.parametrize(
    ("words", "files", "wanted"),
    [
        (["stack-up"], FILE, UP),
        (["stack-up", "ATTU=1"], FILE, [*ATTU, *UP]),
        (["stack-up", "GPU=1"], [*FILE, *GPU], UP),
        (["stack-up", "GPU=1", "ATTU=1"], [*FILE, *GPU], [*ATTU, *UP]),
        (["stack-down"], FILE, [*ATTU, "down"]),
        (["stack-status"], FILE, [*ATTU, "ps", "--all"]),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) and words[0].startswith("stack") else "",
)
def test_a_target_calls_docker_compose(
    make: Make, tmp_path: Path, env_file: Path, words: list[str], files: list[str], wanted: list[str]
) -> None:
    done = make(*words, docker=RECORD)
    assert done.returncode == 0, done.stderr
    arguments = (tmp_path / "log").read_text("utf-8").splitlines()
    assert arguments == ["compose", "--env-file", str(env_file), *files, *wanted]


@pytest.mark.parametrize(("words", "wanted"), [(["stack-up"], UP), (["stack-down"], ["down"])])
def test_a_dry_run_prints_the_command_and_calls_nothing(
    make: Make, tmp_path: Path, words: list[str], wanted: list[str]
) -> None:
    done = make("-n", *words, docker=RECORD)
    assert done.returncode == 0, done.stderr
    assert " ".join(wanted) in done.stdout
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("target", ["stack-up", "stack-down", "stack-status"])
def test_a_missing_docker_plugin_or_env_file_is_reported(make: Make, env_file: Path, target: str) -> None:
    done = make(target)
    assert done.returncode != 0
    assert "No docker on the path" in done.stderr
    done = make(target, docker="exit 1")
    assert done.returncode != 0
    assert "no compose plugin" in done.stderr
    env_file.unlink()
    done = make(target, docker=RECORD)
    assert done.returncode != 0
    assert f"No {env_file}: cp .env.example" in done.stderr


def test_a_failing_docker_fails_the_target(make: Make) -> None:
    assert make("stack-up", docker='[ "$2" = version ]').returncode != 0


def test_the_parser_accepts_the_options_that_make_passes(
    make: Make, compose: Path, root: Path, tmp_path: Path, env_file: Path
) -> None:
    names = ("STACK_MILVUS_ROOT_PASSWORD", "STACK_MINIO_ROOT_USER", "STACK_MINIO_ROOT_PASSWORD")
    env_file.write_text("".join(f"{name}=x\n" for name in names), "utf-8")
    assert make("stack-up", "GPU=1", "ATTU=1", docker=RECORD).returncode == 0
    options = (tmp_path / "log").read_text("utf-8").splitlines()[1 : -len(UP)]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(  # `config` instead of `up`, because it needs no engine
        [str(compose), *options, "config", "--services"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["attu", "etcd", "milvus", "minio"]


def test_help_lists_the_targets(make: Make) -> None:
    listed = [line.split()[1] for line in make("help").stdout.splitlines()]
    assert {"stack-up", "stack-down", "stack-status", "test"} <= set(listed)
    assert "stack-needs" not in listed
