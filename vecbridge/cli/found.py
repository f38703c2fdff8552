"""What ``search`` found: as a table, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vecbridge.cli import output

if TYPE_CHECKING:
    from vecbridge.apps.crossmodal import CrossModalHit
    from vecbridge.filters import Filter
    from vecbridge.query import Hit
    from vecbridge.schema import CollectionSpec, VectorField

_DIGITS: Final = 4  # of a score in the table


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of a search, and what was searched for.

    Attributes:
        hits: Best first.
        about: What was asked, as JSON values.
        shown: The fields to show.
        fields: The vector fields that were searched.
        fusion: How several lists of hits became one; None of one list.
        picture: The file of the picture that was searched for.
        condition: The filter, as it was typed.
        is_empty: Whether the collection holds no records at all.
    """

    hits: Sequence[CrossModalHit]
    about: dict[str, Any]
    shown: Sequence[str]
    fields: Sequence[VectorField]
    fusion: str | None
    picture: Path | None
    condition: str
    is_empty: bool

    @property
    def lists(self) -> list[str]:
        """The lists that were fused and found something."""
        return list(dict.fromkeys(name for hit in self.hits for name in hit.scores)) if self.fusion else []


def columns(shown: Sequence[str], spec: CollectionSpec, *, with_pictures: bool) -> list[str]:
    """The columns to fetch: those shown, and the paths of the pictures if a page shows them."""
    from vecbridge.apps.contact_sheet import PATH_FIELDS

    fields = {field.name for field in spec.fields}
    paths = [name for name in PATH_FIELDS if name in fields] if with_pictures else []
    return list(dict.fromkeys([*shown, *paths]))


def filter_json(condition: Filter | None) -> dict[str, Any] | None:
    """A filter as JSON values."""
    from vecbridge.filters import to_dict

    return None if condition is None else to_dict(condition)


def document(found: Found) -> dict[str, Any]:
    """The result as one JSON document."""
    fused = {"using": [field.name for field in found.fields], "fusion": found.fusion} if found.fusion else {}
    hits = []
    for rank, hit in enumerate(found.hits, 1):
        record = {name: value for name, value in (hit.record or {}).items() if name in found.shown}
        scores = {"scores": dict(hit.scores)} if found.fusion else {}
        hits.append({"rank": rank, "id": hit.id, "score": hit.score, **scores, "record": record})
    return found.about | fused | {"hits": hits}


def print_table(found: Found, *, all_fields: bool) -> None:
    """Prints the hits as a table.

    Args:
        found: The hits.
        all_fields: Whether the fields were chosen, so that all of them are shown whole.
    """
    from vecbridge.cli.hits import hits_table

    if not found.hits:
        name = found.about["collection"]
        output.note(f"No hits: {name!r} holds no records." if found.is_empty else "No hits.")
        return
    console = output.stdout()
    names = [f"by {name}" for name in found.lists]
    hits = [_with_scores(hit, found.lists) for hit in found.hits]
    table, hidden = hits_table(hits, [*names, *found.shown], width=console.width, all_fields=all_fields)
    output.show(table)
    count = output.number(len(hits), "hit")
    if found.fusion:
        output.note(f"{count} by {found.fusion} fusion, higher is better; each list has its own score.")
    else:
        metric = found.fields[0].metric
        better = "higher" if metric.higher_is_better else "lower"
        output.note(f"{count} by {metric}, {better} is nearer.")
    if hidden:
        output.note(f"Not shown: {', '.join(hidden)}. Choose fields with --include, or see all with --json.")


def write_page(path: Path, found: Found, *, all_fields: bool) -> None:
    """Writes the hits as a page of HTML.

    Args:
        path: The file to write.
        found: The hits.
        all_fields: Whether the fields were chosen; otherwise those that describe a file are left out.
    """
    from vecbridge.apps.contact_sheet import FILE_FIELDS, Section, Sheet, tile
    from vecbridge.apps.page import write_page as write

    shown = [name for name in found.shown if all_fields or name not in FILE_FIELDS]
    query, about = found.about["query"], found.about
    asked = (query.get("text"), Path(query["image"]).name if "image" in query else None, query.get("like"))
    section = Section(
        " + ".join(each for each in asked if each),
        tuple(tile(hit, shown) for hit in found.hits),
        picture=found.picture,
        condition=found.condition,
    )
    namespace = f", namespace {about['namespace']}" if about["namespace"] else ""
    facts = (
        ("collection", f"{about['collection']}{namespace}"),
        ("store", about["store"]),
        ("model", about["model"] or "unknown"),
        ("score", f"{found.fusion} fusion" if found.fusion else about["metric"]),
    )
    write(path, Sheet("Search", (section,), facts))
    output.note(f"Page: {path}")


def _with_scores(hit: CrossModalHit, lists: Sequence[str]) -> Hit:
    """The hit with the score of each list as a field of its record."""
    scores = {
        f"by {name}": round(hit.scores[name], _DIGITS) if name in hit.scores else None for name in lists
    }
    return replace(hit, record=scores | (hit.record or {}))
