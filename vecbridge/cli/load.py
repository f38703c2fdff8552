"""``load``: writes existing vectors from files into a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecbridge.cli import common, inputs, output, target, writing
from vecbridge.errors import ConfigError, EmbedderMismatchError

if TYPE_CHECKING:
    import pyarrow as pa

    from vecbridge.identity import EmbedderIdentity
    from vecbridge.schema import CollectionSpec
    from vecbridge.settings import Settings
    from vecbridge.sources.choosing import Selection
    from vecbridge.sources.deadletters import OnDeadLetter
    from vecbridge.sources.fileset import FileSet
    from vecbridge.sources.inference import SourceSchema
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
        list[str] | None,
        typer.Option(
            "--vector",
            metavar="COLUMN",
            help="Column of the vectors; repeat it for several vector fields. Default: found by its name.",
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--fields", metavar="NAME", help="Keep only these columns as fields (comma-separated)."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="NAME", help="Leave these columns out (comma-separated)."),
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
    workers: writing.RequestsOption = None,
    max_rate: writing.MaxRateOption = None,
    format: inputs.FormatOption = None,
    max_bytes: inputs.MaxBytesOption = "64GiB",
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
    from vecbridge.bulk import write
    from vecbridge.registry import connect

    selection = _selection(fields, drop)
    spool = inputs.table_spool(ctx, format, max_bytes)
    files = inputs.as_files(spool, files)
    sources = _sources(files, id_column, vector_column, selection, truncate_times=truncate_times)
    with connect(url.without_collection()) as opened:
        schema = _schema(sources, target.existing_spec(opened, url))
        _report_files(sources, schema)
        identity = _identity(model, schema, settings, device, dtype)
        spec = _spec(url, schema, identity, index_kind, metric)
        with target.choose_target(
            opened,
            spec,
            namespace=url.namespace or "",
            index=index_kind,
            metric=metric,
            grow=grow,
            remedy="--grow adds fields, --drop leaves columns out, or name another collection after #",
        ) as goal:
            is_new = goal.collection is None
            target.report_target(url, goal)
            reader = inputs.named(_reader(sources, goal.spec), spool)
            name = " ".join(map(spool.name, files))
            result = writing.write_all(
                goal,
                lambda goal, **options: write(goal, reader, grow=grow, source=name, **options),
                label="Loading",
                dead_letters=dead_letter_file,
                journal=journal,
                max_failures=max_failures,
                workers=workers,
                max_rate=max_rate,
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


def _selection(fields: list[str] | None, drop: list[str] | None) -> Selection:
    """The columns that ``--fields`` and ``--drop`` name."""
    from vecbridge.sources.choosing import Selection

    kept = _names(fields)
    return Selection(kept if fields is not None else None, _names(drop))


def _names(options: list[str] | None) -> tuple[str, ...]:
    names = (name.strip() for option in options or () for name in option.split(","))
    return tuple(name for name in names if name)


def _sources(
    files: list[Path],
    id_column: str | None,
    vector_columns: list[str] | None,
    selection: Selection,
    *,
    truncate_times: bool,
) -> FileSet:
    from vecbridge.sources.fileset import FileSet
    from vecbridge.sources.inference import field_name

    vectors: dict[str, str] = {}
    for column in vector_columns or ():
        vectors[column] = "vector" if column == "vector" else field_name(column, vectors.values())
    if len(vectors) == 1:
        vectors = dict.fromkeys(vectors, "vector")
    return FileSet(
        files,
        id_column=id_column,
        vectors=vectors or None,
        selection=selection,
        truncate_times=truncate_times,
    )


def _schema(sources: FileSet, existing: CollectionSpec | None) -> SourceSchema:
    return sources.schema(existing)


def _report_files(sources: FileSet, schema: SourceSchema) -> None:
    """Prints which files and columns are left out, and which are kept in another form."""
    for error in sources.failures.values():
        output.warn(f"{error}; the file is left out")
    for column, why in schema.dropped.items():
        output.warn(f"column {column!r} is left out: {why}")
    for note in (*sources.notes, *schema.notes):
        output.note(f"Note: {note}.")


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


def _reader(sources: FileSet, spec: CollectionSpec) -> Callable[[OnDeadLetter], Iterator[pa.RecordBatch]]:
    return lambda on_dead_letter: sources.batches(spec, on_dead_letter=on_dead_letter)


def _total(sources: FileSet) -> int | None:
    """Number of rows; None where it is not known without reading them all."""
    return sources.rows
