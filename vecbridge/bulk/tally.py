"""What became of the rows of a run: counts, the first failures, and when there are too many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from vecbridge.bulk.progress import Progress
from vecbridge.bulk.stages import StageTimes
from vecbridge.errors import Failure, PartialWriteError
from vecbridge.query import WriteReport

KEPT_FAILURES: Final = 100


def _no_progress(progress: Progress) -> None:
    """Default progress callback: does nothing."""


class Tally:
    """Counts the rows of one run; in one thread.

    Args:
        max_failures: Failed rows that end the run, if there are more.
        progress: Is called as rows are settled.
        stages: How busy the stages of the run are.
    """

    def __init__(
        self, max_failures: int | None, progress: Callable[[Progress], None] | None, stages: StageTimes
    ) -> None:
        self.progress = Progress()
        self._max_failures = max_failures
        self._show = progress or _no_progress
        self._stages = stages
        self._failures: list[Failure] = []

    def count(self, **more: int) -> None:
        """Adds to counts of the progress, by their names."""
        counts = {name: getattr(self.progress, name) + number for name, number in more.items()}
        self.progress = replace(self.progress, **counts)

    def keep(self, failures: Sequence[Failure]) -> None:
        """Keeps failures for the report: the first hundred of the run."""
        self._failures += failures[: max(KEPT_FAILURES - len(self._failures), 0)]

    def require_few_failures(self) -> None:
        """Ends the run where more rows failed than may.

        Raises:
            PartialWriteError: Carries the report.
        """
        if self._max_failures is not None and self.progress.failed > self._max_failures:
            raise PartialWriteError(self.report())

    def show(self, *, at_end: bool = False) -> None:
        """Calls the caller's function with the progress; at the end with the averages of the whole run."""
        shares = self._stages.average() if at_end else self._stages.shares()
        self._show(replace(self.progress, seconds=self._stages.seconds, stages=shares))

    def report(self) -> WriteReport:
        """What became of the rows so far."""
        now = self.progress
        failures = tuple(sorted(self._failures, key=lambda failure: failure.row))
        return WriteReport(
            now.written, now.failed, now.retried, now.duplicates, now.skipped, failures, now.recalled
        )
