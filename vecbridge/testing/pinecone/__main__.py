"""``python -m vecbridge.testing.pinecone``: serves until it is interrupted."""

from __future__ import annotations

import argparse
import sys

from vecbridge.testing.pinecone.emulator import Emulator
from vecbridge.testing.stopping import told_to_stop


def main() -> None:
    """Serves; the host of the control plane is the one line on stdout."""
    parser = argparse.ArgumentParser(
        "python -m vecbridge.testing.pinecone", description="An emulated Pinecone."
    )
    parser.add_argument("--port", type=int, default=5080, help="control plane; indexes on the ports after it")
    parser.add_argument("--api-key", default="emulated", help="the key it takes")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds until reads see a write")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every request waits")
    parser.add_argument("--ready-after", type=float, default=0.0, help="seconds until a new index is ready")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    options = vars(parser.parse_args())
    with told_to_stop() as wait, Emulator(**options) as emulator:
        sys.stdout.write(f"{emulator.host}\n")
        sys.stdout.flush()
        wait()


if __name__ == "__main__":
    main()
