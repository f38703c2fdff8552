"""What became of the rows of all tasks, as one report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from vecbridge.query import WriteReport

#: Failures that one task sends to the driver; all of them are in the dead letters.
FAILURES_A_TASK: Final = 5
#: Failures that the report of a run keeps.
FAILURES: Final = 100


def total(reports: Iterable[WriteReport | None]) -> WriteReport:
    """The sums of several reports, with the first failures.

    Args:
        reports: One a task; None is a task without rows.
    """
    there = [report for report in reports if report is not None]
    return WriteReport(
        written=sum(report.written for report in there),
        failed=sum(report.failed for report in there),
        retried=sum(report.retried for report in there),
        duplicates=sum(report.duplicates for report in there),
        skipped=sum(report.skipped for report in there),
        failures=tuple(failure for report in there for failure in report.failures)[:FAILURES],
    )


def of_task(report: WriteReport) -> WriteReport:
    """The report as a task sends it to the driver, which holds those of all tasks."""
    return replace(report, failures=report.failures[:FAILURES_A_TASK])


def sentence(report: WriteReport, target: str, tasks: int, seconds: float, letters: str | None) -> str:
    """The report of a run as one line.

    Args:
        report: Of all tasks.
        target: The collection's URL.
        tasks: How many there were.
        seconds: From the start of the write to its end.
        letters: The directory of the dead letters, if there is one.
    """
    counts = [f"{report.written:,} rows written", f"{report.failed:,} failed"]
    if report.failed:
        counts[-1] += f" (dead letters in {letters})" if letters else " (no dead_letters= was given)"
    others = {name: getattr(report, name) for name in ("retried", "duplicates", "skipped")}
    counts += [f"{number:,} {name}" for name, number in others.items() if number]
    return f"{target}: {', '.join(counts)}, in {tasks} task{'s' * (tasks != 1)} and {seconds:.1f} s"
