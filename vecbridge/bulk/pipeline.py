"""The stages in front of a bulk write, which run at the same time: find, read and decode, embed.

::

    find ──────> read ──────> gather ──────> embed ──────> check ──────> store
    a thread     a pool       a thread       a thread      the caller    the run's workers

Each arrow is a queue that holds a few items, so that memory is bounded and the slowest stage sets the speed.
Gathering puts what was read in the order of the source, and into batches, so that the embedder's thread does
nothing else. An error of any stage comes out at the end, in the caller's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from vecbridge.bulk.channel import Channel, ClosedChannelError
from vecbridge.bulk.groups import Entry, Group, SettledGroup, grouped
from vecbridge.bulk.handover import (
    Aside,
    Bad,
    Done,
    Embedded,
    End,
    Failed,
    Found,
    Gathered,
    Intake,
    LeftOut,
    Recalled,
    Sizes,
)
from vecbridge.bulk.idcheck import IdCheck
from vecbridge.bulk.itemjournal import ItemLedger
from vecbridge.bulk.journal import Settled
from vecbridge.bulk.stages import StageTimes
from vecbridge.closing import Closing
from vecbridge.embed.base import Embedder
from vecbridge.embed.items import ItemReader, ReadItem, Ready, build, embed
from vecbridge.errors import InvalidRecordError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.images import Item
from vecbridge.sources.items import identify
from vecbridge.sources.reading import SourceItem
from vecbridge.sources.texts import TextItem

STAGES: Final = ("find", "read", "embed", "check", "store")
LOOKED_UP: Final = 4  # groups whose ids are looked up together
GATHERED: Final = 1  # batches that wait for the embedder
EMBEDDED: Final = 2  # batches that wait for the check
IDLE_SECONDS: Final = 0.2  # without a new batch, after which the run settles what was delivered meanwhile
LEAVE_SECONDS: Final = 1.0  # that a source which waits for something gets to end


class Pipeline(Closing):
    """The stages in front of a run; closing it ends their threads.

    Args:
        source: The items, in a fixed order.
        check: Looks their ids up; settled groups are not looked up.
        embedder: Makes the vectors.
        spec: The collection's.
        reader: Reads and decodes an item.
        ledger: What is settled already, and what will be.
        stages: Measures how busy the stages are.
        sizes: How much is in flight.
        on_dead_letter: Is told of each item that cannot be read, decoded or embedded.
    """

    def __init__(
        self,
        source: Iterable[Item | DeadLetter],
        check: IdCheck,
        embedder: Embedder,
        spec: CollectionSpec,
        reader: ItemReader,
        ledger: ItemLedger,
        stages: StageTimes,
        sizes: Sizes,
        on_dead_letter: OnDeadLetter | None = None,
    ) -> None:
        self._source, self._check, self._embedder, self._spec = source, check, embedder, spec
        self._reader, self._ledger, self._stages, self._sizes = reader, ledger, stages, sizes
        self._on_dead_letter = on_dead_letter
        self._found: Channel[Found | LeftOut | End | DeadLetter | Failed | None] = Channel(sizes.read_ahead)
        self._gathered: Channel[Gathered | Aside] = Channel(GATHERED)
        self._embedded: Channel[Embedded | Aside] = Channel(EMBEDDED)
        self._pool = ThreadPoolExecutor(sizes.readers, thread_name_prefix="vecbridge-read")
        self._threads: list[threading.Thread] = []
        self._bytes = 0

    def batches(self, run: Intake) -> Iterator[pa.RecordBatch]:
        """Starts the stages; the checked batches, in the order of the source.

        Args:
            run: Takes what becomes no batch, and is asked for nothing else meanwhile.
        """
        known = dict(self._ledger.known)
        self._start(lambda: self._find(known, self._ledger.path), self._found, "find")
        self._start(self._gather, self._gathered, "gather")
        self._start(self._embed, self._embedded, "embed")
        counted = 0
        while True:
            try:
                outcome = self._embedded.get(IDLE_SECONDS)
            except TimeoutError:
                run.collect()
                continue
            run.count_bytes(self._bytes - counted)
            counted = self._bytes
            match outcome:
                case None:
                    return
                case Failed(error):
                    raise error
                case DeadLetter():
                    self._set_aside(outcome, run)
                case Bad(group, position, letter):
                    group.bad.append(position)
                    self._set_aside(letter, run)
                case Recalled(settled, ids):
                    self._check.skipped += len(settled.left_out)
                    run.recall(_as_rows(settled), pa.array(ids, pa.string()))
                case End(group):
                    self._ledger.read(group)
                case Embedded():
                    yield from self._checked(outcome, run)

    def _set_aside(self, letter: DeadLetter, run: Intake) -> None:
        if self._on_dead_letter is not None:
            self._on_dead_letter(letter)
        run.take(letter)

    def close(self) -> None:
        """Ends the stages: a batch that is being embedded is finished and dropped."""
        self._found.close()
        self._gathered.close()
        self._embedded.close()
        self._pool.shutdown(cancel_futures=True)
        for thread in self._threads:
            thread.join(LEAVE_SECONDS if thread.name.endswith("find") else None)

    def _start(self, stage: Callable[[], None], output: Channel[Any], name: str) -> None:
        def run() -> None:
            try:
                stage()
                output.put(None)
            except (ClosedChannelError, CancelledError):
                pass  # the run has ended
            except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
                with suppress(ClosedChannelError):
                    output.put(Failed(exc))

        thread = threading.Thread(target=run, name=f"vecbridge-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # -------------------------------------------------------------------------------------------- find

    def _find(self, known: dict[int, SettledGroup], journal: str) -> None:
        """Walks through the source, looks ids up, and has the items read in order."""
        entries = self._looked_up(grouped(self._source, known, journal))
        while True:
            with self._stages.work("find"):
                entry = next(entries, None)
            if entry is None:
                return
            self._found.put(self._sent(entry))

    def _sent(self, entry: Entry) -> Found | LeftOut | End | DeadLetter:
        """An item, handed to the readers."""
        group, what = entry.group, entry.what
        if what is None:
            return End(group)
        if isinstance(what, DeadLetter):
            return what
        left_out = group.left_out if group.settled is None else group.settled.left_out
        if entry.position in left_out:
            return LeftOut(group, entry.position, what)
        work = self._read if group.settled is None else self._identify
        if isinstance(what, TextItem):  # it was read already
            return Found(group, entry.position, what, Done(work(what)))
        try:
            return Found(group, entry.position, what, self._pool.submit(work, what))
        except RuntimeError:  # the pool is closed
            raise ClosedChannelError from None

    def _looked_up(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The entries; the ids of groups that are not settled are looked up, about a thousand together."""
        waiting: list[Entry] = []
        groups = 0
        for entry in entries:
            if not self._check.is_needed or (entry.group.settled is not None and not waiting):
                yield entry
                continue
            waiting.append(entry)
            groups += entry.what is None
            if groups == LOOKED_UP:
                yield from self._without_conflicts(waiting)
                waiting, groups = [], 0
        yield from self._without_conflicts(waiting)

    def _without_conflicts(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Notes in the groups which items are to be left out."""
        fresh = [entry for entry in entries if entry.group.settled is None and entry.position >= 0]
        items = [entry.what for entry in fresh if entry.what is not None]
        kept = {id(item) for item in self._check.items(items)}
        for entry in fresh:
            if id(entry.what) not in kept:
                entry.group.left_out.append(entry.position)
        return entries

    # -------------------------------------------------------------------------------------------- read

    def _read(self, item: Item) -> ReadItem:
        with self._stages.work("read"):
            return self._reader(item)

    def _identify(self, item: Item) -> SourceItem | None:
        with self._stages.work("read"):
            try:
                return identify(item)
            except InvalidRecordError:
                return None

    # ------------------------------------------------------------------------------------------ gather

    def _gather(self) -> None:
        """Takes the items in order, and passes batches on; a batch is of one group."""
        positions: list[int] = []
        rows: list[Ready] = []
        ids: list[str] = []
        while (work := self._found.get()) is not None:
            match work:
                case Failed(error):
                    raise error
                case DeadLetter():
                    self._gathered.put(work)
                case LeftOut(group, _, item):
                    group.digest.add(item, None)
                case Found(group) if group.settled is not None:
                    ids += self._compared(work)
                case Found():
                    ready = self._ready(work)
                    if ready is not None:
                        positions.append(work.position)
                        rows.append(ready)
                    if len(rows) == self._sizes.batch_rows:
                        self._gathered.put(Gathered(work.group, positions, rows))
                        positions, rows = [], []
                case End(group):
                    if rows:
                        self._gathered.put(Gathered(group, positions, rows))
                        positions, rows = [], []
                    self._end(group, ids)
                    ids = []

    def _compared(self, found: Found) -> list[str]:
        """Notes what an item of a settled group is now; its id, if it was written."""
        source: SourceItem | None = found.outcome.result()
        found.group.digest.add(found.item, source)
        self._bytes += source.size if source is not None else 0
        bad = found.group.settled is not None and found.position in found.group.settled.bad
        return [source.id] if source is not None and not bad else []

    def _ready(self, found: Found) -> Ready | None:
        """An item that can be embedded; None if it cannot, which is passed on."""
        outcome: ReadItem = found.outcome.result()
        found.group.digest.add(found.item, outcome.source)
        self._bytes += outcome.source.size if outcome.source is not None else 0
        if isinstance(outcome.result, DeadLetter):
            self._gathered.put(Bad(found.group, found.position, outcome.result))
            return None
        return outcome.result

    def _end(self, group: Group, ids: list[str]) -> None:
        if group.settled is None:
            self._gathered.put(End(group))
        else:
            group.require_same(self._ledger.path)
            self._gathered.put(Recalled(group.settled, list(dict.fromkeys(ids))))

    # ------------------------------------------------------------------------------------------- embed

    def _embed(self) -> None:
        """Embeds batches, and passes everything else on in its place."""
        while (work := self._gathered.get()) is not None:
            match work:
                case Failed(error):
                    raise error
                case Gathered(group, positions, rows):
                    with self._stages.work("embed"):
                        vectors = embed(rows, self._embedder)
                    # the pixels are not needed any more
                    slim = [Ready(row.id, row.origin, None, row.columns) for row in rows]
                    self._embedded.put(Embedded(group, positions, slim, vectors))
                case _:
                    self._embedded.put(work)

    # ------------------------------------------------------------------------------------------- check

    def _checked(self, embedded: Embedded, run: Intake) -> Iterator[pa.RecordBatch]:
        """The batches of good rows; there are more than one where an id comes twice."""
        group, positions = embedded.group, embedded.positions
        letters: list[DeadLetter] = []

        def bad_row(row: int, letter: DeadLetter) -> None:
            group.bad.append(positions[row])
            letters.append(letter)

        built = build(embedded.rows, embedded.vectors, self._spec, self._embedder.identity, bad_row)
        while True:
            with self._stages.work("check"):
                good = next(built, None)
            for letter in letters:
                self._set_aside(letter, run)
            letters.clear()
            if good is None:
                return
            batch, rows = good
            self._ledger.expect(group, [positions[row] for row in rows])
            yield batch


def _as_rows(group: SettledGroup) -> Settled:
    """What a settled group adds to the counts of a run."""
    return Settled(
        batch=-1,
        rows=group.items - len(group.left_out),
        digest="",
        written=group.written,
        failed=len(group.bad),
        retried=group.retried,
        duplicates=group.duplicates,
    )
