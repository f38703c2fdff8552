"""The bulk write as people call it: its arguments, and the files that it keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, TypeAlias

from vecbridge import records
from vecbridge.bulk.batches import DeadLetters
from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.journal import Header, Journal
from vecbridge.bulk.progress import Progress
from vecbridge.bulk.run import Policy, Run
from vecbridge.bulk.stages import StageTimes
from vecbridge.bulk.targets import Target, as_target
from vecbridge.errors import ConfigError
from vecbridge.front.arguments import OnConflict, require_count, require_on_conflict
from vecbridge.query import WriteReport
from vecbridge.sources.deadletters import OnDeadLetter
from vecbridge.store import Collection

StrPath: TypeAlias = "str | os.PathLike[str]"
#: Batches, one or many; or a function that reads them and hands what it cannot read to the given callback.
Source: TypeAlias = "Iterable[records.Records] | records.Records | Callable[[OnDeadLetter], Any]"


def write(
    collection: Collection | Target,
    batches: Source,
    *,
    on_conflict: OnConflict = "replace",
    grow: bool = False,
    workers: int = 4,
    journal: StrPath | None = None,
    dead_letters: StrPath | DeadLetterFile | None = None,
    max_failures: int | None = None,
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
        workers: Upserts at a time, at most; one where the backend gains nothing from more.
        journal: A file that records which batches are settled. The same call may always be made again, after
            a crash, an error or success: it reads the source again and sends only what is not settled, such
            as rows that the source has got at its end since.
        dead_letters: A file to which the rows that cannot be stored are appended, a line of JSON each, with
            the reason; ``vecbridge load`` reads it.
        max_failures: More failed rows than this end the write.
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
        policy = Policy(on_conflict, grow, max_failures)
        at_once = upserts_at_once(target, workers)
        stages = StageTimes({"source": 1, "check": 1, "store": at_once})
        run = Run(target, open_journal, DeadLetters(file, source), policy, progress, stages)
        return run.write(batches, at_once)


def upserts_at_once(target: Target, workers: int) -> int:
    """How many upserts are under way at a time: one where the backend gains nothing from more."""
    return workers if target.capabilities.parallel_requests > 1 else 1
