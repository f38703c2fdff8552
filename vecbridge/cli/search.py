"""``search``: finds the records nearest to a text, a picture, a stored record, or a mixture of two."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import common, found, inputs, output, reading
from vecbridge.errors import ConfigError
from vecbridge.sources.lines import is_blank

if TYPE_CHECKING:
    from vecbridge.apps.parts import Part
    from vecbridge.embed.base import Embedder
    from vecbridge.schema import CollectionSpec, VectorField

_EQUAL: Final = 0.5  # the share of a text where --fusion alone says that there are two searches


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
            help="Picture to search for; - is standard input.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="ID", help="Stored record to search for, by its vector."),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(
            "--weight",
            metavar="X",
            min=0,
            max=1,
            help="Search for the text and --image (or --like) together: the share of the text, as in 0.5.",
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
    filter_json: common.FilterOption = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="FIELDS",
            help="Fields to show whole (comma-separated). Default: those that fit.",
        ),
    ] = None,
    using: Annotated[
        str | None,
        typer.Option(
            "--using",
            metavar="NAMES",
            help="Vector field, if there are several; of more than one (comma-separated) the hits are fused.",
        ),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            "--fusion",
            metavar="NAME",
            help="weighted or rrf: how the hits of several vector fields become one list. A text and "
            "a picture are then searched for apart, and their hits fused, too.",
        ),
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
    """Find the records nearest to a text, to a picture, or to both.

    The query is embedded with the model that the collection records. If it records none, --model names one.
    """
    _require_query(text, image, like, weight, fusion)
    condition = common.read_filter(where, filter_json)
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    from vecbridge.apps.crossmodal import CrossModalSearch
    from vecbridge.apps.parts import Target
    from vecbridge.cli.dates import resolved
    from vecbridge.registry import open as open_collection

    picture = None if image is None else inputs.as_picture(ctx, image)
    way: Any = fusion or "weighted"
    with open_collection(url) as collection, ExitStack() as stack:
        fields = _vector_fields(using, collection.spec)
        several = len(fields) > 1 or _is_mixed(text, image, like)
        if fusion is not None and not several:
            raise ConfigError("--fusion goes with several fields of --using, or with a text and a picture")
        shown = common.read_include(include or [], collection.spec)
        key = _record_id(like, collection.spec)
        condition = resolved(condition, collection)
        clip = None
        if text is not None or picture is not None:
            clip = common.load_embedder(
                fields[0], model, settings, runtime=runtime, device=device, dtype=dtype, lazy=True
            )
            stack.enter_context(clip)
            _warn_of_model(clip, fields)
        searcher = CrossModalSearch([Target(collection, field.name) for field in fields], clip)
        hits = searcher.search(
            _parts(text, reading.query_picture(picture, max_pixels), key, weight),
            k=k,
            filter=condition,
            include=found.columns(shown, collection.spec, with_pictures=html is not None),
            mix=fusion is None,
            fusion=way,
            ef=ef,
            nprobe=nprobe,
            allow_empty=True,
        )
        is_empty = not hits and collection.count() == 0
    query = {"text": text, "image": None if image is None else str(image), "like": like, "weight": weight}
    result = found.Found(
        hits=hits,
        about={
            "store": str(url.without_collection()),
            "collection": url.collection,
            "namespace": url.namespace or "",
            "model": _model_name(clip, fields),
            "metric": fields[0].metric.value,
            "query": {name: value for name, value in query.items() if value is not None},
            "k": k,
            "filter": found.filter_json(condition),
        },
        shown=shown,
        fields=fields,
        fusion=way if len(fields) > 1 or fusion else None,
        picture=picture,
        condition=" and ".join(part for part in (where, filter_json) if part),
        is_empty=is_empty,
    )
    if html is not None:
        found.write_page(html, result, all_fields=bool(include))
    if as_json:
        output.document(found.document(result))
        return
    found.print_table(result, all_fields=bool(include))


def _require_query(
    text: str | None, image: Path | None, like: str | None, weight: float | None, fusion: str | None
) -> None:
    """Refuses a query of nothing, or of several things of which nobody says how they are mixed.

    Raises:
        ConfigError: Says what may be given.
    """
    if fusion is not None:
        from vecbridge.apps.fusion import require_fusion

        require_fusion(fusion)
    given = sum(each is not None for each in (text, image, like))
    if given == 0 or (given > 1 and weight is None and fusion is None):
        raise ConfigError(
            "search takes either a text or --image FILE (or --like ID), one of the two; "
            "with --weight 0.5, a text and one of these together"
        )
    if given > 1 and not _is_mixed(text, image, like):
        raise ConfigError("search takes --image or --like, one of the two, beside a text")
    if weight is not None and given == 1:
        raise ConfigError("--weight goes with a text and a picture (--image) or a record (--like)")
    if text is not None and is_blank(text):
        raise ConfigError("the text is empty")


def _is_mixed(text: str | None, image: Path | None, like: str | None) -> bool:
    """Whether the query is a text and one thing more."""
    return text is not None and (image is None) != (like is None)


def _vector_fields(given: str | None, spec: CollectionSpec) -> list[VectorField]:
    """The vector fields of ``--using``, or the only one.

    Raises:
        ConfigError: There is none of a name, or several and none is named.
    """
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    return [common.read_using(name, spec) for name in dict.fromkeys(names)] or [common.read_using(None, spec)]


def _record_id(given: str | None, spec: CollectionSpec) -> str | int | None:
    """The id of ``--like`` as the collection has it.

    Raises:
        ConfigError: The ids of the collection are numbers, and this is none.
    """
    if given is None or spec.id_type == "string":
        return given
    try:
        return int(given)
    except ValueError:
        raise ConfigError(f"--like {given}: the ids of {spec.name!r} are whole numbers") from None


def _parts(text: str | None, picture: Any, key: str | int | None, weight: float | None) -> list[Part]:
    """The parts of the query; beside a text, the other one has the rest of the weight."""
    from vecbridge.apps.parts import Picture, Record, Text

    share = _EQUAL if weight is None else weight
    parts: list[Part] = [] if text is None else [Text(text, share)]
    rest = 1 - share if parts else 1.0
    if picture is not None:
        parts.append(Picture(picture, rest))
    if key is not None:
        parts.append(Record(key, rest))
    return parts if len(parts) > 1 or text is None else [Text(text)]


def _warn_of_model(clip: Embedder, fields: list[VectorField]) -> None:
    if any(field.embedder is None for field in fields):
        output.warn(f"the collection does not record its model: {clip.identity.model} embeds the query")


def _model_name(clip: Embedder | None, fields: list[VectorField]) -> str | None:
    """The model of the query; of a search for a record alone, the one that the collection records."""
    if clip is not None:
        return clip.identity.model
    recorded = fields[0].embedder
    return None if recorded is None else recorded.model
