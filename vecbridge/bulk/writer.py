"""The bulk write as people call it: its arguments, and the files that it keeps."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Final, TypeAlias

from vecbridge import records
from vecbridge.bulk.batches import DeadLetters
from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.journal import Header, Journal
from vecbridge.bulk.progress import Progress
from vecbridge.bulk.run import Policy, Run, requests_at_once
from vecbridge.bulk.stages import StageTimes
from vecbridge.bulk.targets import Target, as_target
from vecbridge.errors import ConfigError
from vecbridge.front.arguments import OnConflict, require_count, require_on_conflict
from vecbridge.front.telemetry import bulk_write
from vecbridge.query import WriteReport
from vecbridge.sources.deadletters import OnDeadLetter
from vecbridge.store import Collection

_LOG: Final = logging.getLogger(__name__)

StrPath: TypeAlias = "str | os.PathLike[str]"
#: Batches, one or many; or a function that reads them and hands what it cannot read to the given callback.
Source: TypeAlias = "Iterable[records.Records] | records.Records | Callable[[OnDeadLetter], Any]"


def write(
    collection: Collection | Target,
    batches: Source,
    *,
    on_conflict: OnConflict = "replace",
    grow: bool = False,
    workers: int | None = None,
    journal: StrPath | None = None,
    dead_letters: StrPath | DeadLetterFile | None = None,
    max_failures: int | None = None,
    max_rate: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    source: str = "",
) -> WriteReport:
    """Writes many batches, in parallel where that is faster; a few of them are in memory at a time.

    Transient errors are retried, with growing pauses. Rows that cannot be stored become dead letters, and the
    others are written. Of rows with the same id the last wins, whatever the number of workers.

    Args:
        collection: Where they go; or a ``vecbridge.bulk.NewCollection``, which is made when a row for it was
            read, and removed again if none was acknowledged.
        batches: Batches as :func:`vecbridge.batch` builds them, tables, DataFrames or lists of dicts, one or
            an iterable of them; read lazily, in the caller's thread. Or a function that takes a callback for
            records that cannot be read and returns such an iterable; they are dead letters of this write.
        on_conflict: What becomes of rows whose ids are there: "replace" what is there, "skip" the row, or
            "error": the row is a dead letter. A row that an earlier attempt of this run may have written is
            sent again as replacing.
        grow: Add columns that the collection does not have as fields, at most 32 a run, of the type of their
            first batch (json if it is mixed). A value that does not fit later is a dead letter. Text in a
            json column is JSON text, as everywhere.
        workers: Requests of this write that are in flight at a time, at most; None is as many as the store
            takes. Their number follows the backend, from ``capabilities.parallel_requests`` up to
            ``capabilities.max_parallel_requests``, and it is 1 where a backend gains nothing from more.
            One that waits to be sent again does not count.
        journal: A file that records which batches are settled. The same call may always be made again, after
            a crash, an error or success: it reads the source again and sends only what is not settled, such
            as rows that the source has got at its end since.
        dead_letters: A file to which the rows that cannot be stored are appended, a line of JSON each, with
            the reason; ``vecbridge load`` reads it.
        max_failures: More failed rows than this end the write.
        max_rate: Rows a second that are sent, at most; those that are sent again count again.
        progress: Called in the caller's thread as rows are settled.
        source: What the journal calls the source; a journal continues only for the same one.

    Returns:
        What became of the rows: read = written + failed + duplicates + skipped. Of rows with the same id,
        one counts as written and the others as duplicates, in whatever batches they stand; to know them, 8
        bytes of memory a row are kept. The report counts what earlier runs of the journal settled, too;
        ``recalled`` says how many rows those are, and ``failures`` has the first hundred that this one met,
        with positions in the source.

    Raises:
        ConfigError: An argument that cannot be right, or a dead-letter file that cannot be used.
        JournalError: The journal is another run's, or the source has changed or become shorter.
        EmbedderMismatchError: Vectors from another model than the collection's.
        PartialWriteError: More than ``max_failures`` rows failed; carries the report.
        StorageFullError: No room for the rows, the journal or the dead letters.
        BackendError: The backend refuses every request, or retries ran out. What was acknowledged until then
            stays, and the journal knows it.

    Example:
        >>> import numpy as np
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> batches = (vb.batch(spec, id=[str(n)], vector=np.ones((1, 2))) for n in range(3))
        >>> with vb.connect("memory://") as store:
        ...     vb.write(store.create(spec), batches).written
        3
    """
    if workers is not None:
        require_count("workers", workers)
    require_on_conflict(on_conflict)
    if max_failures is not None and max_failures < 0:
        raise ConfigError(f"max_failures={max_failures}: a whole number from 0, or None")
    target = as_target(collection)
    is_new = target.collection is None
    options: dict[str, Any] = {"dead_letters": dead_letters is not None}
    if on_conflict != "replace":
        options["on_conflict"] = on_conflict
    with ExitStack() as stack:

        def open_journal(opened: Collection) -> Journal | None:
            if journal is None:
                return None
            begun = stack.enter_context(Journal(journal, Header.of(opened, source, options)))
            begun.require_target(opened, is_new=is_new)
            return begun

        file = dead_letters
        if file is not None and not isinstance(file, DeadLetterFile):
            file = stack.enter_context(DeadLetterFile(file))
        policy = Policy(on_conflict, grow, max_failures, max_rate)
        at_once = requests_at_once(target.capabilities, workers)
        stages = StageTimes({"source": 1, "check": 1, "store": at_once})
        run = Run(target, open_journal, DeadLetters(file, source), policy, progress, stages)
        return observed(target, lambda: run.write(batches, workers))


def observed(target: Target, run: Callable[[], WriteReport]) -> WriteReport:
    """Does a bulk write within a span, with its counts, and logs its end."""
    name, backend, begun = target.spec.name, target.capabilities.backend, time.monotonic()
    with bulk_write(name, backend) as observe:
        report = run()
        observe(report)
    seconds = time.monotonic() - begun
    counts = ("written", "failed", "retried", "duplicates", "skipped")
    _LOG.info(
        "%s: %d rows written to %s, %d failed, in %.1f s",
        backend, report.written, name, report.failed, seconds,
        extra={"backend": backend, "collection": name, "seconds": seconds}
        | {each: getattr(report, each) for each in counts},
    )  # fmt: skip
    return report
