"""What `import vecbridge` and `vecbridge --help` cost, beside `import numpy` in the same run.

Prints a table and writes benchmarks/results/import_cost.json. Each figure is the best of several
fresh interpreters, less the best bare start of one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import vecbridge": ["-c", "import vecbridge"],
    "vecbridge --help": ["-m", "vecbridge.cli.main", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one fresh interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns, so that a busy moment of the machine hits all alike."""
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            best[name] = min(best[name], seconds(arguments))
    bare = best.pop("bare interpreter")
    numpy = best["import numpy"] - bare
    rows = [
        {
            "what": name,
            "ms": round(1000 * (time_ - bare), 1),
            "ratio_to_numpy": round((time_ - bare) / numpy, 2),
        }
        for name, time_ in best.items()
    ]
    print(f"{'':<18} {'ms':>8} {'x numpy':>8}   (a bare interpreter starts in {1000 * bare:.0f} ms)")
    for row in rows:
        print(f"{row['what']:<18} {row['ms']:>8} {row['ratio_to_numpy']:>8}")
    path = Path(__file__).parent / "results" / "import_cost.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"bare_ms": round(1000 * bare, 1), "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
