"""File locks: one writer at a time, whatever forks, closes or dies."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from vecbridge.locks import FileLock

# A child that does nothing until it is told to; the parent's last breath is the pipe's end. Forking happens
# in a small process of its own: pytest has threads, and Python warns of a fork among threads.
PRELUDE = """
    import os, sys, time
    from vecbridge.locks import FileLock

    lock = FileLock(sys.argv[1])
    lock.acquire()

    def fork(work):
        pid = os.fork()
        if not pid:
            try:
                work()
            except BaseException as exc:
                print("child:", repr(exc), flush=True)
                os._exit(1)
            os._exit(0)
        return pid

    def idle():
        print("idle", os.getpid(), flush=True)
        time.sleep(600)

    def wait_for(pid):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


class Start(Protocol):
    def __call__(self, script: str, path: Path) -> subprocess.Popen[str]: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a script that holds a lock on a file; it is killed at the end of a test."""
    processes: list[subprocess.Popen[str]] = []

    def run(script: str, path: Path) -> subprocess.Popen[str]:
        code = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
        command = [sys.executable, "-c", code, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    """Answers the script's input()."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def is_free(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire()
    except BlockingIOError:
        return False
    lock.release()
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Process ids that are killed at the end of a test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_one_holder_at_a_time(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    first.acquire()
    first.acquire()
    with pytest.raises(BlockingIOError):
        second.acquire()
    assert (first.held, second.held, first.pid, second.pid) == (True, False, os.getpid(), None)
    os.pwrite(first.descriptor, b"kept", 0)
    first.release()
    first.release()
    second.acquire()
    assert path.read_bytes() == b"kept"
    second.release()


def test_the_file_of_a_lock_that_is_not_held_cannot_be_had(path: Path) -> None:
    lock = FileLock(path)
    for give_back in (lock.release, lock.abandon):
        lock.acquire()
        give_back()
        with pytest.raises(ValueError, match="not held"):
            _ = lock.descriptor


def test_a_lock_that_is_collected_is_free(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    assert not is_free(path)
    del lock
    gc.collect()
    assert is_free(path)


def test_a_failed_acquire_leaves_no_open_file(path: Path) -> None:
    holder, other = FileLock(path), FileLock(path)
    holder.acquire()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            other.acquire()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        FileLock(path.parent / "missing" / "lock").acquire()
    holder.release()


def test_a_lock_is_free_once_its_owner_releases_it_though_a_child_is_idle(
    start: Start, path: Path, children: list[int]
) -> None:
    process = start(
        """
        fork(idle)
        input()
        lock.release()
        print("released", flush=True)
        input()
        """,
        path,
    )
    children.append(int(line(process).removeprefix("idle ")))
    assert not is_free(path)
    go_on(process)
    assert line(process) == "released"
    assert is_free(path)


def test_a_lock_is_free_once_its_owner_is_killed_though_a_child_is_idle(
    start: Start, path: Path, children: list[int]
) -> None:
    process = start("fork(idle)\ntime.sleep(600)", path)
    children.append(int(line(process).removeprefix("idle ")))
    assert not is_free(path)
    process.kill()
    process.wait()
    assert is_free(path)


@pytest.mark.parametrize("verb", ["release", "abandon", "__del__"])
def test_a_child_does_not_hold_and_cannot_give_back_its_parents_lock(
    start: Start, path: Path, verb: str
) -> None:
    process = start(
        f"""
        def child():
            assert not lock.held and lock.pid == os.getppid()
            used = os.open(os.devnull, os.O_RDONLY)  # the number of the inherited file
            lock.{verb}()
            os.fstat(used)
            try:
                lock.acquire()
            except BlockingIOError:
                return
            raise AssertionError("two processes hold the lock")

        wait_for(fork(child))
        assert lock.held
        print("done", flush=True)
        input()
        """,
        path,
    )
    assert line(process) == "done"
    assert not is_free(path)


def test_a_child_takes_the_lock_that_its_parent_gave_back(start: Start, path: Path) -> None:
    process = start(
        """
        import signal

        def child():
            signal.sigwait([signal.SIGUSR1])
            lock.acquire()
            assert lock.held and lock.pid == os.getpid()
            wait_for(fork(grandchild))

        def grandchild():
            assert not lock.held

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        pid = fork(child)
        lock.release()
        os.kill(pid, signal.SIGUSR1)
        wait_for(pid)
        lock.acquire()
        print("done", flush=True)
        """,
        path,
    )
    assert line(process) == "done"


def test_a_fork_that_python_does_not_know_of_leaves_the_parents_lock_alone(
    start: Start, path: Path, children: list[int]
) -> None:
    process = start(
        """
        import ctypes

        libc = ctypes.CDLL(None)
        pid = libc.fork()
        if not pid:
            refused = False
            try:
                lock.descriptor
            except ValueError:
                refused = True
            held = lock.held
            lock.release()
            os._exit(0 if refused and not held else 1)
        wait_for(pid)
        assert lock.held
        print("done", flush=True)
        input()
        if not libc.fork():
            idle()
        input()
        lock.release()
        print("released", flush=True)
        input()
        """,
        path,
    )
    assert line(process) == "done"
    assert not is_free(path)
    go_on(process)
    children.append(int(line(process).removeprefix("idle ")))
    go_on(process)
    assert line(process) == "released"
    assert is_free(path)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_multiprocessing_leave_the_lock_alone(path: Path, method: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from vecbridge.locks import FileLock

            def work(path, queue):
                try:
                    FileLock(path).acquire()
                    queue.put("acquired")
                except BlockingIOError:
                    queue.put("busy")

            if __name__ == "__main__":
                path, method = sys.argv[1:]
                lock = FileLock(path)
                lock.acquire()
                context = multiprocessing.get_context(method)
                answers = context.SimpleQueue()
                for _ in range(2):
                    process = context.Process(target=work, args=(path, answers))
                    process.start()
                    print(answers.get())
                    process.join()
                    lock.release() if lock.held else None
            """
        )
    )
    result = subprocess.run(
        [sys.executable, str(script), str(path), method], stdout=subprocess.PIPE, text=True, check=True
    )
    assert result.stdout.split() == ["busy", "acquired"]


def test_threads_that_lock_while_others_fork_leave_nothing_locked(start: Start, path: Path) -> None:
    process = start(
        """
        import threading, warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork among threads is what is tested here
        lock.release()
        done = threading.Event()

        def churn(number):
            mine = FileLock(f"{sys.argv[1]}{number}")
            while not done.is_set():
                mine.acquire()
                mine.release()

        threads = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        open_files = lambda: [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{fd}")]

        def child():
            assert not any(name.startswith(sys.argv[1]) for name in open_files()), open_files()

        for _ in range(50):
            wait_for(fork(child))
        done.set()
        print("done", flush=True)
        """,
        path,
    )
    assert line(process) == "done"
