"""A process that has imported the libraries and forks a child for each run of tests; see :mod:`planted`.

    python warm.py COPY DIRECTORY WORDS

Each line of the input is a job, ``{"tests": […], "stores": "…", "seconds": …, "fault": {…}}``. Each line of
the output says what became of it. Nothing of vecbridge is imported before the fork, so that a child meets the
fault that was written into the copy.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import Phase, settings

LIBRARIES = (
    "numpy", "pandas", "pyarrow.compute", "pyarrow.parquet", "hypothesis.strategies", "hypothesis.stateful",
    "psutil", "httpx", "pydantic_settings", "PIL.Image",
)  # fmt: skip
#: By the word in the name of a file, a test or a case that stands for them.
SOME = {
    "faiss": ("faiss",),
    "milvus": ("grpc", "pymilvus", "milvus_lite"),
    "weaviate": ("grpc", "weaviate"),
    "pinecone": ("grpc", "pinecone", "pinecone.grpc", "orjson"),
    "cli": ("sqlglot", "typer.testing", "rich.table"),
}


class Selection:
    """A pytest plugin: runs the named tests, or files of tests, alone, and notes what became of each."""

    def __init__(self, wanted, durations):
        self.wanted = set(wanted)
        self.known = durations
        self.durations = {}
        self.outcomes = defaultdict(Counter)
        self.failed = ""

    def names(self, nodeid):
        """The names by which a test can have been asked for."""
        file, name = nodeid.partition("::")[0], nodeid.partition("[")[0].rpartition("::")[2]
        parameters = nodeid[len(nodeid.partition("[")[0]) :]
        return {file, f"{file}::{name}", f"{file}::{name}{parameters}"} & self.wanted

    def pytest_configure(self, config):
        """Has Hypothesis report the first example that fails, instead of looking minutes for the smallest."""
        settings.register_profile("first", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("first")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        chosen = [item for item in items if self.names(item.nodeid)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        # The quick ones first: they find most faults, and a failure ends the run.
        items[:] = sorted(chosen, key=lambda item: self.known.get(item.nodeid, 0))

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.outcome == "passed":
            return
        self.durations[report.nodeid] = round(report.duration, 4)
        for name in self.names(report.nodeid):
            self.outcomes[name][report.outcome] += 1
        if report.failed and not self.failed:
            self.failed = report.nodeid


def child(job, place, log):
    """Runs the tests of a job in this process, and ends it."""
    os.setsid()  # so that what the tests leave running can be ended with them
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if job.get("fault"):
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    selection = Selection(job["tests"], job.get("durations", {}))
    files = list(dict.fromkeys(test.partition("::")[0] for test in job["tests"]))
    options = [f"--stores={job['stores']}", f"--basetemp={place / 'tests'}", "-q", "--no-header"]
    options += ["-pno:cacheprovider", "-ppytest_timeout", "--tb=short", *(["-x"] if job.get("fault") else [])]
    status = pytest.main([*files, *options], plugins=[selection])
    answer = {"outcomes": selection.outcomes, "failed": selection.failed, "durations": selection.durations}
    (place / "answer.json").write_text(json.dumps(answer), "utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status))


@contextmanager
def planted(fault, copy):
    """Writes a fault into the copy, and takes it back."""
    if fault is None:
        yield
        return
    path = copy / fault["file"]
    text = path.read_text("utf-8")
    with suppress(FileNotFoundError):  # of the same second and size it would be taken for that of the fault
        Path(importlib.util.cache_from_source(str(path))).unlink()
    path.write_text(fault["text"], "utf-8")
    try:
        yield
    finally:
        path.write_text(text, "utf-8")


def run(job, copy, place):
    """One job, in a child."""
    log, answer = place / "log.txt", place / "answer.json"
    answer.unlink(missing_ok=True)
    with planted(job.get("fault"), copy):
        pid = os.fork()
        if not pid:
            child(job, place, log)
        until, status = time.monotonic() + job["seconds"], None
        while status is None and time.monotonic() < until:
            time.sleep(0.02)
            done, code = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if done else None
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if timed_out := status is None:
            os.waitpid(pid, 0)
    found = json.loads(answer.read_text("utf-8")) if answer.exists() else {}
    found = {"outcomes": {}, "failed": "", "durations": {}} | found
    tail = log.read_text("utf-8", "replace")[-3000:]
    return {"status": status, "timed_out": timed_out, "tail": tail, **found}


def main():
    copy, place = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path[0] = str(copy)  # in the place of the folder of this file
    some = [name for word, names in SOME.items() if word in sys.argv[3] for name in names]
    for name in (*LIBRARIES, *some):
        with suppress(ImportError):
            importlib.import_module(name)
    if early := [name for name in sys.modules if name.partition(".")[0] == "vecbridge"]:
        raise RuntimeError(f"imported before the fault was written: {early}")
    gc.freeze()  # so that a child's garbage collector leaves all of this alone
    results = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), copy, place)), file=results, flush=True)


if __name__ == "__main__":
    main()
