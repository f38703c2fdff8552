"""``index``: embeds pictures and texts and writes them into a collection."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import common, index_sync, output, reading, target, writing
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecbridge.bulk import Target
    from vecbridge.bulk.idcheck import IdCheck
    from vecbridge.embed.base import Embedder
    from vecbridge.identity import SourceIds
    from vecbridge.query import WriteReport
    from vecbridge.schema import CollectionSpec, FieldType
    from vecbridge.sources.deadletters import DeadLetter
    from vecbridge.sources.images import ImageSource, Item
    from vecbridge.store import Collection
    from vecbridge.urls import StoreURL


IDS_PANEL: Final = "Ids"
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
    id_kind: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="KIND",
            help="What an id is: relative (the path below the folder), absolute (the whole path) or content "
            "(32 hex digits of the file's SHA-256). Default: the collection's, relative for a new one.",
            rich_help_panel=IDS_PANEL,
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="TEXT",
            help="Put before relative ids, as in 2019/. Default: the collection's.",
            rich_help_panel=IDS_PANEL,
        ),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            metavar="WHAT",
            help="Where an id stands for another file already, or a file has another id: "
            "stop, skip or replace.",
            rich_help_panel=IDS_PANEL,
        ),
    ] = "stop",
    hidden: Annotated[bool, typer.Option("--hidden", help="Read names that begin with a dot, too.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow links that lead out of the folder.")
    ] = False,
    max_pixels: reading.MaxPixelsOption = None,
    sync: index_sync.SyncOption = False,
    dry_run: index_sync.DryRunOption = False,
    checksum: index_sync.ChecksumOption = False,
    yes: index_sync.YesOption = False,
    dead_letters: writing.DeadLettersOption = None,
    journal: writing.JournalOption = None,
    max_failures: writing.MaxFailuresOption = None,
    workers: writing.RequestsOption = None,
    max_rate: writing.MaxRateOption = None,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Embed pictures and .txt files, and write them to a collection.

    Creates the collection if it does not exist, with fields from the files and from
    metadata.jsonl beside them. An id is the path below the folder, so that a second
    run of the same folder replaces its records. Index another folder with a --prefix.

    Nothing is removed: records of files that are gone stay. With --sync, only what is new or
    changed is embedded, and those records are removed.

    Files that cannot be read are listed in the dead-letter file, and the exit status is 1.
    """
    index_sync.require_options(sync=sync, dry_run=dry_run, checksum=checksum, yes=yes, journal=journal)
    reading.ignore_pillow_warnings()
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    params = target.parse_index(index_kind or "auto")
    from vecbridge import reserved
    from vecbridge.bulk.idcheck import POLICIES, IdCheck
    from vecbridge.registry import connect
    from vecbridge.schema import CollectionSpec
    from vecbridge.sources.images import ImageSource

    policy = next((each for each in POLICIES if each == on_conflict), None)
    if policy is None:
        raise ConfigError(f"--on-conflict {on_conflict}: {', '.join(POLICIES)}")
    source = ImageSource(paths, texts=texts, hidden=hidden, follow_links=follow_links)
    _fields(source, fields, None)
    is_empty = next(iter(source), None) is None
    if is_empty and not sync:  # a collection made now would lack the fields of later pictures
        raise ConfigError(f"there are no pictures or texts in {' '.join(paths)}")
    total = None if sync else _count(source, quiet)
    with connect(url.without_collection()) as opened:
        existing = target.existing_spec(opened, url)
        recorded = None if existing is None else existing.vector
        ids = _ids(existing, id_kind, prefix)
        source = ImageSource(paths, texts=texts, hidden=hidden, follow_links=follow_links, ids=ids)
        kept_fields = _fields(source, fields, existing)
        items: Iterable[Item | DeadLetter] = source
        plan = None
        if sync:
            if is_empty and existing is None:
                raise ConfigError(f"there are no pictures or texts in {' '.join(paths)}")
            plan = index_sync.compare(opened, url, source, checksum=checksum, quiet=quiet)
            if dry_run or (existing is not None and not plan.work):
                letters = dead_letters or writing.DEAD_LETTERS
                index_sync.without_model(
                    opened, url, source, plan, dry_run=dry_run, yes=yes, dead_letters=letters, as_json=as_json
                )
                return
            index_sync.require_consent(plan, yes=yes)
            items, total = plan.items(source), plan.embedded + plan.unreadable
        with common.load_embedder(
            recorded, model, settings, runtime=runtime, device=device, dtype=dtype
        ) as clip:
            common.report_model(clip)
            spec = CollectionSpec.single(
                url.collection,
                dim=clip.dim,
                metric=metric or "cosine",
                index=params,
                fields=kept_fields,
                namespaced=url.namespace is not None,
                embedder=clip.identity,
                ids=ids,
            )
            with target.choose_target(
                opened,
                reserved.tracking(spec),
                namespace=url.namespace or "",
                index=index_kind,
                metric=metric,
                track=sync,
                remedy="choose --fields, or name another collection after #",
            ) as goal:
                is_new = goal.collection is None
                target.report_target(url, goal)
                check = IdCheck(goal.collection, on_conflict=policy)
                result = writing.write_all(
                    goal,
                    partial(
                        _ingest,
                        items,
                        clip,
                        on_conflict=check,
                        batch_rows=BATCH_ROWS,
                        max_pixels=max_pixels,
                        name=_source(paths, ids),
                    ),
                    label="Indexing",
                    dead_letters=dead_letters or writing.DEAD_LETTERS,
                    journal=journal,
                    max_failures=max_failures,
                    workers=workers,
                    max_rate=max_rate,
                    total=total,
                    quiet=quiet,
                    repeatable=sync,
                )
                done = None
                if plan is not None:
                    letters = dead_letters or writing.DEAD_LETTERS
                    all_written = not result.refused
                    done = index_sync.finish(goal.collection, plan, source, letters, all_written=all_written)
                    result = index_sync.counted(result, goal.collection, done, letters)
    if as_json:
        about = {
            "url": str(url),
            "model": clip.identity.model,
            "created": is_new and result.is_there,
            "skipped": source.skipped,
            "conflicts_skipped": check.skipped,
            **({} if plan is None else index_sync.document(plan, done)),
        }
        output.document(about | result.to_dict())
    else:
        _print(result, source.skipped, check, url, [] if plan is None else index_sync.lines(plan, done))
    if result.failed:
        raise typer.Exit(1)


def _ingest(
    source: ImageSource | Iterable[Item | DeadLetter],
    clip: Embedder,
    target: Collection | Target,
    **options: Any,
) -> WriteReport:
    from vecbridge.bulk import ingest

    return ingest(source, clip, target, **options)


def _print(
    result: writing.IngestResult, skipped: int, check: IdCheck, url: StoreURL, more: list[tuple[str, str]]
) -> None:
    lines = [*more, *writing.summary(result, "indexed", skipped=skipped)]
    if check.skipped:
        lines.append(("in conflict", f"{check.skipped:,} left as they are in the collection"))
    output.show(output.pairs(lines))
    if check.unknown:
        output.note(
            f"{output.number(check.unknown, 'record')} had the id of a file that was indexed now, and the "
            "collection does not tell whether it was the same file: it has no path, or no sha256."
        )
    if result.written:
        output.note(f'Next: {output.program()} search "…" --store {shlex.quote(str(url))}')


def _ids(existing: CollectionSpec | None, kind: str | None, prefix: str | None) -> SourceIds:
    """How ids are made: as the collection's were, and as the options say where it is new.

    Raises:
        ConfigError: ``--id`` is no kind, or not that of the collection; ``--prefix`` with other ids.
    """
    from vecbridge.errors import SchemaError
    from vecbridge.identity import SourceIds

    recorded = SourceIds() if existing is None else existing.ids or SourceIds()
    if existing is not None and kind is not None and kind != recorded.kind:
        raise ConfigError(
            f"--id {kind}: the ids of {existing.name!r} are {recorded.kind}: leave --id out, or name another "
            "collection after #"
        )
    chosen: Any = kind or recorded.kind
    kept = recorded.prefix if chosen == "relative" else ""
    try:
        return SourceIds(chosen, kept if prefix is None else prefix)
    except SchemaError as exc:
        raise ConfigError(f"--id, --prefix: {exc}") from None


def _source(paths: list[str], ids: SourceIds) -> str:
    """The name of the source in a journal."""
    options = [] if ids.kind == "relative" else ["--id", ids.kind]
    if ids.prefix:
        options += ["--prefix", ids.prefix]
    return " ".join([*paths, *options])


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
