"""``python -m vecbridge.testing.weaviate``: serves until it is interrupted."""

from __future__ import annotations

import argparse
import sys

from vecbridge.testing.stopping import told_to_stop
from vecbridge.testing.weaviate.emulator import Emulator


def main() -> None:
    """Serves; the URL for vecbridge is the one line on stdout."""
    parser = argparse.ArgumentParser(
        "python -m vecbridge.testing.weaviate", description="An emulated Weaviate."
    )
    parser.add_argument("--port", type=int, default=8080, help="of REST; 0 is a free one")
    parser.add_argument("--grpc-port", type=int, default=50051, help="of gRPC; 0 is a free one")
    parser.add_argument("--api-key", default="", help="the key it takes; without one, anybody may call")
    options = vars(parser.parse_args())
    with told_to_stop() as wait, Emulator(**options) as emulator:
        sys.stdout.write(f"{emulator.url}\n")
        sys.stdout.flush()
        wait()


if __name__ == "__main__":
    main()
