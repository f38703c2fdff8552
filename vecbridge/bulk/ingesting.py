"""From pictures and texts to records: the pipeline as people call it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, TypeAlias

from vecbridge.bulk.batches import DeadLetters
from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.groups import GROUP_ITEMS
from vecbridge.bulk.handover import Sizes
from vecbridge.bulk.idcheck import IdCheck, OnConflict
from vecbridge.bulk.itemjournal import ItemJournal, ItemLedger
from vecbridge.bulk.journal import Header
from vecbridge.bulk.pipeline import STAGES, Pipeline
from vecbridge.bulk.progress import Progress
from vecbridge.bulk.run import Policy, Run, requests_at_once
from vecbridge.bulk.stages import StageTimes
from vecbridge.bulk.targets import Target, as_target
from vecbridge.bulk.writer import StrPath, observed
from vecbridge.embed.base import Embedder
from vecbridge.embed.items import ItemReader, require_fit
from vecbridge.embed.pipeline import reader_threads
from vecbridge.errors import ConfigError
from vecbridge.front.arguments import require_count
from vecbridge.identity import SourceIds
from vecbridge.query import WriteReport
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import ImageSource, Item
from vecbridge.store import Collection

BATCH_ROWS: Final = 64
#: Folders, files and globs; or an :class:`ImageSource`, or items of one's own.
ItemSource: TypeAlias = (
    "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[Item | DeadLetter]"
)


def ingest(
    source: ItemSource,
    embedder: Embedder,
    collection: Collection | Target,
    *,
    on_conflict: OnConflict | IdCheck = "stop",
    batch_rows: int = BATCH_ROWS,
    readers: int | None = None,
    max_pixels: int | None = None,
    workers: int | None = None,
    journal: StrPath | None = None,
    dead_letters: StrPath | DeadLetterFile | None = None,
    max_failures: int | None = None,
    max_rate: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    name: str | None = None,
) -> WriteReport:
    """Embeds pictures and texts and writes them, a stream of any length in bounded memory.

    Finding files, reading and decoding them, embedding, checking and writing happen at the same time, so that
    the whole takes about as long as its slowest stage. In memory are the pictures of three batches, a few
    batches of vectors, and what the store has in flight.

    Args:
        source: Folders, files and globs, as :class:`~vecbridge.sources.images.ImageSource` takes them (with
            ``.txt`` files, and with the ids of the collection); or such a source; or items, always in the
            same order.
        embedder: As :func:`vecbridge.embedder` loads it.
        collection: Where the records go: one vector field and string ids. Or a
            ``vecbridge.bulk.NewCollection``, which is made when a record for it is ready, and removed again
            if none was acknowledged.
        on_conflict: Where an id stands for another file already, or a file has another id: "stop", "skip"
            or "replace".
        batch_rows: Items that are embedded together, 256 at most.
        readers: Threads that read and decode; None is one a core, 32 at most.
        max_pixels: Refuse pictures with more pixels.
        workers: Requests of this run that are in flight at a time, at most; None is as many as the store
            takes, as of :func:`vecbridge.write`.
        journal: A file that records which items are settled, in groups of 256. The same call may always be
            made again: settled groups are read, to see whether they are still the same, but neither decoded
            nor embedded nor sent. What has come at the end of the source since is added.
        dead_letters: A file to which the items that cannot be read or stored are appended, with the reason.
        max_failures: More failures than this end the run.
        max_rate: Rows a second that are sent, at most.
        progress: Called in the caller's thread as rows are settled.
        name: What the journal calls the source; None takes the paths.

    Returns:
        What became of the items: read = written + failed + duplicates, and ``recalled`` of them were settled
        by earlier runs. Items that ``on_conflict="skip"`` leaves out are not counted.

    Raises:
        ConfigError: An argument that cannot be right, or a source without a file.
        IdConflictError: An id stands for another file.
        EmbedderMismatchError: The collection holds vectors of another model.
        DimensionMismatchError: Its vectors have another length.
        JournalError: The journal is another run's, or the source has changed or become shorter; the message
            names the files between which it has.
        PartialWriteError: More than ``max_failures`` items failed; carries the report.
        BackendError: The backend refuses every request, or retries ran out.

    Example:
        >>> import vecbridge as vb
        >>> from vecbridge.embed.files import BUNDLED
        >>> with vb.embedder("bundled") as model, vb.connect("memory://") as store:
        ...     fields = {"path": "string", "width": "int64"}
        ...     spec = vb.CollectionSpec.single("p", dim=model.dim, fields=fields, embedder=model.identity)
        ...     vb.ingest(BUNDLED / "gallery" / "1f43*.png", model, store.create(spec)).written
        10
    """
    if workers is not None:
        require_count("workers", workers)
    if not 1 <= batch_rows <= GROUP_ITEMS:
        raise ConfigError(f"batch_rows={batch_rows}: from 1 to {GROUP_ITEMS}")
    if max_failures is not None and max_failures < 0:
        raise ConfigError(f"max_failures={max_failures}: a whole number from 0, or None")
    threads = reader_threads(readers)
    target = as_target(collection)
    spec = target.spec
    require_fit(spec, embedder)
    reader = ItemReader(embedder, spec, max_pixels)
    items, paths = _items(source, spec)
    check = (
        on_conflict
        if isinstance(on_conflict, IdCheck)
        else IdCheck(target.collection, on_conflict=on_conflict)
    )
    options: dict[str, Any] = {"dead_letters": dead_letters is not None, "group_items": GROUP_ITEMS}
    options |= {"embedder": str(embedder.identity), "max_pixels": max_pixels}
    at_once = requests_at_once(target.capabilities, workers)
    stages = StageTimes(dict.fromkeys(STAGES, 1) | {"read": threads, "store": at_once})
    with ExitStack() as stack:
        file = dead_letters
        if file is not None and not isinstance(file, DeadLetterFile):
            file = stack.enter_context(DeadLetterFile(file))
        letters = DeadLetters(file, paths)

        def open_journal(path: StrPath, opened: Collection) -> ItemJournal:
            header = Header.of(opened, paths if name is None else name, options)
            return stack.enter_context(ItemJournal(path, header))

        opener = None if journal is None else partial(open_journal, journal)
        ledger = ItemLedger(opener, letters, is_new=target.collection is None)
        run = Run(
            target, ledger.open, letters, Policy("replace", False, max_failures, max_rate), progress, stages
        )
        pipeline = stack.enter_context(
            Pipeline(items, check, embedder, spec, reader, ledger, stages, Sizes(batch_rows, threads))
        )
        # what is settled must be known before anything is read
        resumes = journal is not None and target.collection is not None and os.path.exists(journal)  # noqa: PTH110
        return observed(
            target, lambda: run.write(lambda take: pipeline.batches(run), workers, open_first=resumes)
        )


def _items(source: ItemSource, spec: CollectionSpec) -> tuple[Iterable[Item | DeadLetter], str]:
    """The items, and the paths that they come from, if those are known."""
    if isinstance(source, ImageSource):
        return source.unread(), " ".join(source.given)
    given = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(given, Iterable):
        raise ConfigError(f"source: {type(source).__name__} is no path and no stream of items")
    if not isinstance(given, Sequence) or not all(isinstance(each, str | os.PathLike) for each in given):
        return given, ""  # type: ignore[return-value]  # what else it may be, the first item will tell
    ids = spec.ids or SourceIds()
    return ImageSource(given, texts=True, ids=ids).unread(), " ".join(map(os.fspath, given))
