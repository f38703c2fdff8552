"""The memory of another process."""

from __future__ import annotations

from pathlib import Path


def anonymous(process: int) -> int:
    """Bytes of RAM that are of no file; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
