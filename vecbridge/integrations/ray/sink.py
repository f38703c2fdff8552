"""Writes a Ray dataset into a collection, by as many tasks as Ray likes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.fs as fs

from vecbridge.bulk.run import MAX_PART_ROWS
from vecbridge.bulk.writer import StrPath
from vecbridge.collection import Collection
from vecbridge.errors import ConfigError, PartialWriteError, UnsupportedError
from vecbridge.front.arguments import IfExists, OnConflict, require_count, require_if_exists
from vecbridge.integrations.ray.address import Address, HeldStore
from vecbridge.integrations.ray.installed import Block, DataContext, Datasink, WriteResult
from vecbridge.integrations.ray.letters import TaskLetters
from vecbridge.integrations.ray.report import of_task, sentence, total
from vecbridge.integrations.ray.task import Task
from vecbridge.query import WriteReport
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.urls import StoreURL, parse

_ROW_BYTES: Final = 256  # of a record without its vectors, roughly
_held = HeldStore()


class VecbridgeDatasink(Datasink):  # type: ignore[misc]  # Ray counts as untyped
    """The sink of a Ray dataset: ``dataset.write_datasink(VecbridgeDatasink(url, spec))``.

    The collection is made on the driver before any task begins. Each task opens it anew, or takes the
    connection that the last task of the same run left in its process, and upserts its rows. Upserts are
    idempotent: a task that Ray repeats, and a run that goes on from a Ray checkpoint, store no row twice.

    Rows that cannot be stored (a null id, NaN, a repeated id, what the backend refuses) are dead letters and
    do not end the job. Columns that the collection does not have do.

    Args:
        url: Of the store, or with ``#collection`` of the collection. Passwords and keys stand in the
            environment of every node.
        spec: The collection to make; None opens the one that the URL names.
        if_exists: "open", "error" or "replace", as :meth:`vecbridge.Store.create` has it.
        namespace: Which namespace all rows go to.
        namespace_column: Or the column that says so row by row. It is stored too if the spec declares it.
        on_conflict: "replace" what is there under an id, or "skip" the row. Not "error": what an attempt has
            written before it was killed would fail the next one.
        dead_letters: A directory on a disk that all nodes share, for a JSONL file a task.
        max_failures: More failed rows than this end the task, and the run once they add up to more.
        rows_per_write: Rows of a task, at least; None is what fills the requests that the store takes at a
            time, in rows or in bytes.
        workers: Upserts at a time of one task, at most.
        on_report: Receives the report at the end, as one line.
        **options: As for :func:`vecbridge.connect`.

    Attributes:
        report: Of the last run; None before its end. Rows that repeat an id count as duplicates where one
            task has both.

    Raises:
        ConfigError: Arguments that cannot be right, or a secret among them.
        UnsupportedError: A store in the memory of one process.

    Example::

        spec = vb.CollectionSpec.single("photos", dim=2)
        rows = ray.data.from_items([{"id": "a", "vector": [1.0, 0.0]}])
        rows.write_datasink(VecbridgeDatasink("milvus://localhost:19530", spec))
    """

    def __init__(
        self,
        url: str | StoreURL,
        spec: CollectionSpec | None = None,
        *,
        if_exists: IfExists = "open",
        namespace: str = "",
        namespace_column: str | None = None,
        on_conflict: OnConflict = "replace",
        dead_letters: StrPath | None = None,
        max_failures: int | None = None,
        rows_per_write: int | None = None,
        workers: int = 4,
        on_report: Callable[[str], None] = print,
        **options: Any,
    ) -> None:
        parsed = parse(url)
        self._name = _name(parsed, spec)
        self._namespace = parsed.namespace or namespace
        if namespace and parsed.namespace not in (None, namespace):
            raise ConfigError(f"namespace={namespace!r}, and {parsed.namespace!r} in the URL")
        if self._namespace and namespace_column:
            raise ConfigError("namespace= or namespace_column=, not both")
        if on_conflict not in ("replace", "skip"):
            raise ConfigError(
                f'on_conflict={on_conflict!r}: "replace" or "skip"; with another one a task that Ray repeats '
                "would refuse what its first attempt has written"
            )
        if max_failures is not None and max_failures < 0:
            raise ConfigError(f"max_failures={max_failures}: a whole number from 0, or None")
        require_if_exists(if_exists)
        self._spec, self._if_exists = spec, if_exists
        self._namespace_column, self._on_conflict = namespace_column, on_conflict
        self._dead_letters = None if dead_letters is None else str(Path(dead_letters).absolute())
        self._max_failures = max_failures
        self._rows_per_write = rows_per_write
        if rows_per_write is not None:
            require_count("rows_per_write", rows_per_write)
        self._workers = require_count("workers", workers)
        self._address = Address(parsed.without_collection(), options)
        self._on_report: Callable[[str], None] | None = on_report
        self._run = uuid.uuid4().hex
        self._begun: float | None = None
        self.report: WriteReport | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For the tasks: what the driver alone uses stays there."""
        return self.__dict__ | {"_on_report": None, "report": None}

    # ------------------------------------------------------------------------------------- on the driver

    def on_write_start(self, schema: Any = None) -> None:
        """Makes the collection, or looks whether it is there; Ray calls it on the driver.

        Args:
            schema: Of the dataset, if Ray knows it.

        Raises:
            ConfigError: A Ray checkpoint of another collection: its rows would be missing in a new one.
        """
        self.report, self._begun = None, time.monotonic()
        with self._address.connect() as store:
            if self._if_exists == "replace" or self._name not in store.collections():
                _require_empty(DataContext.get_current().checkpoint_config, self._name)
            if self._spec is None:
                opened = store.open(self._name, namespace=self._namespace)
            else:
                opened = store.create(self._spec, if_exists=self._if_exists, namespace=self._namespace)
            if self._namespace_column and not opened.spec.namespaced:
                raise ConfigError(f"namespace_column=: {self._name!r} has no namespaces")

    def on_write_complete(self, write_result: WriteResult) -> None:
        """Adds up what the tasks have done, and prints it; Ray calls it on the driver.

        Raises:
            PartialWriteError: More than ``max_failures`` rows failed.
        """
        if self._begun is None:  # Ray begins no write of no rows, as after a complete checkpoint
            self.on_write_start()
        seconds = time.monotonic() - (self._begun or time.monotonic())
        self.report, self._begun = total(write_result.write_returns), None
        target = f"{self._address.text}#{self._name}"
        if self._on_report is not None:
            tasks = len(write_result.write_returns)
            self._on_report(sentence(self.report, target, tasks, seconds, self._dead_letters))
        if self._max_failures is not None and self.report.failed > self._max_failures:
            raise PartialWriteError(self.report)

    @property
    def supports_distributed_writes(self) -> bool:
        """False where the store is files of this machine."""
        return not self._address.embedded

    @property
    def min_rows_per_write(self) -> int | None:
        """Rows of a task, at least; None where bytes are the tighter limit (Ray takes one of the two)."""
        return self._target[0]

    @property
    def min_bytes_per_write(self) -> int | None:
        """Bytes of a task, at least; None where rows are the tighter limit."""
        return self._target[1]

    @property
    def _target(self) -> tuple[int | None, int | None]:
        """Rows or bytes of one full upsert: as many requests as the store has in flight at a time."""
        if self._rows_per_write is not None:
            return self._rows_per_write, None
        limits = self._address.capabilities
        rows = min(limits.request_rows * limits.parallel_requests, MAX_PART_ROWS)
        if limits.request_bytes is None:
            return rows, None
        size = limits.request_bytes * limits.parallel_requests
        vectors = () if self._spec is None else self._spec.vectors
        row_bytes = _ROW_BYTES + sum(4 * vector.dim for vector in vectors)
        return (rows, None) if rows * row_bytes <= size else (None, size)

    # --------------------------------------------------------------------------------------- in a worker

    def write(self, blocks: Iterable[Block], ctx: Any) -> WriteReport:
        """Writes the rows of one task; Ray calls it in a worker, and again if the worker dies.

        Args:
            blocks: The rows.
            ctx: Of the task.

        Returns:
            What became of them; the driver adds it to that of the other tasks.

        Raises:
            UnsupportedError: The second task of a run into an embedded store.
            SchemaError: A column that the collection does not have.
        """
        if self._address.embedded and ctx.task_idx > 0:
            raise UnsupportedError(
                self._address.capabilities.backend,
                "more than one Ray task",
                "one process at a time writes its files: dataset.repartition(1).write_datasink(…), or write "
                "to a server",
            )
        run = str(ctx.kwargs.get("write_uuid") or self._run)
        store = _held.of(run, self._address)
        try:
            with TaskLetters(self._dead_letters, f"{run[:8]}-{ctx.task_idx:06}") as letters:
                options = self._options(letters, ctx.task_idx)
                task = Task(store.open(self._name, namespace=self._namespace), options)
                if self._namespace_column is None:
                    return of_task(task.write(blocks))
                open_namespace = partial(_opened, store, self._name)
                return of_task(task.write_by_namespace(blocks, self._namespace_column, open_namespace))
        finally:
            if self._address.embedded:
                _held.release()  # the next process that opens it may be the driver's

    def _options(self, letters: TaskLetters, number: int) -> dict[str, Any]:
        return {
            "on_conflict": self._on_conflict,
            "workers": self._workers,
            "dead_letters": letters.file,
            "max_failures": self._max_failures,
            "source": f"Ray task {number}",
        }


def _require_empty(checkpoint: Any, name: str) -> None:
    """Refuses a Ray checkpoint that knows rows, where the collection is about to be made."""
    if checkpoint is None:
        return
    path = checkpoint.checkpoint_path.rpartition("://")[2]
    selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
    if any(info.type is fs.FileType.File for info in checkpoint.filesystem.get_file_info(selector)):
        raise ConfigError(
            f"Ray's checkpoint {checkpoint.checkpoint_path} knows rows that are stored, and {name!r} would "
            "be made anew, without them: delete the checkpoint, or open the collection that it belongs to"
        )


def _opened(store: Store, name: str, namespace: str) -> Collection:
    return store.open(name, namespace=namespace)


def _name(url: StoreURL, spec: CollectionSpec | None) -> str:
    """The collection's name, which the URL, the spec or both say.

    Raises:
        InvalidURLError: Neither does.
        ConfigError: They differ.
    """
    if spec is None:
        return url.require_collection()
    if url.collection and url.collection != spec.name:
        raise ConfigError(f"{url} names {url.collection!r}, and the spec {spec.name!r}")
    return spec.name
