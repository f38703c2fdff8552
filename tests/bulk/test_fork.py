"""Journals and dead-letter files belong to the process that opened them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bulk.forking import KINDS, refused

# Forking happens in a process of its own: pytest has threads, and Python warns of a fork among threads.
PRELUDE = """
import multiprocessing, os, sys
from tests.bulk.forking import KINDS, idle, refused, require_refused, run, wait_for

if __name__ == "__main__":
    kind, path = sys.argv[1:]
    file = KINDS[kind](path)
"""


@pytest.fixture(params=["journal", "dead letters"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def start(tmp_path: Path, kind: str, path: Path, root: Path) -> Iterator[Any]:
    """Runs a script that has opened the file; whatever it leaves behind is killed at the end."""
    processes: list[subprocess.Popen[str]] = []
    script = tmp_path / "script.py"

    def run(main: str) -> subprocess.Popen[str]:
        script.write_text(PRELUDE + textwrap.indent(textwrap.dedent(main), "    "))
        process = subprocess.Popen(
            [sys.executable, str(script), kind, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Process ids that are killed at the end of a test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def numbers(path: Path) -> list[int]:
    """What was added, in order."""
    values = [json.loads(text) for text in path.read_bytes().splitlines()]
    return [value["batch"] if "batch" in value else value["id"] for value in values if "spec" not in value]


def test_a_forked_child_is_refused_before_a_byte_is_written_and_the_parent_goes_on(
    start: Any, path: Path
) -> None:
    process = start(
        """
        file.add(1)
        wait_for(run(require_refused, file, os.getpid()))
        file.add(2)
        refused(KINDS[kind], path, kind=KINDS[kind].busy)
        file.close()
        KINDS[kind](path).add(3)
        print("done")
        """
    )
    assert process.communicate()[0] == "done\n"
    assert numbers(path) == [1, 2, 3]


def test_a_child_of_a_fork_that_python_does_not_know_of_is_refused(start: Any, path: Path) -> None:
    process = start(
        """
        import ctypes

        file.add(1)
        parent = os.getpid()
        pid = ctypes.CDLL(None).fork()
        if not pid:
            status = 1
            try:
                require_refused(file, parent)
                status = 0
            finally:
                os._exit(status)
        wait_for(pid)
        file.add(2)
        refused(KINDS[kind], path, kind=KINDS[kind].busy)
        print("done")
        """
    )
    assert process.communicate()[0] == "done\n"
    assert numbers(path) == [1, 2]


def test_processes_of_multiprocessing_are_refused(start: Any, path: Path) -> None:
    process = start(
        """
        file.add(1)
        forked = multiprocessing.get_context("fork").Process(target=require_refused, args=(file, os.getpid()))
        other = multiprocessing.get_context("forkserver").Process(
            target=refused, args=(KINDS[kind], path), kwargs={"kind": KINDS[kind].busy}
        )
        for process in (forked, other):
            process.start()
            process.join()
            assert process.exitcode == 0
        file.add(2)
        print("done")
        """
    )
    assert process.communicate()[0] == "done\n"
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("end", ["close", "kill"])
def test_an_idle_child_keeps_nobody_from_the_file_that_its_parent_left(
    start: Any, path: Path, kind: str, end: str, children: list[int]
) -> None:
    process = start("file.add(1)\nrun(idle)\ninput()\nfile.close()\nprint('closed', flush=True)\ninput()")
    children.append(int(line(process)))
    refused(KINDS[kind], path, kind=KINDS[kind].busy)
    if end == "kill":
        process.kill()
        process.wait()
    else:
        process.stdin.write("\n")
        process.stdin.flush()
        assert line(process) == "closed"
    with KINDS[kind](path) as file:
        file.add(2)
    assert numbers(path) == [1, 2]


def test_a_child_opens_the_file_that_its_parent_closed(start: Any, path: Path) -> None:
    process = start(
        "file.add(1)\nfile.close()\nwait_for(run(lambda: KINDS[kind](path).add(2)))\nprint('done')"
    )
    assert process.communicate()[0] == "done\n"
    assert numbers(path) == [1, 2]


def test_workers_forked_by_the_source_do_not_disturb_a_write(start: Any, path: Path, kind: str) -> None:
    process = start(
        """
        from tests.bulk.faults import Faulty, sources
        import vecbridge as vb

        file.close()
        if kind == "journal":  # an empty file of dead letters is gone already
            os.unlink(path)

        def source():
            for batch in sources(5):
                wait_for(run(os.getpid))
                yield batch

        bad = lambda call, batch: (_ for _ in ()).throw(vb.BackendError("no"))
        option = {"journal": path} if kind == "journal" else {"dead_letters": path}
        photos = Faulty(before=bad if kind == "dead letters" else None)
        report = vb.write(photos, source(), **option)
        print(report.written, report.failed)
        """
    )
    assert process.communicate()[0] == ("50 0\n" if kind == "journal" else "0 50\n")
    assert path.read_bytes().count(b"\n") == (7 if kind == "journal" else 50)
