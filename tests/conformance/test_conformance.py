"""The conformance suite on the stores that vecbridge brings along; ``--stores`` picks some."""

from __future__ import annotations

from vecbridge.testing.suite import *  # noqa: F403
