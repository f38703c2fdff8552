"""Make the bundled model: `python -m training.run --work DIR`, after `npm install` in DIR (see README.md)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from training import evaluate, export, gallery, pictures
from training.workspace import Workspace

BUNDLED = Path(__file__).parents[1] / "vecbridge" / "embed" / "bundled"
STAGES = ("pictures", "towers", "joint", "export", "gallery", "evaluate")


def train_towers(work: Workspace, text_minutes: float, vision_minutes: float) -> None:
    """Both towers at once, the text tower on one thread; it ends first and leaves its core to the other."""
    work.tokenizer()
    work.table()
    towers = [_start("training.towers", "text", work, text_minutes, threads=1)]
    towers.append(_start("training.towers", "vision", work, vision_minutes, threads=2))
    for tower in towers:
        if tower.wait():
            raise SystemExit(f"{tower.args!r} failed")


def _start(module: str, *words: object, threads: int) -> subprocess.Popen[bytes]:
    *name, work, minutes = words
    assert isinstance(work, Workspace)
    options = ["--work", work.root, "--minutes", minutes, "--threads", threads]
    command = [sys.executable, "-m", module, *map(str, (*name, *options))]
    # Idle threads must not spin: the towers share the cores.
    return subprocess.Popen(command, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})


def train_joint(work: Workspace, minutes: float) -> None:
    if _start("training.joint", work, minutes, threads=2).wait():
        raise SystemExit("the joint stage failed")


def write_figures(work: Workspace, folder: Path, *, test: bool) -> None:
    figures = evaluate.evaluate(work, folder, test=test)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="holds node_modules, pictures and checkpoints"
    )
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--text-minutes", type=float, default=9)
    parser.add_argument("--vision-minutes", type=float, default=30)
    parser.add_argument("--joint-minutes", type=float, default=27)
    parser.add_argument("--test", action="store_true", help="also measure the test style: once, at the end")
    options = parser.parse_args()
    work = Workspace(options.work.resolve())
    stages: dict[str, Callable[[], object]] = {
        "pictures": lambda: pictures.render_all(work.packages, work.pictures),
        "towers": lambda: train_towers(work, options.text_minutes, options.vision_minutes),
        "joint": lambda: train_joint(work, options.joint_minutes),
        "export": lambda: export.export(work, options.out),
        "gallery": lambda: gallery.write(work.packages, options.out / "gallery"),
        "evaluate": lambda: write_figures(work, options.out, test=options.test),
    }
    for stage in STAGES:
        if stage in options.stages:
            stages[stage]()


if __name__ == "__main__":
    main()
