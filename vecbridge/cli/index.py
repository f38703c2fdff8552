"""``index``: embeds pictures and texts and writes them into a collection."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vecbridge.cli import common, output, reading, target, writing
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.schema import CollectionSpec, FieldType
    from vecbridge.sources.images import ImageSource
    from vecbridge.urls import StoreURL


BATCH_ROWS: Final = 64  # the batch size of a model on a CPU; the progress bar moves once a batch


def index(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Folders, files, or globs (in quotes).", show_default=False),
    ],
    store: common.StoreOption = None,
    model: common.ModelOption = None,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="Read .txt files, too: one record a line.")
    ] = True,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--fields",
            metavar="NAMES",
            help="Keep only these fields (comma-separated).",
            rich_help_panel=target.NEW_PANEL,
        ),
    ] = None,
    index_kind: target.IndexOption = None,
    metric: target.MetricOption = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Read names that begin with a dot, too.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow links that lead out of the folder.")
    ] = False,
    max_pixels: reading.MaxPixelsOption = None,
    dead_letters: writing.DeadLettersOption = None,
    journal: writing.JournalOption = None,
    max_failures: writing.MaxFailuresOption = None,
    workers: writing.WorkersOption = 4,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Embed pictures (and .txt files) and write them into a collection.

    Creates the collection if it does not exist, with fields from the files and from
    metadata.jsonl beside them. An id is the path below the folder, so that a second
    run replaces the records.

    Files that cannot be read are listed in the dead-letter file, and the exit status is 1.
    """
    reading.ignore_pillow_warnings()
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    params = target.parse_index(index_kind or "auto")
    from vecbridge.embed.pipeline import embed_items
    from vecbridge.registry import connect
    from vecbridge.schema import CollectionSpec
    from vecbridge.sources.images import ImageSource

    source = ImageSource(paths, texts=texts, hidden=hidden, follow_links=follow_links)
    _fields(source, fields, None)
    if next(iter(source), None) is None:  # a collection made now would lack the fields of later pictures
        raise ConfigError(f"there are no pictures or texts in {' '.join(paths)}")
    total = _count(source, quiet)
    with connect(url.without_collection()) as opened:
        existing = target.existing_spec(opened, url)
        recorded = None if existing is None else existing.vector
        with common.load_embedder(recorded, model, runtime, device, settings) as clip:
            common.report_model(clip)
            spec = CollectionSpec.single(
                url.collection,
                dim=clip.dim,
                metric=metric or "cosine",
                index=params,
                fields=_fields(source, fields, existing),
                namespaced=url.namespace is not None,
                embedder=clip.identity,
            )
            collection, new = target.open_target(
                opened,
                spec,
                namespace=url.namespace or "",
                index=index_kind,
                metric=metric,
                remedy="choose --fields, or name another collection after #",
            )
            with collection:
                target.report_target(url, collection.spec, new=new)
                result = writing.write_all(
                    collection,
                    lambda on_dead_letter: embed_items(
                        source,
                        clip,
                        collection.spec,
                        on_dead_letter=on_dead_letter,
                        batch_rows=BATCH_ROWS,
                        max_pixels=max_pixels,
                    ),
                    label="Indexing",
                    source=" ".join(paths),
                    dead_letters=dead_letters or writing.DEAD_LETTERS,
                    journal=journal,
                    max_failures=max_failures,
                    workers=workers,
                    total=total,
                    quiet=quiet,
                )
    if as_json:
        about = {"url": str(url), "model": clip.identity.model, "created": new, "skipped": source.skipped}
        output.document(about | result.to_dict())
    else:
        _print(result, source.skipped, url)
    if result.failed:
        raise typer.Exit(1)


def _print(result: writing.IngestResult, skipped: int, url: StoreURL) -> None:
    output.show(output.pairs(writing.summary(result, "indexed", skipped=skipped)))
    if result.written:
        output.note(f'Next: {output.program()} search "…" --store {shlex.quote(str(url))}')


def _fields(
    source: ImageSource, given: list[str] | None, existing: CollectionSpec | None
) -> dict[str, FieldType]:
    known = source.fields(existing)
    names = [name.strip() for option in given or [] for name in option.split(",") if name.strip()]
    if not names:
        return known
    unknown = [name for name in names if name not in known]
    if unknown:
        from vecbridge.errors import suggestion

        raise ConfigError(f"--fields: the source has no {unknown[0]!r}{suggestion(unknown[0], known)}")
    return {name: known[name] for name in names}


def _count(source: ImageSource, quiet: bool) -> int | None:
    """Number of items, for the progress bar; None where no bar is shown, since counting takes time."""
    if quiet or not output.stderr().is_terminal:
        return None
    return sum(1 for _ in source)
