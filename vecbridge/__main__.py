"""``python -m vecbridge`` is the command line."""

from __future__ import annotations

from vecbridge.cli.main import main

if __name__ == "__main__":
    main()
