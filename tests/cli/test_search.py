"""``search``: by text and by picture, with filters; output as a table, as JSON and as a page."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import vecbridge as vb
from vecbridge.cli.hits import hits_table
from vecbridge.query import Hit

Run = Callable[..., Any]  # the fixture of conftest.py


def first_picture(photos: str) -> str:
    with vb.open(photos) as collection:
        page = next(iter(collection.scan(include=["path"], batch_rows=1)))
    [row] = page.batch.to_pylist()
    return str(row["path"])


def test_a_picture_finds_itself(run: Run, photos: str) -> None:
    path = first_picture(photos)
    ran = run("search", "--image", path, "--store", photos, "-k", 3, "--json")
    assert ran.code == 0
    found = ran.json
    assert found["query"] == {"image": path}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert found["hits"][0]["record"]["path"] == path
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_json_is_what_the_library_finds(run: Run, photos: str) -> None:
    arguments = (
        "--store",
        photos,
        "-k",
        4,
        "--where",
        "year >= 2012 or year < 2011",
        "--include",
        "name,year",
    )
    found = run("search", "a dog", *arguments, "--json").json
    where = (vb.field("year") >= 2012) | (vb.field("year") < 2011)
    with vb.open(photos) as collection, vb.embedder("bundled") as clip:
        query = vb.Query(clip.embed_texts(["a dog"]), 4, filter=where, include=["name", "year"])
        [hits] = collection.search(query)
    assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [(hit.id, hit.score) for hit in hits]
    assert found["hits"][0]["record"] == {name: hits[0].record[name] for name in ("name", "year")}
    assert found["model"] == "bundled"
    assert found["filter"] == {
        "or": [{"field": "year", "op": ">=", "value": 2012}, {"field": "year", "op": "<", "value": 2011}]
    }


def test_where_and_filter_both_hold(run: Run, photos: str) -> None:
    everything = run("search", "a dog", "--store", photos, "-k", 50, "--json").json["hits"]
    years = [hit["record"]["year"] for hit in everything]
    low, high = sorted(set(years))[0], sorted(set(years))[-1]
    both = run(
        *("search", "a dog", "--store", photos, "-k", 50, "--json"),
        *("--where", f"year > {low}", "--filter", json.dumps({"field": "year", "op": "<", "value": high})),
    ).json["hits"]
    assert [hit["id"] for hit in both] == [
        hit["id"] for hit, year in zip(everything, years, strict=True) if low < year < high
    ]


def test_a_search_without_hits_succeeds_and_says_so(run: Run, photos: str) -> None:
    ran = run("search", "a dog", "--store", photos, "--where", "year < 0")
    assert (ran.code, ran.out, ran.err) == (0, "", "No hits.\n")
    assert run("search", "a dog", "--store", photos, "--where", "year < 0", "--json").json["hits"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--where", "yaer > 1"], "did you mean 'year'"),
        (["--include", "nmae"], "did you mean 'name'"),
        (["--where", "year = 'x'"], "int64"),
        (["--include", "year,nmae"], "did you mean 'name'"),
        (["--using", "vectr"], "did you mean 'vector'"),
        (["-k", "0"], "greater than or equal to 1"),
        (["-k", "-3"], "greater than or equal to 1"),
        (["--ef", "0"], "greater than or equal to 1"),
        (["--nprobe", "-1"], "greater than or equal to 1"),
    ],
)
def test_options_that_do_not_fit_the_collection_are_bad_usage_with_the_reason(
    run: Run, photos: str, arguments: list[str], says: str
) -> None:
    ran = run("search", "a dog", "--store", photos, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_another_model_than_the_collections_is_refused(run: Run, photos: str) -> None:
    ran = run("search", "a dog", "--store", photos, "--model", "somebody/else")
    assert (ran.code, ran.out) == (1, "")
    assert "holds vectors of bundled" in ran.err


def test_a_knob_that_the_index_does_not_take_is_refused(run: Run, photos: str) -> None:
    ran = run("search", "a dog", "--store", photos, "--nprobe", 3)
    assert ran.code == 1
    assert "nprobe" in ran.err


def test_a_picture_that_cannot_be_read(run: Run, photos: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    ran = run("search", "--image", "broken.jpg", "--store", photos)
    assert ran.code == 1
    assert "broken.jpg: the content is not a JPEG" in ran.err
    assert run("search", "--image", "nowhere.jpg", "--store", photos).code == 2


def test_the_store_comes_from_the_settings(run: Run, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBRIDGE_STORE", photos)
    assert len(run("search", "a dog", "--json").json["hits"]) == 10
    assert run("info", "--json").json["rows"] == 20


def test_the_store_comes_from_a_dotenv_file(run: Run, photos: str) -> None:
    Path(".env").write_text(f"VECBRIDGE_STORE={photos}\n")
    assert run("info", "--json").json["rows"] == 20


def test_piped_output_is_not_cut(run: Run, pictures: Path) -> None:
    title = "long " * 40
    line = json.dumps({"file_name": "0.png", "title": title.strip()})
    (pictures / "metadata.jsonl").write_text(line + "\n")
    run("index", pictures, "--store", "faiss:./s#photos")
    ran = run("search", "a dog", "--store", "faiss:./s#photos", "-k", 10)
    assert title.strip() in ran.out
    assert str(pictures / "0.png") in ran.out
    assert not any(text.endswith(" ") for text in ran.out.splitlines())


# ------------------------------------------------------------------------------------------------ times


@pytest.fixture
def dated(run: Run, pictures: Path) -> str:
    """The URL of three pictures with times, lists and ids to filter by."""
    url = "faiss:./s#photos"
    with vb.embedder("bundled") as clip, vb.connect("faiss:./s") as store:
        vectors = clip.embed_images([pictures / f"{number}.png" for number in range(3)])
        fields: dict[str, Any] = {"modified": "timestamp", "sizes": "list<int64>", "path": "string"}
        spec = vb.CollectionSpec.single("photos", dim=clip.dim, fields=fields, embedder=clip.identity)
        moments = [datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 5, 17, 12, tzinfo=UTC), None]
        paths = [str(pictures / f"{number}.png") for number in range(3)]
        with store.create(spec) as photos:
            photos.upsert(
                vb.batch(spec, id=["a", "b", "c"], vector=vectors, modified=moments, sizes=[[1], [], [1, 3]],
                         path=paths)
            )  # fmt: skip
    return url


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("modified > '2024-01-01'", ["b"]),
        ("modified <= '2023-01-01'", ["a"]),
        ("modified = '2024-05-17T14:00:00+02:00'", ["b"]),
        ("modified is null", ["c"]),
        ("contains(sizes, 3)", ["c"]),
        ("is_empty(sizes)", ["b"]),
        ("id = 'a' or id in ('c', 'x')", ["a", "c"]),
    ],
)
def test_conditions_on_times_lists_and_ids(run: Run, dated: str, where: str, ids: list[str]) -> None:
    found = run("search", "a dog", "--store", dated, "--where", where, "--json").json
    assert sorted(hit["id"] for hit in found["hits"]) == ids


def test_a_time_without_an_offset_is_refused_before_a_model_is_loaded(run: Run, dated: str) -> None:
    ran = run(
        "search", "a dog", "--store", dated, "--model", "x/y", "--where", "modified > '2024-01-01 12:00'"
    )
    assert (ran.code, ran.out) == (2, "")
    assert "write 2024-01-01T12:00:00Z, or another offset" in ran.err


def test_times_are_readable_in_the_table_and_the_page_and_exact_in_json(run: Run, dated: str) -> None:
    command = ("search", "a dog", "--store", dated, "--where", "modified > '2024-01-01'")
    ran = run(*command, "--html", "p.html", "--include", "modified,sizes")
    assert "2024-05-17 12:00:00 UTC" in ran.out
    assert "<dt>modified</dt><dd>2024-05-17 12:00:00 UTC</dd>" in Path("p.html").read_text("utf-8")
    found = run(*command, "--json").json
    assert found["hits"][0]["record"]["modified"] == "2024-05-17T12:00:00.000000Z"
    assert found["filter"] == {"field": "modified", "op": ">", "value": "2024-01-01T00:00:00.000000Z"}


def test_the_table_shows_dates_and_no_byte_counts_unless_they_are_asked_for(run: Run, photos: str) -> None:
    table = run("search", "a dog", "--store", photos).out
    assert "bytes" not in table.splitlines()[0].split()
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", table)
    assert "UTC" not in table
    whole = run("search", "a dog", "--store", photos, "--include", "bytes,modified").out
    assert whole.splitlines()[0].split() == ["#", "score", "id", "bytes", "modified"]
    assert re.search(r" \d+  20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\S* UTC", whole)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"format": "png", "bytes": 7, "modified": 1_715_947_200}, ["2024-05-17", "png"]),
        ({"format": "png", "bytes": 7, "modified": 1 << 62}, [str(1 << 62), "png"]),
        ({"bytes": 7, "modified": 1_715_947_200}, ["1715947200", "7"]),  # fields of somebody else
    ],
)
def test_seconds_that_index_once_wrote_are_dates_too(fields: dict[str, Any], shown: list[str]) -> None:
    table, hidden = hits_table([Hit("a", 0.5, fields)], list(fields), width=80, all_fields=False)
    lines = [list(column.cells) for column in table.columns[3:]]
    assert [str(cell) for [cell] in lines] == shown
    assert hidden == []


# ------------------------------------------------------------------------------------------------- page


def test_the_page_embeds_its_pictures_and_escapes_text(run: Run, pictures: Path) -> None:
    line = {"file_name": "0.png", "title": "<script>alert('x')</script> & \"more\""}
    (pictures / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    run("index", pictures, "--store", "faiss:./s#photos", "--no-texts")
    text = '<img src=x onerror="alert(1)">'
    ran = run("search", text, "--store", "faiss:./s#photos", "--html", "p.html", "--where", "title <> '<b>'")
    assert ran.code == 0
    page = Path("p.html").read_text("utf-8")
    assert "<script" not in page
    assert "onerror=&#34;" in page
    assert "<img src=x" not in page
    assert "title &lt;&gt; &#39;&lt;b&gt;&#39;" in page
    assert page.count('src="data:image/jpeg;base64,') == 1  # only the picture that has a title
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    for named in ("faiss:./s", "photos", "bundled", "cosine"):
        assert named in page


def test_the_page_works_without_the_pictures(run: Run, pictures: Path) -> None:
    run("index", pictures, "--store", "faiss:./s#photos")
    shutil.rmtree(pictures)
    assert run("search", "a dog", "--store", "faiss:./s#photos", "--html", "p.html").code == 0
    page = Path("p.html").read_text("utf-8")
    assert "data:image" not in page
    assert page.count("no picture here") == 8
    assert "un perro" in page


def test_the_page_has_pictures_although_their_path_is_not_included(run: Run, photos: str) -> None:
    run("search", "a dog", "--store", photos, "--include", "name", "--html", "p.html", "-k", 2)
    page = Path("p.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 2
    assert first_picture(photos).rpartition("/")[0] not in page


# ------------------------------------------------------------------------------------------------ table


def drawn(hits: list[Hit], fields: list[str], width: int, **options: bool) -> tuple[list[str], list[str]]:
    table, hidden = hits_table(hits, fields, width=width, all_fields=options.get("all_fields", False))
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines(), hidden


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_fits_the_terminal_and_names_the_fields_it_hides(width: int) -> None:
    record = {"title": "t" * 100, "none": None, "year": 2020, "tags": ["sea", "summer"], "path": "/p" * 30}
    hits = [Hit(f"folder/picture-{row}.png", 0.5 - row / 100, record) for row in range(3)]
    lines, hidden = drawn(hits, list(record), width)
    assert all(len(line) <= width for line in lines)
    heading = lines[0].split()
    assert heading[:3] == ["#", "score", "id"]
    assert set(heading[3:]) | set(hidden) == {"title", "year", "tags", "path"}


def test_included_fields_are_all_shown_and_folded() -> None:
    record = {"title": "word " * 40, "none": None}
    lines, hidden = drawn([Hit("a", 1.0, record)], ["title", "none"], 60, all_fields=True)
    assert hidden == []
    assert " ".join(lines).split().count("word") == 40
    assert "none" in lines[0]


def test_data_cannot_control_the_terminal(run: Run, tmp_path: Path) -> None:
    evil = "a\x1b[31mred\x07\u202egnp"
    (tmp_path / "r.jsonl").write_text(json.dumps({"id": evil, "vector": [1] * 256, "note": evil}) + "\n")
    assert run("load", "r.jsonl", "--store", "faiss:./s#photos").code == 0
    ran = run("search", "x", "--store", "faiss:./s#photos")
    assert "\\x1b[31mred\\x07\\u202egnp" in ran.out
    assert "\x1b" not in ran.out
    assert run("search", "x", "--store", "faiss:./s#photos", "--json").json["hits"][0]["id"] == evil
