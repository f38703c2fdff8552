"""What `import vecbridge` and `vecbridge --help` cost, beside `import numpy` in the same run.

Prints a table and writes results/import_cost.json and a bar chart beside it. Each figure is the best
of several fresh interpreters, less the best bare start of one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from support.harness import Line, Target, machine

ROUNDS = 15
RESULTS = Path(__file__).parent / "results"
BARE = "bare interpreter"
BASELINE = "import numpy"
TARGETS = {"import vecbridge": Target("figure", "<=", 150)}
CODE = {
    BARE: "pass",
    BASELINE: "import numpy",
    "import vecbridge": "import vecbridge",
    "vecbridge --help": (
        "import sys; sys.argv = ['vecbridge', '--help']; from vecbridge.cli.main import main; main()"
    ),
}


def seconds(code: str) -> float:
    """Wall time of one fresh interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure() -> dict[str, float]:
    """Best seconds of each, taken in turns, so that a busy moment of the machine hits all alike."""
    best = dict.fromkeys(CODE, float("inf"))
    for _ in range(ROUNDS):
        for name, code in CODE.items():
            best[name] = min(best[name], seconds(code))
    return best


def draw(milliseconds: dict[str, float], path: Path) -> None:
    """One bar for each."""
    figure, axes = plt.subplots(figsize=(6, 2), layout="constrained")
    bars = axes.barh(list(milliseconds), list(milliseconds.values()), color="#00897b")
    axes.bar_label(bars, fmt="%.0f ms", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("milliseconds beyond a bare interpreter")
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure, print, write; 1 if a target does not hold."""
    best = measure()
    bare = best.pop(BARE)
    own = {name: round(1000 * (total - bare), 1) for name, total in best.items()}
    ratios = {name: round(cost / own[BASELINE], 2) for name, cost in own.items()}
    print(f"{'':<18} {'ms':>8} {'x numpy':>8}   (a bare interpreter starts in {1000 * bare:.0f} ms)")
    for name, cost in own.items():
        print(f"{name:<18} {cost:>8} {ratios[name]:>8}")
    RESULTS.mkdir(exist_ok=True)
    lines = [
        Line("import", name, "ms", cost, own[BASELINE], BASELINE, TARGETS.get(name))
        for name, cost in own.items()
        if name != BASELINE
    ]
    values = {
        "machine": machine(),
        "parameters": {"rounds": ROUNDS, "bare_ms": round(1000 * bare, 1)},
        "lines": [line.to_dict() for line in lines],
    }
    (RESULTS / "import_cost.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    draw(own, RESULTS / "import_cost.png")
    return 0 if all(line.holds is not False for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
