"""``demo``: indexes the bundled pictures, and searches them by text and by picture."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from vecbridge.cli import common, output, writing
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.apps.contact_sheet import Section
    from vecbridge.embed.base import Embedder
    from vecbridge.query import Hits
    from vecbridge.schema import CollectionSpec
    from vecbridge.sources.images import ImageSource
    from vecbridge.store import Collection

_COLLECTION: Final = "gallery"
_FIELDS: Final = ("name", "name_es", "group", "keywords", "year")
_SHOWN: Final = ("name", "name_es", "group", "year")
_HITS: Final = 6
_CREDIT: Final = "Pictures: Noto Emoji (Apache-2.0). Names: Emojibase (MIT). Year: of the emoji's release."


@dataclass(frozen=True, slots=True)
class Question:
    """One search of the demonstration.

    Attributes:
        text: What to look for; "" for a picture.
        picture: A file of the gallery to look for.
        where: SQL condition, or "".
    """

    text: str = ""
    picture: str = ""
    where: str = ""


QUESTIONS: Final = (
    Question("a sunset"),
    Question("un perro"),
    Question("musical instrument"),
    Question("fruta roja", where="contains(keywords, 'fruit')"),
    Question("a bird", where="year >= 2015"),
    Question(picture="1f408.png", where="year >= 2015"),
)


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Directory of the store and of the result.")
    ] = Path("vecbridge-demo"),
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Index the bundled pictures and search them, offline.

    Writes a FAISS store, a contact sheet (demo.png) and an HTML page (demo.html).
    A second run replaces them.
    """
    settings = common.load_settings()
    from vecbridge.registry import connect
    from vecbridge.urls import StoreURL

    gallery = _gallery()
    directory.mkdir(parents=True, exist_ok=True)
    url = StoreURL("faiss", path=str(directory / "store"))
    start = time.perf_counter()
    with (
        connect(url) as store,
        common.load_embedder(None, "bundled", settings, device=device, dtype=dtype) as clip,
    ):
        common.report_model(clip)
        source, spec = _source(gallery, clip)
        with store.create(spec, if_exists="replace") as collection:
            result = _write(collection, source, clip, directory, quiet=quiet)
            output.note(
                f"{result.written} pictures embedded and indexed in {time.perf_counter() - start:.1f} s."
            )
            answers = [(question, _search(collection, clip, gallery, question)) for question in QUESTIONS]
    files = _draw(directory, gallery, answers, clip, spec)
    target = f"{url}#{_COLLECTION}"
    if as_json:
        output.document({"url": target, **result.to_dict(), "searches": _as_json(answers), "files": files})
    else:
        _print(answers)
        _print_next(target, files)
    if result.failed:
        raise typer.Exit(1)


def _gallery() -> Path:
    from vecbridge.embed.files import BUNDLED

    gallery = BUNDLED / "gallery"
    if not (gallery / "gallery.jsonl").is_file():
        raise ConfigError("the bundled pictures are missing from this installation: install vecbridge again")
    return gallery


def _source(gallery: Path, clip: Embedder) -> tuple[ImageSource, CollectionSpec]:
    """The pictures, and a collection with the fields that the demonstration shows."""
    from vecbridge.indexes import HNSW
    from vecbridge.schema import CollectionSpec
    from vecbridge.sources.images import ImageSource

    source = ImageSource([gallery])
    known = source.fields()
    spec = CollectionSpec.single(
        _COLLECTION,
        dim=clip.dim,
        metric="cosine",
        index=HNSW(m=16, ef_construction=200),
        fields={name: known[name] for name in (*_FIELDS, "path")},
        embedder=clip.identity,
    )
    return source, spec


def _write(
    collection: Collection, source: ImageSource, clip: Embedder, directory: Path, *, quiet: bool
) -> writing.IngestResult:
    from vecbridge.bulk import ingest

    return writing.write_all(
        collection,
        lambda goal, **options: ingest(source, clip, goal, on_conflict="replace", **options),
        label="Embedding",
        dead_letters=directory / writing.DEAD_LETTERS.name,
        total=sum(1 for _ in source),
        quiet=quiet,
    )


def _search(collection: Collection, clip: Embedder, gallery: Path, question: Question) -> Hits:
    from vecbridge.query import Query

    vector = (
        clip.embed_texts([question.text])
        if question.text
        else clip.embed_images([gallery / question.picture])
    )
    condition = common.read_filter(question.where or None, None)
    include = [*_FIELDS, "path"]
    query = Query(vector, _HITS, filter=condition, include=include, ef=64, embedder=clip.identity)
    [hits] = collection.search(query)
    return hits


def _draw(
    directory: Path, gallery: Path, answers: list[tuple[Question, Hits]], clip: Embedder, spec: CollectionSpec
) -> dict[str, str]:
    from vecbridge.apps.contact_sheet import Sheet, write_png
    from vecbridge.apps.page import write_page
    from vecbridge.indexes import describe

    facts = (
        ("collection", _COLLECTION),
        ("store", "faiss"),
        ("index", describe(spec.vector.index)),
        ("model", clip.identity.model),
        ("score", "cosine similarity"),
    )
    sections = tuple(_section(gallery, question, hits) for question, hits in answers)
    sheet = Sheet("Pictures found by text and by picture", sections, facts, _CREDIT)
    files = {"png": directory / "demo.png", "html": directory / "demo.html"}
    write_png(files["png"], sheet)
    write_page(files["html"], sheet)
    return {kind: str(path) for kind, path in files.items()}


def _section(gallery: Path, question: Question, hits: Hits) -> Section:
    from vecbridge.apps.contact_sheet import Section, tile

    tiles = tuple(tile(hit, _FIELDS) for hit in hits)
    picture = gallery / question.picture if question.picture else None
    return Section(question.text or "like this picture", tiles, picture, question.where)


def _as_json(answers: list[tuple[Question, Hits]]) -> list[dict[str, Any]]:
    return [
        {
            "query": {"text": question.text} if question.text else {"image": question.picture},
            "where": question.where or None,
            "hits": [
                {"rank": rank, "id": hit.id, "score": hit.score, "record": hit.record}
                for rank, hit in enumerate(hits, 1)
            ],
        }
        for question, hits in answers
    ]


def _print(answers: list[tuple[Question, Hits]]) -> None:
    from vecbridge.cli.hits import hits_table

    console = output.stdout()
    for question, hits in answers:
        heading = Text(f"\n{question.text or f'like {question.picture}'}", "bold cyan")
        output.show(heading.append(f"   {question.where}" if question.where else "", "not bold blue"))
        output.show(hits_table(list(hits)[:4], _SHOWN, width=console.width, all_fields=False)[0])


def _print_next(target: str, files: dict[str, str]) -> None:
    program, url = output.program(), shlex.quote(target)
    lines = [
        ("Look at", files["html"]),
        ("or at", files["png"]),
        ("Try", f'{program} search "a rocket" --store {url}'),
        ("", f'{program} search perro --store {url} --where "year >= 2015" --json'),
        ("", f"{program} info {url}"),
    ]
    output.show("")
    for name, value in lines:
        output.line(Text(name.ljust(9), "bold").append(value, "not bold"))
