"""Bulk writing: bounded and parallel, with retries, bisection, dead letters, a journal and progress."""

from vecbridge.bulk.writer import Progress, write

__all__ = ["Progress", "write"]
