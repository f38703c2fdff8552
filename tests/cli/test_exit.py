"""Exit statuses, and what goes to stdout and to stderr."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vecbridge import errors
from vecbridge.cli.main import COMMANDS
from vecbridge.errors import VecbridgeError
from vecbridge.query import WriteReport

Run = Callable[..., Any]  # the fixture of conftest.py

USAGE = [
    (["serach", "x"], "Did you mean 'search'"),
    (["search", "--no-such-option"], "No such option"),
    (["search", "x", "-k", "many", "--store", "memory://#a"], "-k"),
    (["search", "x"], "which store"),
    (["search", "--store", "memory://#a"], "a text or --image"),
    (["search", "x", "--image", "a.png", "--store", "memory://#a"], "one of the two"),
    (["search", " ", "--store", "memory://#a"], "empty"),
    (["search", "\u3000\u200b", "--store", "memory://#a"], "empty"),
    (["search", "x", "--store", "memory://"], "#name"),
    (["search", "x", "--store", "photos"], "no store URL"),
    (["search", "x", "--store", "nonsense://#a"], "nonsense"),
    (["search", "x", "--store", "faiss:./s?colour=red#a"], "colour"),
    (["search", "x", "--store", "memory://#a", "--where", "year >"], "--where"),
    (["search", "x", "--store", "memory://#a", "--filter", "{"], "--filter: not JSON"),
    (["search", "x", "--store", "memory://#a", "--filter", '{"a": 1}'], "--filter: not a filter"),
    (
        ["search", "x", "--store", "memory://#a", "--filter", '{"not":' * 9999],
        "--filter: the filter is nested",
    ),
    (["index", "nowhere", "--store", "memory://#a"], "nowhere"),
    (["index", ".", "--store", "memory://#a", "--index", "hnsw(q=1)"], "hnsw has no 'q'"),
    (["index", ".", "--store", "memory://#a", "--index", "tree"], "--index 'tree'"),
    (["index", ".", "--store", "memory://#a", "--fields", "colour"], "colour"),
    (["load", "nowhere.npy", "--store", "memory://#a"], "no such file"),
    (["load", __file__, "--store", "memory://#a"], ".py is none of"),
    (["info", "memory://"], "#name"),
    (["list"], "which store"),
]
FAILURES = [
    (["search", "x", "--store", "memory://#a"], "'a'"),
    (["info", "memory://#a"], "'a'"),
]


MISFITS = [
    (["search", "dog", "--store", "{photos}"], "--where", "yaer > 1"),
    (["plan", "{photos}", "memory://"], "--where", "yaer > 1"),
    (["migrate", "{photos}", "faiss:./t"], "--where", "year > 1 and not nmae = 'a'"),
    (["sync", "{photos}", "faiss:./t"], "--where", "yaer is null"),
    (["migrate", "{photos}", "faiss:./t"], "--filter", '{"field": "yaer", "op": ">", "value": 1}'),
    (["migrate", "{photos}", "faiss:./t"], "--drop", "yaer"),
    (["migrate", "{photos}", "faiss:./t"], "--rename", "yaer=when"),
]


def shown(value: object) -> str:
    return " ".join(value)[:60] if isinstance(value, list) else ""


@pytest.mark.parametrize(("arguments", "says"), USAGE, ids=shown)
def test_bad_usage_is_status_2_with_a_reason_and_no_output(arguments: list[str], says: str, run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(("arguments", "option", "value"), MISFITS, ids=shown)
def test_an_unknown_field_is_bad_usage_and_the_near_name_is_told(
    arguments: list[str], option: str, value: str, run: Run, photos: str
) -> None:
    ran = run(*(argument.format(photos=photos) for argument in arguments), option, value)
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean" in ran.err
    assert not Path("t").exists()


@pytest.mark.parametrize(("arguments", "says"), FAILURES, ids=shown)
def test_failure_is_status_1_with_one_line_and_no_output(arguments: list[str], says: str, run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert says in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in ran.err


def every_error() -> list[VecbridgeError]:
    """One of each class of the exception tree."""
    made: dict[type, Any] = {
        errors.MissingDependencyError: lambda cls: cls("faiss", extra="faiss"),
        errors.InvalidRecordError: lambda cls: cls("said", []),
        errors.UnsupportedError: lambda cls: cls("memory", "said"),
        errors.PartialWriteError: lambda cls: cls(WriteReport(failed=1)),
        errors.LossRefusedError: lambda cls: cls("said", None),
    }
    found, queue = [], [VecbridgeError]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls.__module__ == "vecbridge.errors":
            found.append(made.get(cls, lambda cls: cls("said"))(cls))
    return found


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_typed_error_is_one_line(
    error: VecbridgeError, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vecbridge.registry.connect", connect)
    ran = run("list", "memory://")
    assert ran.code == (2 if isinstance(error, errors.ConfigError) else 1)
    assert ran.out == ""
    assert ran.err == f"error: {error}\n"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_where_an_error_comes_from_wherever_it_stands(place: int, run: Run) -> None:
    arguments = ["info", "memory://#a"]
    arguments.insert(place, "--debug")
    ran = run(*arguments)
    assert ran.code == 1
    assert "Traceback" in ran.err


def test_debug_in_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBRIDGE_DEBUG", "1")
    assert "Traceback" in run("info", "memory://#a").err


def test_debug_in_a_dotenv_file(run: Run) -> None:
    Path(".env").write_text("VECBRIDGE_DEBUG=1\n")
    assert "Traceback" in run("search", "x", "--store", "memory://#a").err


def test_debug_after_two_dashes_is_a_text(run: Run) -> None:
    ran = run("search", "--store", "memory://#a", "--", "--debug")
    assert "Traceback" not in ran.err
    assert ran.code == 1


def test_an_operating_system_error_is_one_line(run: Run, photos: str) -> None:
    ran = run("search", "x", "--store", photos, "--html", "no/such/folder/a.html")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "error: no/such/folder/a.html: No such file or directory"


def test_an_interrupt_is_status_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vecbridge.registry.connect", connect)
    ran = run("list", "memory://")
    assert (ran.code, ran.out, ran.err) == (130, "", "Interrupted.\n")


def test_a_closed_pipe_ends_the_command_without_a_traceback(photos: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vecbridge", "search", "x", "--store", photos, "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_version(run: Run) -> None:
    import vecbridge

    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"{vecbridge.__version__}\n", "")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_shown_without_loading_what_commands_need(command: str) -> None:
    code = f"""
import sys
from vecbridge.cli.main import main
try:
    main({[command, "--help"] if command else ["--help"]!r})
except SystemExit as exc:
    heavy = {{"pyarrow", "numpy", "faiss", "torch", "onnxruntime", "PIL", "sqlglot"}} & set(sys.modules)
    sys.exit(f"loaded {{heavy}}" if heavy or exc.code else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"vecbridge {command}".strip() in done.stdout


def test_a_secret_of_a_url_is_never_shown(run: Run) -> None:
    ran = run("info", "nonsense://user:hunter2@host:1/#a")
    assert "hunter2" not in ran.err + ran.out
    ran = run("doctor", "nonsense://user:hunter2@host:1/#a")
    assert ran.code == 1
    assert "hunter2" not in ran.err + ran.out
