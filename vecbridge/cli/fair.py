"""``fair``: a search whose hits represent the groups of a field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbridge.cli import common, inputs, output, reading
from vecbridge.errors import ConfigError
from vecbridge.sources.lines import is_blank

if TYPE_CHECKING:
    from vecbridge.apps.fair_search import FairHits
    from vecbridge.apps.fairness import Group
    from vecbridge.embed.base import Embedder, FloatArray
    from vecbridge.schema import CollectionSpec


def fair(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Text to search for.", show_default=False)
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", "-b", metavar="FIELD", help="The field whose values are the groups."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", "-i", metavar="FILE", help="Picture to search for, instead of a text."),
    ] = None,
    store: common.StoreOption = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Number of hits.")] = 10,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="GROUP=SHARE",
            help="Share of a group, such as sea=0.5 or sea=1/3; all add up to 1. "
            "Default: the shares among the candidates.",
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates", metavar="N", min=1, help="Records to choose from. Default: 10 for each hit."
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", "-w", metavar="COND", help='SQL condition, as in "year >= 2020".'),
    ] = None,
    filter_json: common.FilterOption = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", metavar="FIELDS", help="Fields for --json (comma-separated). Default: all."
        ),
    ] = None,
    using: Annotated[
        str | None, typer.Option("--using", metavar="NAME", help="Vector field, if there are several.")
    ] = None,
    max_pixels: reading.MaxPixelsOption = None,
    model: common.ModelOption = None,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Search so that the first hits represent groups.

    Among the first hits, however many one looks at, each group has at least its share,
    as long as the search found enough of it (DetConstSort). Says what that changed.
    """
    if (text is None) == (image is None):
        raise ConfigError("fair takes either a text or --image FILE, one of the two")
    if text is not None and is_blank(text):
        raise ConfigError("the text is empty")
    if by is None:
        raise ConfigError("which groups? Give --by FIELD")
    given = _targets(target or [])
    condition = common.read_filter(where, filter_json)
    settings = common.load_settings()
    url = common.collection_url(store, settings)
    from vecbridge.apps.fair_search import fair_search, group_values, require_group_field
    from vecbridge.cli.dates import resolved
    from vecbridge.query import Query
    from vecbridge.registry import open as open_collection

    picture = None if image is None else inputs.as_picture(ctx, image)
    with open_collection(url) as collection:
        spec = collection.spec
        field = common.read_using(using, spec)
        require_group_field(spec, by)
        targets = group_values(spec, by, given) if given else None
        shown = common.read_include(include or [], spec)
        condition = resolved(condition, collection)
        with common.load_embedder(
            field, model, settings, runtime=runtime, device=device, dtype=dtype, lazy=True
        ) as clip:
            query = Query(
                _vector(clip, text, picture, max_pixels),
                k,
                filter=condition,
                include=shown,
                using=using,
                embedder=clip.identity,
            )
            [found] = fair_search(collection, query, by=by, targets=targets, candidates=candidates)
    if as_json:
        about = {"store": str(url), "model": clip.identity.model, "by": by, "k": k}
        output.document(about | _document(found, spec))
    else:
        _print(found, by)
    for each in found.ranking.warnings:
        output.warn(each)


def _targets(given: Sequence[str]) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    for each in given:
        group, equals, share = each.rpartition("=")
        try:
            value = Fraction(share)
        except (ValueError, ZeroDivisionError):
            equals = ""
        if not equals:
            raise ConfigError(f"--target {each}: a group and its share, such as sea=0.5 or sea=1/3")
        if group in found:
            raise ConfigError(f"--target {group}: it is there twice")
        found[group] = value
    return found


def _vector(clip: Embedder, text: str | None, image: Path | None, max_pixels: int | None) -> FloatArray:
    if text is not None:
        return clip.embed_texts([text])
    return clip.embed_images([reading.query_picture(image, max_pixels)])


def _document(found: FairHits, spec: CollectionSpec) -> dict[str, Any]:
    from dataclasses import asdict

    ranking = found.ranking
    hits = [
        {"rank": row + 1, "by_score": found.ranks[row], "id": hit.id, "score": hit.score}
        | {"group": found.groups[row], "record": hit.record}
        for row, hit in enumerate(found.hits)
    ]
    return {
        "candidates": found.candidates,
        "groups": [asdict(each) for each in ranking.groups],
        "ndkl": {"before": _finite(ranking.ndkl_before), "after": _finite(ranking.ndkl_after)},
        "ndcg_loss": ranking.ndcg_loss,
        "hits": hits,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print(found: FairHits, by: str) -> None:
    if not found.ranks:
        output.note("No hits.")
        return
    rows = [
        (str(row), str(rank), f"{hit.score:.4f}", _group(group), hit.id)
        for row, (hit, rank, group) in enumerate(zip(found.hits, found.ranks, found.groups, strict=True), 1)
    ]
    output.show(output.table(("#", "was", "score", by, "id"), rows, right=("#", "was", "score")))
    output.show("")
    headings = ("group", "target", "found", "share", "exposure", "missing")
    lines = [
        (
            _group(each.group),
            f"{each.target:.0%}",
            str(each.candidates),
            f"{each.before:.0%} → {each.after:.0%}",
            f"{each.exposure_before:.0%} → {each.exposure_after:.0%}",
            str(each.missing or ""),
        )
        for each in found.ranking.groups
    ]
    output.show(output.table(headings, lines, right=headings[1:]))
    output.note(
        f"{output.number(len(found.ranks), 'hit')} of {output.number(found.candidates, 'candidate')}. NDKL "
        f"{found.ranking.ndkl_before:.3f} → {found.ranking.ndkl_after:.3f}, nDCG loss "
        f"{found.ranking.ndcg_loss:.3f}."
    )


def _group(group: Group) -> str:
    return "(no value)" if group is None else output.cell(group)
