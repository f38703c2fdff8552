"""``load``: writes existing vectors from files into a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecbridge.cli import common, output, target, writing
from vecbridge.errors import ConfigError, EmbedderMismatchError, InvalidRecordError, SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

    from vecbridge.identity import EmbedderIdentity
    from vecbridge.schema import CollectionSpec
    from vecbridge.settings import Settings
    from vecbridge.sources.deadletters import OnDeadLetter
    from vecbridge.sources.inference import SourceSchema
    from vecbridge.sources.tables import TableSource
    from vecbridge.urls import StoreURL


def load(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help=".parquet, .jsonl (dead-letter files, too) or .npy.", show_default=False
        ),
    ],
    store: common.StoreOption = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id", metavar="COLUMN", help="Column of the ids. Default: id, _id, ID, key or uuid."),
    ] = None,
    vector_column: Annotated[
        str | None,
        typer.Option("--vector", metavar="COLUMN", help="Column of the vectors. Default: found by its name."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="ID", help="The model that made the vectors; stored in the collection."
        ),
    ] = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    grow: Annotated[
        bool,
        typer.Option("--grow", help="Add columns that an existing collection does not have as fields."),
    ] = False,
    truncate_times: Annotated[
        bool,
        typer.Option(
            "--truncate-times", help="Cut times to the microsecond; otherwise, finer ones are not written."
        ),
    ] = False,
    index_kind: target.IndexOption = None,
    metric: target.MetricOption = None,
    dead_letters: writing.DeadLettersOption = None,
    journal: writing.JournalOption = None,
    max_failures: writing.MaxFailuresOption = None,
    workers: writing.WorkersOption = 4,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Write vectors from files into a collection.

    Creates the collection if it does not exist, with the columns of the files as fields,
    once a record for it was read; a run that writes none leaves no collection behind.
    If it exists, its types hold; --grow adds fields that it does not have.

    Rows that cannot be written go to the dead-letter file, and the exit status is 1.
    Correct the rows in that file, and it can be loaded.
    """
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    dead_letter_file = _dead_letter_file(dead_letters, files)
    target.parse_index(index_kind or "auto")
    from vecbridge.registry import connect

    sources = _sources(files, id_column, vector_column, truncate_times=truncate_times)
    with connect(url.without_collection()) as opened:
        schema = _schema(sources, target.existing_spec(opened, url))
        for column, why in schema.dropped.items():
            output.warn(f"column {column!r} is left out: {why}")
        identity = _identity(model, schema, settings, device, dtype)
        spec = _spec(url, schema, identity, index_kind, metric)
        with target.choose_target(
            opened,
            spec,
            namespace=url.namespace or "",
            index=index_kind,
            metric=metric,
            grow=grow,
            remedy="--grow adds fields, or name another collection after #",
        ) as goal:
            is_new = goal.collection is None
            target.report_target(url, goal)
            result = writing.write_all(
                goal,
                _reader(sources, goal.spec),
                label="Loading",
                source=" ".join(map(str, files)),
                dead_letters=dead_letter_file,
                journal=journal,
                max_failures=max_failures,
                workers=workers,
                grow=grow,
                total=_total(sources),
                quiet=quiet,
            )
    if as_json:
        output.document({"url": str(url), "created": is_new and result.is_there} | result.to_dict())
    else:
        output.show(output.pairs(writing.summary(result, "loaded")))
    if result.failed:
        raise typer.Exit(1)


def _dead_letter_file(given: Path | None, files: list[Path]) -> Path:
    """The file for dead letters: never one that is being loaded."""
    path = given or writing.DEAD_LETTERS
    read = {file.resolve() for file in files}
    if path.resolve() not in read:
        return path
    if given is not None:
        raise ConfigError(f"--dead-letters: {given} is being loaded: name another file")
    return path.with_stem(f"{path.stem}-left")


def _sources(
    files: list[Path], id_column: str | None, vector_column: str | None, *, truncate_times: bool
) -> list[TableSource]:
    from vecbridge.sources.npy import NpySource
    from vecbridge.sources.tables import table_source

    vectors: Mapping[str, str] | None = {vector_column: "vector"} if vector_column else None
    sources: list[TableSource] = []
    first_id = 0  # the rows of several .npy files are numbered consecutively
    for path in files:
        source = table_source(
            path,
            id_column=id_column,
            vectors=vectors,
            first_id=first_id,
            truncate_times=truncate_times,
        )
        if isinstance(source, NpySource):
            first_id += len(source)
        sources.append(source)
    return sources


def _schema(sources: list[TableSource], existing: CollectionSpec | None) -> SourceSchema:
    from vecbridge.sources.inference import merged

    schemas = []
    for source in sources:
        with _naming(source):
            schemas.append(source.schema(existing))
    return merged(schemas)


def _identity(
    model: str | None, schema: SourceSchema, settings: Settings, device: str | None, dtype: str | None
) -> EmbedderIdentity | None:
    """The model that made the vectors, according to the files or ``--model``."""
    if model is None:
        return schema.embedder
    with common.load_embedder(None, model, settings, device=device, dtype=dtype) as clip:
        identity = clip.identity
    if schema.embedder is None:
        return identity
    from vecbridge.identity import embedder_differences, same_embedder

    if not same_embedder(schema.embedder, identity):
        changed = " and ".join(embedder_differences(schema.embedder, identity))
        raise EmbedderMismatchError(
            f"the files hold vectors of {schema.embedder}, and {identity} has another {changed}"
        )
    return min(schema.embedder, identity, key=lambda each: each.format)  # no more than is known


def _spec(
    url: StoreURL,
    schema: SourceSchema,
    identity: EmbedderIdentity | None,
    index_kind: str | None,
    metric: str | None,
) -> CollectionSpec:
    index = target.parse_index(index_kind or "auto")
    spec = schema.spec(url.collection, metric=metric or "cosine", index=index)
    if identity is not None:
        spec = replace(spec, vectors=tuple(replace(vector, embedder=identity) for vector in spec.vectors))
    return replace(spec, namespaced=url.namespace is not None)


def _reader(
    sources: list[TableSource], spec: CollectionSpec
) -> Callable[[OnDeadLetter], Iterator[pa.RecordBatch]]:
    def batches(on_dead_letter: OnDeadLetter) -> Iterator[pa.RecordBatch]:
        for source in sources:
            with _naming(source):
                yield from source.batches(spec, on_dead_letter=on_dead_letter)

    return batches


@contextmanager
def _naming(source: TableSource) -> Iterator[None]:
    """Puts the file before what is wrong with its columns."""
    try:
        yield
    except (SchemaError, InvalidRecordError) as exc:
        path = str(getattr(source, "path", ""))
        if path and path not in str(exc):
            exc.args = (f"{path}: {exc}", *exc.args[1:])
        raise


def _total(sources: list[TableSource]) -> int | None:
    """Number of rows; None where it is not known without reading them all."""
    import pyarrow.parquet as pq

    from vecbridge.sources.npy import NpySource
    from vecbridge.sources.parquet import ParquetSource

    total = 0
    for source in sources:
        if isinstance(source, NpySource):
            total += len(source)
        elif isinstance(source, ParquetSource):
            total += pq.read_metadata(source.path).num_rows
        else:
            return None
    return total
