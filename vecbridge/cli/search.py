"""``search``: finds the records nearest to a text or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbridge.cli import common, inputs, output, reading
from vecbridge.errors import ConfigError, InvalidRecordError
from vecbridge.sources.lines import is_blank

if TYPE_CHECKING:
    from vecbridge.embed.base import Embedder, FloatArray
    from vecbridge.filters import Filter
    from vecbridge.query import Hits
    from vecbridge.schema import CollectionSpec, VectorField


def search(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Text to search for.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            "-i",
            metavar="FILE",
            help="Picture to search for, instead of a text; - is standard input.",
        ),
    ] = None,
    store: common.StoreOption = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Maximal number of hits.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", "-w", metavar="COND", help="SQL condition: \"year >= 2020 and contains(tags, 'sea')\"."
        ),
    ] = None,
    filter_json: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON", help="The same as JSON. With --where, both must hold."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="FIELDS",
            help="Fields to show whole (comma-separated). Default: those that fit.",
        ),
    ] = None,
    using: Annotated[
        str | None, typer.Option("--using", metavar="NAME", help="Vector field, if there are several.")
    ] = None,
    ef: Annotated[
        int | None, typer.Option("--ef", metavar="N", min=1, help="Breadth of an HNSW search.")
    ] = None,
    nprobe: Annotated[
        int | None,
        typer.Option("--nprobe", metavar="N", min=1, help="Number of lists that an IVF search visits."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write the hits as an HTML page with their pictures."
        ),
    ] = None,
    max_pixels: reading.MaxPixelsOption = None,
    model: common.ModelOption = None,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Find the records nearest to a text or a picture.

    The query is embedded with the model that the collection records. If it records none, --model names one.
    """
    if (text is None) == (image is None):
        raise ConfigError("search takes either a text or --image FILE, one of the two")
    if text is not None and is_blank(text):
        raise ConfigError("the text is empty")
    condition = common.read_filter(where, filter_json)
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    from vecbridge.apps.contact_sheet import FILE_FIELDS
    from vecbridge.cli.dates import fitting
    from vecbridge.query import Query
    from vecbridge.registry import open as open_collection

    picture = None if image is None else inputs.as_picture(ctx, image)
    with open_collection(url) as collection:
        field = common.read_using(using, collection.spec)
        shown = common.read_include(include or [], collection.spec)
        if condition is not None:
            condition = fitting(condition, collection.spec)
            # report an error in it before a model is loaded
            collection.capabilities.resolve_filter(condition, collection.spec)
        with common.load_embedder(
            field, model, settings, runtime=runtime, device=device, dtype=dtype, lazy=True
        ) as clip:
            if field.embedder is None:
                output.warn(
                    f"the collection does not record its model: {clip.identity.model} embeds the query"
                )
            query = Query(
                _vector(clip, text, picture, max_pixels),
                k,
                filter=condition,
                include=_columns(shown, collection.spec, with_pictures=html is not None),
                ef=ef,
                nprobe=nprobe,
                using=using,
                embedder=clip.identity,
            )
            [hits] = collection.search(query)
    about = {
        "store": str(url.without_collection()),
        "collection": url.collection,
        "namespace": url.namespace or "",
        "model": clip.identity.model,
        "metric": field.metric.value,
        "query": {"text": text} if text is not None else {"image": str(image)},
        "k": k,
        "filter": _filter_json(condition),
    }
    if html is not None:
        fields = shown if include else [name for name in shown if name not in FILE_FIELDS]
        _write_page(html, hits, about, where, filter_json, fields, picture)
    if as_json:
        json_fields = {column.name for column in collection.spec.fields if column.type == "json"}
        output.document(about | {"hits": [_hit(hits, row, shown, json_fields) for row in range(len(hits))]})
        return
    _print(hits, shown, field, asked_for=bool(include))


def _vector(clip: Embedder, text: str | None, image: Path | None, max_pixels: int | None) -> FloatArray:
    if text is not None:
        return clip.embed_texts([text])
    if image is None or not image.is_file():
        raise ConfigError(f"--image: {image}: no such file")
    from vecbridge.sources.pictures import open_picture

    reading.ignore_pillow_warnings()
    try:
        return clip.embed_images([open_picture(image, max_pixels=max_pixels).image])
    except InvalidRecordError as exc:
        raise InvalidRecordError(f"{image}: {exc.rows[0].error}", exc.rows) from None


def _columns(shown: list[str], spec: CollectionSpec, *, with_pictures: bool) -> list[str]:
    """The columns to fetch: those shown, and the paths of the pictures if a page shows them."""
    from vecbridge.apps.contact_sheet import PATH_FIELDS

    fields = {field.name for field in spec.fields}
    paths = [name for name in PATH_FIELDS if name in fields] if with_pictures else []
    return list(dict.fromkeys([*shown, *paths]))


def _filter_json(condition: Filter | None) -> dict[str, Any] | None:
    from vecbridge.filters import to_dict

    return None if condition is None else to_dict(condition)


def _hit(hits: Hits, row: int, shown: list[str], json_fields: set[str]) -> dict[str, Any]:
    import json

    hit = hits[row]
    record = {name: value for name, value in (hit.record or {}).items() if name in shown}
    for name in json_fields & record.keys():
        record[name] = None if record[name] is None else json.loads(record[name])
    return {"rank": row + 1, "id": hit.id, "score": hit.score, "record": record}


def _print(hits: Hits, shown: list[str], field: VectorField, *, asked_for: bool) -> None:
    from vecbridge.cli.hits import hits_table

    if not len(hits):
        output.note("No hits.")
        return
    console = output.stdout()
    table, hidden = hits_table(list(hits), shown, width=console.width, all_fields=asked_for)
    output.show(table)
    better = "higher" if field.metric.higher_is_better else "lower"
    output.note(f"{output.number(len(hits), 'hit')} by {field.metric}, {better} is nearer.")
    if hidden:
        output.note(f"Not shown: {', '.join(hidden)}. Choose fields with --include, or see all with --json.")


def _write_page(
    path: Path,
    hits: Hits,
    about: dict[str, Any],
    where: str | None,
    filter_json: str | None,
    shown: list[str],
    picture: Path | None,
) -> None:
    from vecbridge.apps.contact_sheet import Section, Sheet, tile
    from vecbridge.apps.page import write_page

    query = about["query"]
    condition = " and ".join(part for part in (where, filter_json) if part)
    section = Section(
        query.get("text") or Path(query["image"]).name,
        tuple(tile(hit, shown) for hit in hits),
        picture=picture,
        condition=condition,
    )
    namespace = f", namespace {about['namespace']}" if about["namespace"] else ""
    facts = (
        ("collection", f"{about['collection']}{namespace}"),
        ("store", about["store"]),
        ("model", about["model"]),
        ("score", about["metric"]),
    )
    write_page(path, Sheet("Search", (section,), facts))
    output.note(f"Page: {path}")
