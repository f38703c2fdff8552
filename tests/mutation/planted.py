"""Plants faults in copies of the code, one at a time, and runs the tests that must catch each of them.

    python tests/mutation/planted.py               all of planted.toml: status 1 if a fault survives
    python tests/mutation/planted.py journal       those with this word in their names

First every test that is named must pass on the code as it is. Then each fault is written into a copy of the
checkout, and its tests run there: one of them must fail. The checkout itself is never changed.

Each worker (see :mod:`warm`) has a copy of its own. It imports the libraries once and forks a process for
each run, so that a run costs little more than its tests.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
PLANTED = Path(__file__).with_name("planted.toml")
COPIED = ("vecbridge", "tests", "examples", "pyproject.toml", "README.md", "Makefile")
KEYS = {"name", "file", "old", "new", "tests", "stores"}
RUN_SECONDS = 180  # for the tests of one fault: one that hangs has been noticed
BASELINE_SECONDS = 600


@dataclass(frozen=True)
class Fault:
    """A change to the code that tests must notice.

    Attributes:
        name: What it is, in words.
        file: The file that it changes, from the root of the checkout.
        old: A piece of the file that stands there once.
        new: What takes its place.
        tests: "FILE::test" or "FILE::test[parameters]", without the name of a class.
        stores: The store cases of the conformance suite that run, as for ``--stores``.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    stores: str = ""

    def planted(self) -> str:
        """What the file holds with the fault."""
        return (ROOT / self.file).read_text("utf-8").replace(self.old, self.new)


def read(path: Path = PLANTED) -> list[Fault]:
    """Reads a file of faults; ValueError names an entry that is not one."""
    faults = []
    for entry in tomllib.loads(path.read_text("utf-8"))["fault"]:
        name = entry.get("name", "an entry without a name")
        if set(entry) | {"stores"} != KEYS or not entry["tests"]:
            raise ValueError(f"{name}: an entry has {', '.join(sorted(KEYS))}; only stores can be left out")
        faults.append(Fault(**{**entry, "tests": tuple(entry["tests"])}))
    names = [fault.name for fault in faults]
    if len(set(names)) < len(names):
        raise ValueError(f"a name comes twice: {next(name for name in names if names.count(name) > 1)}")
    return faults


def misfit(fault: Fault, root: Path = ROOT) -> str | None:
    """Why a fault cannot be planted in the code as it is; None if it can."""
    try:
        text = (root / fault.file).read_text("utf-8")
    except OSError as exc:
        return f"{fault.file}: {exc.strerror}"
    if (count := text.count(fault.old)) != 1:
        return f"{fault.file} has its old text {count} times, not once: bring the entry up to date"
    try:
        compile(text.replace(fault.old, fault.new), fault.file, "exec")
    except SyntaxError as exc:
        return f"the new text is no Python: {exc}"
    for test in fault.tests:
        file, _, function = test.partition("::")
        path = root / file
        if not path.is_file():
            return f"there is no {file}"
        if file != "tests/conformance/test_conformance.py" and (
            f"def {function.partition('[')[0]}(" not in path.read_text("utf-8")
        ):
            return f"there is no {test}"
    return None


class Change(Protocol):
    """One file of the code, changed."""

    @property
    def file(self) -> str:
        """From the root of the checkout."""
        ...

    def planted(self) -> str:
        """What the file holds with the change."""
        ...


class Worker:
    """A process with a copy of the checkout, which runs tests in forks of itself.

    Args:
        place: An empty directory, or one that does not exist yet.
        words: Which libraries are imported beforehand: those of whatever is named here.

    Attributes:
        durations: Seconds of tests, by their ids: the quick ones run first.
    """

    def __init__(self, place: Path, words: str) -> None:
        self.copy = place / "copy"
        self.durations: dict[str, float] = {}
        self.copy.mkdir(parents=True)
        self._log = (place / "worker.log").open("wb")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, self.copy / name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(self.copy), "TMPDIR": str(place)}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing them takes longer than the tests
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py")), str(self.copy), str(place), words],
            cwd=self.copy,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def run(self, tests: Iterable[str], stores: str, seconds: float, fault: Change | None = None) -> Any:
        """Runs tests or files of tests, with a fault or without one; what :mod:`warm` says of it."""
        job: dict[str, Any] = {"tests": list(tests), "stores": stores, "seconds": seconds}
        job["durations"] = self.durations
        if fault is not None:
            job["fault"] = {"file": fault.file, "text": fault.planted()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._log.close()


def in_parallel(workers: Sequence[Worker], jobs: Iterable[Callable[[Worker], None]]) -> None:
    """Does jobs on whichever worker is free."""
    waiting: queue.SimpleQueue[Callable[[Worker], None]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    errors: list[BaseException] = []

    def work(worker: Worker) -> None:
        try:
            while not errors:
                waiting.get_nowait()(worker)
        except queue.Empty:
            pass
        except BaseException as exc:  # noqa: BLE001 - raised below, in the main thread
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def baseline(workers: Sequence[Worker], faults: Iterable[Fault]) -> list[str]:
    """Runs every test on the code as it is; says which do not pass there, for these would prove nothing."""
    wanted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fault in faults:
        for test in fault.tests:
            wanted[fault.stores, test.partition("::")[0]].add(test)
    # Files of the same stores share a run; each worker gets a part of them.
    shares: dict[tuple[str, int], set[str]] = defaultdict(set)
    for number, (stores, file) in enumerate(sorted(wanted)):
        shares[stores, number % len(workers)] |= wanted[stores, file]
    problems: list[str] = []

    def run(share: tuple[str, int], tests: set[str], worker: Worker) -> None:
        stores, _ = share
        answer = worker.run(sorted(tests), stores, BASELINE_SECONDS)
        bad = []
        for test in sorted(tests):
            seen = answer["outcomes"].get(test, {})
            if seen.get("failed") or not seen.get("passed"):
                bad.append(f"{test} {seen or 'did not run'} on the code as it is")
        if bad:
            problems.extend([*bad, f"pytest ended with {answer['status']}:", answer["tail"]])

    in_parallel(
        workers,
        [
            lambda worker, share=share, tests=tests: run(share, tests, worker)
            for share, tests in shares.items()
        ],
    )
    return problems


def judge(worker: Worker, fault: Fault) -> tuple[str, str]:
    """Plants a fault; "caught", "survived" or "broken", and a remark."""
    answer = worker.run(fault.tests, fault.stores, RUN_SECONDS, fault)
    if answer["timed_out"]:
        return "caught", f"still running after {RUN_SECONDS} s"
    if answer["status"] == 1 and answer["failed"]:
        return "caught", answer["failed"]
    if answer["status"] == 0:
        return "survived", ", ".join(fault.tests)
    return "broken", f"pytest ended with {answer['status']}: {answer['tail']}"  # such as an ImportError


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Plants faults; the tests must catch each of them.")
    parser.add_argument("words", nargs="*", help="only faults with one of these words in their names")
    parser.add_argument("--file", type=Path, default=PLANTED, help="the faults (planted.toml)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    began = time.monotonic()
    faults = [
        fault
        for fault in read(options.file)
        if not options.words or any(word in fault.name for word in options.words)
    ]
    misfits = [f"{fault.name}: {why}" for fault in faults if (why := misfit(fault)) is not None]
    if misfits or not faults:
        print("\n".join(misfits) or "no fault of that name", file=sys.stderr)
        return 2
    verdicts: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="vecbridge-planted-", ignore_cleanup_errors=True) as place:
        words = " ".join(" ".join((fault.file, fault.stores, *fault.tests)) for fault in faults)
        workers = [Worker(Path(place) / str(number), words) for number in range(max(1, options.workers))]
        try:
            problems = baseline(workers, faults)
            if problems:
                print("\n".join(problems), file=sys.stderr)
                return 2
            print(f"{'unchanged':10}{time.monotonic() - began:6.1f} s  every test passes", flush=True)

            def plant(fault: Fault, worker: Worker) -> None:
                started = time.monotonic()
                verdict, remark = judge(worker, fault)
                verdicts[verdict].append(fault.name)
                seconds = time.monotonic() - started
                print(f"{verdict:10}{seconds:6.1f} s  {fault.name}  ({remark})", flush=True)

            in_parallel(workers, [lambda worker, fault=fault: plant(fault, worker) for fault in faults])
        finally:
            for worker in workers:
                worker.close()
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"{len(verdicts['caught'])} of {len(faults)} caught in {minutes} min {seconds} s")
    for verdict in ("survived", "broken"):
        for name in sorted(verdicts[verdict]):
            print(f"{verdict}: {name}")
    return int(len(verdicts["caught"]) < len(faults))


if __name__ == "__main__":
    sys.exit(main())
