"""Makes mutants of a module with mutmut's operators, tests a random sample, and counts those that are caught.

    python tests/mutation/mutants.py filters --sample 100 --seed 1

mutmut (a package on the index) makes the mutants; the workers of :mod:`planted` run the tests. README.md says
why mutmut does not run them itself.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from planted import ROOT, Worker, in_parallel

#: What is tested by what: the files of its own test folder that are about it.
TESTS = {
    "filters": ("tests/core/test_filters.py", "tests/core/test_filter_size.py"),
    "records": (
        "tests/core/test_records.py", "tests/core/test_inputs.py", "tests/core/test_numbers.py",
        "tests/core/test_timestamps.py",
    ),
    "bulk": (
        "tests/bulk/test_retry.py", "tests/bulk/test_write.py", "tests/bulk/test_conflict.py",
        "tests/bulk/test_grow.py", "tests/bulk/test_dead_letter_file.py", "tests/bulk/test_journal.py",
    ),
}  # fmt: skip
RUN_SECONDS = 600
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Mutant:
    """A file of the module with one change.

    Attributes:
        file: From the root of the checkout.
        text: Of the whole file, changed.
        line: Where the change is.
        change: The lines that differ.
    """

    file: str
    text: str
    line: int
    change: str

    def planted(self) -> str:
        """What a worker writes into its copy."""
        return self.text


def places(module: str) -> list[tuple[Path, int]]:
    """Every mutant of a module, by file and number."""
    found = []
    for path in sorted((ROOT / "vecbridge" / module).glob("*.py")):
        found += [(path, number) for number in range(len(mutations(path)[1]))]
    return found


@cache
def mutations(path: Path) -> tuple[Any, list[Any]]:
    """The parsed file, and what mutmut would change in it."""
    from mutmut.mutation.file_mutation import create_mutations

    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        Path("src").mkdir()  # mutmut looks for its settings, and does without them where it finds this
        parsed, found, *_ = create_mutations(str(path), path.read_text("utf-8"))
    return parsed, [each for each in found if each.contained_by_top_level_function is not None]


def mutant(path: Path, number: int) -> Mutant:
    """One of them, with its text."""
    parsed, found = mutations(path)
    text = parsed.deep_replace(found[number].original_node, found[number].mutated_node).code
    return _mutant(str(path.relative_to(ROOT)), parsed.code, text)


def _mutant(file: str, before: str, text: str) -> Mutant:
    diff = list(difflib.unified_diff(before.splitlines(), text.splitlines(), lineterm="", n=0))[2:]
    line = int(diff[0].split()[1].partition(",")[0].lstrip("-")) if diff else 0
    return Mutant(file, text, line, "\n".join(each for each in diff if not each.startswith("@@")))


def is_message(mutant: Mutant) -> bool:
    """Whether the texts of the two files differ in nothing but words for people.

    These are the arguments of exceptions that are raised, and of calls that make a record of what failed.
    """
    before = (ROOT / mutant.file).read_text("utf-8")
    return ast.dump(_without_words(before)) == ast.dump(_without_words(mutant.text))


def _without_words(text: str) -> ast.AST:
    class Words(ast.NodeTransformer):
        def visit_Raise(self, node: ast.Raise) -> ast.AST:
            if isinstance(node.exc, ast.Call):
                node.exc.args = []
            return self.generic_visit(node)

        def visit_Expr(self, node: ast.Expr) -> ast.AST:
            note = isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") == "add_note"
            return ast.Pass() if note else self.generic_visit(node)

    return Words().visit(ast.parse(text))


def interval(caught: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, 1927, doi:10.2307/2276774)."""
    if not trials:
        return 0.0, 1.0
    share, square = caught / trials, _Z * _Z / trials
    half = _Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return (share + square / 2 - half) / (1 + square), (share + square / 2 + half) / (1 + square)


def verdict(answer: dict[str, Any]) -> str:
    """What became of a mutant: caught, survived, or broken where it cannot be imported."""
    if answer["timed_out"] or (answer["status"] == 1 and answer["failed"]):
        return "caught"
    return "survived" if answer["status"] == 0 else "broken"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 whatever the score, 2 where the tests fail without a mutant."""
    parser = argparse.ArgumentParser(description="Mutates a module at random places and runs its tests.")
    parser.add_argument("module", choices=TESTS)
    parser.add_argument("--sample", type=int, default=100, help="how many mutants; 0 is all of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write what became of each")
    options = parser.parse_args(argv)
    every = places(options.module)
    drawn = random.Random(options.seed).sample(every, min(options.sample or len(every), len(every)))
    began = time.monotonic()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="vecbridge-mutants-", ignore_cleanup_errors=True) as place:
        workers = [
            Worker(Path(place) / str(number), words=options.module) for number in range(options.workers)
        ]
        try:
            clean = workers[0].run(TESTS[options.module], "", RUN_SECONDS)
            if clean["status"] != 0:
                print(clean["tail"], file=sys.stderr)
                return 2
            for worker in workers:
                worker.durations = clean["durations"]

            def run(place: tuple[Path, int], worker: Worker) -> None:
                planted = mutant(*place)
                answer = worker.run(TESTS[options.module], "", RUN_SECONDS, planted)
                found = {"verdict": verdict(answer), "file": planted.file, "line": planted.line}
                found |= {"change": planted.change, "message": is_message(planted), "by": answer["failed"]}
                results.append(found)
                print(f"{len(results):4} {found['verdict']:9} {planted.file}:{planted.line}", flush=True)
                if found["verdict"] == "survived":
                    print(planted.change, flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(results, indent=1), "utf-8")

            in_parallel(workers, [lambda worker, place=place: run(place, worker) for place in drawn])
        finally:
            for worker in workers:
                worker.close()
    print(summary(results, len(every), time.monotonic() - began))
    return 0


def summary(results: Sequence[dict[str, Any]], every: int, seconds: float) -> str:
    """The score in words, with and without mutants of messages."""
    lines = [f"{len(results)} of {every} mutants in {seconds / 3600:.2f} hours"]
    for name, some in (
        ("all", results),
        ("without those of messages alone", [each for each in results if not each["message"]]),
    ):
        counted = [each for each in some if each["verdict"] != "broken"]
        caught = sum(each["verdict"] == "caught" for each in counted)
        low, high = interval(caught, len(counted))
        lines.append(
            f"{name}: {caught} of {len(counted)} caught, {caught / max(len(counted), 1):.1%} "
            f"(95 %: {low:.1%} to {high:.1%}); {len(some) - len(counted)} could not be imported"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
