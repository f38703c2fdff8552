"""Requests that are acknowledged and not merged yet: one file each, written aside and renamed when durable.

A name says what it is: ``000000000042.eu.upsert.arrow``, the 42nd request of the collection, in the directory
``eu``. Rows stand in Arrow IPC, and so do the ids of a delete. A large upsert is a Parquet file already
(``.part``, so that no glob takes it for one), which a merge takes over as it is if no later request touched
it.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from vecbridge import records
from vecbridge.errors import CorruptStoreError
from vecbridge.schema import CollectionSpec
from vecbridge.storage import TEMPORARY, sync_directory
from vecbridge.stores.snapshot.files import regular_file
from vecbridge.stores.snapshot.layout import PartWriter, sliced, synced_ipc

Kind = Literal["upsert.arrow", "upsert.part", "delete.arrow"]

#: From this size on an upsert is written as Parquet at once; below, files would be too small to read well.
PART_BYTES: Final = 8 << 20
_MOST_PART_BYTES: Final = 512 << 20
_NAME: Final = re.compile(
    r"(?P<number>[0-9]{12})\.(?P<directory>[A-Za-z0-9_~-]+)\.(?P<kind>upsert\.arrow|upsert\.part|delete\.arrow)"
)
_MOST_IPC_BYTES: Final = 8 << 30


@dataclass(frozen=True, slots=True)
class RequestName:
    """What the name of a pending file says.

    Attributes:
        number: Of the request; later ones win.
        directory: Of its namespace.
        kind: What it does, and how it is written.
    """

    number: int
    directory: str
    kind: Kind

    @classmethod
    def parse(cls, name: str) -> RequestName | None:
        """Reads a name; None for one of no request."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(int(match["number"]), match["directory"], match["kind"])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.number:012}.{self.directory}.{self.kind}"


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A pending request of Arrow IPC, mapped into memory.

    Attributes:
        name: Its name.
        batches: Its rows, or the ids that it deletes.
        ids: All of its ids.
        starts: Row at which each batch starts.
    """

    name: RequestName
    batches: Sequence[pa.RecordBatch]
    ids: pa.Array
    starts: Sequence[int] = field(default_factory=list)


def listed(directory: Path) -> Iterator[RequestName]:
    """The requests in a directory of pending ones, in no order."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):  # noqa: PTH208 - names are wanted, no paths
            if (parsed := RequestName.parse(name)) is not None:
                yield parsed


def write_upsert(
    directory: Path, number: int, namespace: str, batch: pa.RecordBatch, spec: CollectionSpec
) -> RequestName:
    """Writes the rows of an upsert durably.

    Args:
        directory: Of pending requests.
        number: Of this one.
        namespace: Directory of its namespace.
        batch: Rows in canonical form.
        spec: The collection's spec.

    Returns:
        Its name.
    """
    if not PART_BYTES <= batch.nbytes <= _MOST_PART_BYTES:
        name = RequestName(number, namespace, "upsert.arrow")
        _write_ipc(directory, name, batch.schema.remove_metadata(), sliced(batch))
        return name
    name = RequestName(number, namespace, "upsert.part")
    temporary = _temporary(directory)
    writer = PartWriter(temporary, spec)
    try:
        writer.add(batch)
        writer.finish()
        temporary.rename(directory / str(name))
    except BaseException:
        writer.discard()
        raise
    sync_directory(directory)
    return name


def write_delete(directory: Path, number: int, namespace: str, ids: Iterable[pa.Array]) -> RequestName:
    """Writes the ids of a delete durably."""
    name = RequestName(number, namespace, "delete.arrow")
    arrays = list(ids)
    schema = pa.schema([pa.field("id", arrays[0].type, nullable=False)])
    batches = (pa.RecordBatch.from_arrays([array], schema=schema) for array in arrays)
    _write_ipc(directory, name, schema, batches)
    return name


def read_ipc(directory: Path, name: RequestName, spec: CollectionSpec) -> Request:
    """Maps a request of Arrow IPC into memory.

    Raises:
        FileNotFoundError: It was merged meanwhile.
        CorruptStoreError: It is damaged, or holds something else than its name says.
    """
    path = directory / str(name)
    if regular_file(path).st_size > _MOST_IPC_BYTES:
        raise CorruptStoreError(f"{path} is larger than {_MOST_IPC_BYTES >> 30} GB")
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            _require_schema(path, reader.schema, name, spec)
            batches = [reader.get_batch(place) for place in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate(full=True)
            if any(
                column.null_count and not field.nullable
                for column, field in zip(batch.columns, batch.schema, strict=True)
            ):
                raise CorruptStoreError(f"{path} has a null where there can be none")
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, FileNotFoundError):
            raise
        raise CorruptStoreError(f"{path} is damaged: {exc}") from exc
    ids = [batch.column("id") for batch in batches]
    starts, total = [], 0
    for batch in batches:
        starts.append(total)
        total += batch.num_rows
    return Request(
        name, batches, pa.concat_arrays(ids) if ids else pa.array([], reader.schema.field("id").type), starts
    )


def _require_schema(path: Path, schema: pa.Schema, name: RequestName, spec: CollectionSpec) -> None:
    vectors = [vector.name for vector in spec.vectors]
    wanted: list[str] = []
    if name.kind == "upsert.arrow":
        fields = [each.name for each in spec.fields]
        wanted = [*vectors, *fields[: max(0, len(schema) - 1 - len(vectors))]]
    if not schema.equals(records.arrow_schema(spec, wanted)):
        raise CorruptStoreError(f"{path} has other columns than the collection")


def _write_ipc(
    directory: Path, name: RequestName, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> None:
    temporary = _temporary(directory)
    try:
        synced_ipc(temporary, schema, batches)
        temporary.rename(directory / str(name))
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(directory)


def _temporary(directory: Path) -> Path:
    return directory / f"{TEMPORARY}{uuid.uuid4().hex}"
