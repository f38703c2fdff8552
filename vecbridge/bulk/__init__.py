"""Bulk writing: bounded and parallel, with retries, bisection, dead letters, a journal and progress."""

from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.ingesting import ingest
from vecbridge.bulk.progress import Progress
from vecbridge.bulk.targets import ExistingCollection, NewCollection, Target, as_target
from vecbridge.bulk.writer import write

__all__ = [
    "DeadLetterFile",
    "ExistingCollection",
    "NewCollection",
    "Progress",
    "Target",
    "as_target",
    "ingest",
    "write",
]
