"""``classify``: sorts pictures, or the records of a collection, by labels that are given as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from vecbridge.cli import classified, common, output, reading
from vecbridge.errors import ConfigError, InvalidRecordError, NotFoundError, suggestion

if TYPE_CHECKING:
    from vecbridge.apps.zeroshot import ZeroShotClassifier
    from vecbridge.embed.base import Embedder, FloatArray
    from vecbridge.filters import Filter
    from vecbridge.schema import VectorField
    from vecbridge.sources.images import ImageSource, PictureItem
    from vecbridge.urls import StoreURL

    Load: TypeAlias = Callable[[VectorField | None], Embedder]
    Make: TypeAlias = Callable[[Embedder], ZeroShotClassifier]

LABELS_PANEL: Final = "Labels"
_BATCH: Final = 64
_PAGE: Final = 10_000


def classify(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Folders, files, or globs (in quotes).", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", "-s", metavar="URL", help="Classify the vectors of a collection, instead of files."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            "-l",
            metavar="TEXTS",
            help="Labels (comma-separated), as in dog,cat,bird.",
            rich_help_panel=LABELS_PANEL,
        ),
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(
            "--labels-file",
            metavar="FILE",
            help="A label a line; or JSON: a list, or an object of labels and their texts.",
            rich_help_panel=LABELS_PANEL,
        ),
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--others",
            metavar="TEXTS",
            help="What else a picture may show (comma-separated): none of the labels then.",
            rich_help_panel=LABELS_PANEL,
        ),
    ] = None,
    none_below: Annotated[
        float | None,
        typer.Option(
            "--none-below",
            metavar="X",
            min=-1,
            max=1,
            help="The least cosine of a label; below it, a picture is none of the labels.",
            rich_help_panel=LABELS_PANEL,
        ),
    ] = None,
    language: Annotated[
        str,
        typer.Option(
            "--language",
            metavar="NAME",
            help="Of the sentences that labels are put into: en or es.",
            rich_help_panel=LABELS_PANEL,
        ),
    ] = "en",
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            help='A sentence of your own, as in "a satellite photo of {}"; may be repeated.',
            rich_help_panel=LABELS_PANEL,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Labels to show a picture, at most.")] = 1,
    truth: Annotated[
        str | None,
        typer.Option(
            "--truth",
            metavar="FIELD",
            help="Field (of a sidecar or the collection) with the right label: report how many are right.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", "-w", metavar="COND", help="Only some records of the collection."),
    ] = None,
    using: Annotated[
        str | None, typer.Option("--using", metavar="NAME", help="Vector field, if there are several.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write a CSV file, a line a picture; - is standard output.",
            rich_help_panel=common.OUTPUT_PANEL,
        ),
    ] = None,
    model: common.ModelOption = None,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Sort pictures by labels that are given as text.

    Nothing is trained. Labels are put into sentences of one language, or into your own.
    With --store, the vectors of a collection are classified, and no picture is opened.

    Files that cannot be read are listed, and the exit status is 1.
    """
    if bool(paths) == (store is not None):
        raise ConfigError("classify takes either pictures (PATH) or --store URL, one of the two")
    if store is None and (where is not None or using is not None):
        raise ConfigError("--where and --using go with --store")
    classified.require_outputs(csv, as_json=as_json)
    chosen, rest = classified.read_label_options(labels, labels_file), classified.split(others)
    settings = common.load_settings()
    from vecbridge.apps.labels import read_labels
    from vecbridge.apps.templates import templates_of

    read_labels(chosen, rest)  # what is wrong with them is said before a model is loaded
    templates_of(language, template)

    def load(field: VectorField | None) -> Embedder:
        return common.load_embedder(
            field, model, settings, runtime=runtime, device=device, dtype=dtype, lazy=field is not None
        )

    def classifier(clip: Embedder) -> ZeroShotClassifier:
        from vecbridge.apps.zeroshot import ZeroShotClassifier

        return ZeroShotClassifier(
            clip, chosen, language=language, templates=template, others=rest, none_below=none_below
        )

    result = classified.Classified(k=k, language=None if template else language, truth=truth)
    if store is None:
        _classify_files(paths or [], load, classifier, result)
    else:
        url = common.collection_url(store, settings)
        _classify_collection(url, common.read_filter(where, None), using, load, classifier, result)
    classified.show(result, csv, as_json=as_json)
    if result.failures:
        raise typer.Exit(1)


def _classify_files(paths: list[str], load: Load, classifier: Make, result: classified.Classified) -> None:
    """Classifies pictures in folders, files and globs.

    Raises:
        ConfigError: There are none, or no sidecar has the field of ``--truth``.
    """
    from vecbridge.sources.images import ImageSource

    reading.ignore_pillow_warnings()
    source = ImageSource(paths)
    if result.truth is not None and result.truth not in source.fields():
        hint = suggestion(result.truth, source.sidecar_fields)
        raise ConfigError(f"--truth: no metadata beside the pictures has a field {result.truth!r}{hint}")
    if next(iter(source), None) is None:
        raise ConfigError(f"there are no pictures in {' '.join(paths)}")
    with load(None) as clip, output.busy("Classifying"):
        result.begin(clip, classifier(clip))
        for items in _batches(source, result):
            kept, vectors = _embed(clip, items, result)
            truths = [item.metadata.get(result.truth) if result.truth else None for item in kept]
            result.add([item.id for item in kept], vectors, truths)


def _batches(source: ImageSource, result: classified.Classified) -> Iterator[list[PictureItem]]:
    """Pictures, a few at a time; what cannot be read by its name is a failure."""
    from vecbridge.sources.deadletters import DeadLetter
    from vecbridge.sources.images import PictureItem

    batch: list[PictureItem] = []
    for item in source:
        if isinstance(item, DeadLetter):
            result.fail(item.id if item.id is not None else item.source, item.error)
        elif isinstance(item, PictureItem):  # the source reads no texts
            batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _embed(
    clip: Embedder, items: list[PictureItem], result: classified.Classified
) -> tuple[list[PictureItem], FloatArray]:
    """Pictures that can be read, and their vectors; the others are failures."""
    try:
        return items, clip.embed_images([item.path for item in items])
    except InvalidRecordError as exc:
        errors = {each.row: each.error for each in exc.rows}
    for row, error in errors.items():
        result.fail(items[row].id, error)
    kept = [item for row, item in enumerate(items) if row not in errors]
    return kept, clip.embed_images([item.path for item in kept])


def _classify_collection(
    url: StoreURL,
    condition: Filter | None,
    using: str | None,
    load: Load,
    classifier: Make,
    result: classified.Classified,
) -> None:
    """Classifies the vectors of a collection, page by page.

    Raises:
        NotFoundError: The collection holds no records.
        ConfigError: A field that it does not have.
    """
    from vecbridge import records
    from vecbridge.cli.dates import resolved
    from vecbridge.registry import open as open_collection

    with open_collection(url) as collection:
        spec = collection.spec
        field = common.read_using(using, spec)
        names = [field.name]
        if result.truth is not None:
            known = [each.name for each in spec.fields]
            if result.truth not in known:
                hint = suggestion(result.truth, known)
                raise ConfigError(f"--truth: {spec.name!r} has no field {result.truth!r}{hint}")
            names.append(result.truth)
        condition = resolved(condition, collection)
        with load(field) as clip, output.busy("Classifying"):
            result.begin(clip, classifier(clip))
            pages = collection.scan(
                include=names,
                filter=condition,
                batch_rows=_PAGE,
                unfit=lambda key, reason: result.fail(key, str(reason)),
            )
            for page in pages:
                batch = page.batch
                truths = batch.column(result.truth).to_pylist() if result.truth else [None] * batch.num_rows
                result.add(batch.column("id").to_pylist(), records.vectors(batch, field.name), truths)
        if condition is None and not result.rows and not result.failures:
            raise NotFoundError(f"{url}: no records, so that there is nothing to classify")
