"""What a call costs more because OpenTelemetry could be told of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from support.bulk import BulkBench
from support.harness import Line, Samples, Target, compared

CALLS = 100_000
#: A method that does nothing, as it was written and as an operation.
CHILD = """
import json, sys, timeit
if sys.argv[1] == "without":
    sys.modules["opentelemetry"] = None  # which Python takes for a package that is not installed
from types import SimpleNamespace
from vecbridge.front import telemetry
from vecbridge.urls import parse

class Nothing:
    url = parse("milvus://127.0.0.1:19530#photos")
    capabilities = SimpleNamespace(backend="milvus")
    def plain(self, query):
        return query
    @telemetry.operation("search")
    def told(self, query):
        return query

here, calls = Nothing(), int(sys.argv[2])
def best(call):
    return 1e6 * min(timeit.repeat(lambda: call(None), number=calls, repeat=5)) / calls
print(json.dumps({"installed": telemetry.INSTALLED, "told": best(here.told), "plain": best(here.plain)}))
"""


def telemetry(bench: BulkBench) -> list[Line]:
    """In a process without opentelemetry-api, and where it is installed in one with it, without an SDK."""
    lines = []
    for how, words in (("without", "opentelemetry-api not installed"), ("with", "installed, no SDK")):
        runs = [_measured(how) for _ in range(bench.rounds)]
        if runs[0]["installed"] != (how == "with"):
            bench.details[f"telemetry, {words}"] = "not measured: opentelemetry-api is not installed here"
            continue
        told, plain = (Samples(tuple(run[name] for run in runs)) for name in ("told", "plain"))
        target = Target("difference", "<=", 1.0) if how == "without" else None
        what, against = f"a call, {words}", "the same method undecorated"
        lines.append(compared("telemetry", what, "µs", told, plain, against, target))
    return lines


def _measured(how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, how, str(CALLS)], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout))
