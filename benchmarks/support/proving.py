"""How long a proof takes: every level of verify, FAISS beside a snapshot."""

from __future__ import annotations

from functools import partial

import vecbridge as vb
from support.harness import Line, Samples, Target, in_turns, seconds
from support.moving import MovingBench, copied, in_files

TIMES_LARGER = 5
ROUNDS = 3
LIMITS = {"search": Target("figure", "<=", 30)}


def proofs(bench: MovingBench) -> list[Line]:
    """All levels, the last with 1,000 queries."""
    rows = TIMES_LARGER * bench.rows
    source = bench.filled("faiss", rows, vb.HNSW(16, 200))
    with in_files(bench, "snapshot") as target:
        copied(bench, source, target, rows)
        levels = {
            level: partial(verified, source, target, level) for level in ("count", "ids", "content", "search")
        }
        runs = in_turns(levels, ROUNDS)
    lines = []
    for level, times in runs.items():
        samples = Samples(tuple(times))
        what = f"FAISS → snapshot, {rows:,} x {bench.dim}, level {level}"
        lines.append(
            Line("verify", what, "s", samples.median, target=LIMITS.get(level), spread=(samples, samples))
        )
    return lines


def verified(source: str, target: str, level: str) -> float:
    """Seconds of a proof, which must hold."""
    taken, found = timed(source, target, level)
    if found:
        raise RuntimeError(f"verify {source} {target}: {found}")
    return taken


def timed(source: str, target: str, level: str) -> tuple[float, list[str]]:
    """Seconds of a proof, and what it found."""
    made: list[vb.Proof] = []
    taken = seconds(lambda: made.append(vb.verify(source, target, level=level)))
    return taken, [f"{each.kind}: {each.detail}" for each in made[0].findings]
