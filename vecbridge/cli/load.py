"""``load``: writes existing vectors from files into a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecbridge.cli import common, inputs, output, target, writing
from vecbridge.errors import ConfigError, EmbedderMismatchError

if TYPE_CHECKING:
    import pyarrow as pa

    from vecbridge.schema import CollectionSpec, EmbedderIdentity
    from vecbridge.settings import Settings
    from vecbridge.sources.deadletters import OnDeadLetter
    from vecbridge.sources.inference import SourceSchema
    from vecbridge.sources.tables import TableSource
    from vecbridge.urls import StoreURL


def load(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help=".parquet, .jsonl (dead-letter files, too) or .npy, also .gz and .zst of them; "
            "- is standard input.",
            show_default=False,
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
    format: inputs.FormatOption = None,
    max_bytes: inputs.MaxBytesOption = "64GiB",
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Write vectors from files into a collection.

    Creates the collection if it does not exist, with the columns of the files as fields.
    If it exists, its types hold; --grow adds fields that it does not have.

    Rows that cannot be written go to the dead-letter file, and the exit status is 1.
    Correct the rows in that file, and it can be loaded.
    """
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    dead_letter_file = _dead_letter_file(dead_letters, files)
    target.parse_index(index_kind or "auto")
    from vecbridge.registry import connect

    spool = inputs.table_spool(ctx, format, max_bytes)
    files = inputs.as_files(spool, files)
    sources = _sources(files, id_column, vector_column, truncate_times=truncate_times)
    with connect(url.without_collection()) as opened:
        schema = _schema(sources, target.existing_spec(opened, url))
        for column, why in schema.dropped.items():
            output.warn(f"column {column!r} is left out: {why}")
        spec = _spec(url, schema, _identity(model, schema, settings), index_kind, metric)
        collection, new = target.open_target(
            opened,
            spec,
            namespace=url.namespace or "",
            index=index_kind,
            metric=metric,
            grow=grow,
            remedy="--grow adds fields, or name another collection after #",
        )
        with collection:
            target.report_target(url, collection.spec, new=new)
            result = writing.write_all(
                collection,
                inputs.named(_reader(sources, collection.spec), spool),
                label="Loading",
                source=" ".join(map(spool.name, files)),
                dead_letters=dead_letter_file,
                journal=journal,
                max_failures=max_failures,
                workers=workers,
                grow=grow,
                total=_total(sources),
                quiet=quiet,
            )
    if as_json:
        output.document({"url": str(url), "created": new} | result.to_dict())
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

    return merged([source.schema(existing) for source in sources])


def _identity(model: str | None, schema: SourceSchema, settings: Settings) -> EmbedderIdentity | None:
    """The model that made the vectors, according to the files or ``--model``."""
    if model is None:
        return schema.embedder
    with common.load_embedder(None, model, None, None, settings) as clip:
        identity = clip.identity
    if schema.embedder not in (None, identity):
        raise EmbedderMismatchError(f"the files say that their vectors are {schema.embedder}, not {identity}")
    return identity


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
            yield from source.batches(spec, on_dead_letter=on_dead_letter)

    return batches


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
