"""Contact sheets: as a picture and as a page."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from vecbridge.apps import contact_sheet
from vecbridge.apps.contact_sheet import Section, Sheet, Tile, tile, write_png
from vecbridge.apps.page import page, thumbnail
from vecbridge.query import Hit


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (900, 300), (220, 20, 20)).save(path)
    return path


def test_a_hit_becomes_a_tile(red: Path) -> None:
    made = tile(
        Hit("folder/a.png", 0.5, {"path": str(red), "name": "Red", "year": None, "tags": ["x"]}),
        ["name", "year", "tags"],
    )
    assert made == Tile("folder/a.png", 0.5, "Red", (("name", "Red"), ("tags", ["x"])), red)


def test_a_text_is_shown_as_such(red: Path) -> None:
    record = {"path": __file__, "format": "text", "text": "a <red> car", "line": 3}
    made = tile(Hit("notes.txt#3", 0.5, record), ["text", "line"])
    assert (made.picture, made.text) == (None, "a <red> car")
    shown = page(Sheet("T", (Section("q", (made,)),)))
    assert shown.count("a &lt;red&gt; car") == 1
    assert "no picture here" not in shown
    captioned = tile(Hit("a.png", 0.5, {"path": str(red), "text": "a caption"}), ["text"])
    assert (captioned.picture, captioned.text, captioned.values) == (red, None, (("text", "a caption"),))


@pytest.mark.parametrize("path", ["/nowhere/a.png", "", "a\0b", "x" * 5000, None, 7])
def test_a_path_that_leads_nowhere_is_no_picture(path: object) -> None:
    made = tile(Hit("folder/a.png", 0.5, {"path": path}), [])
    assert made.picture is None
    assert made.caption == "a.png"


def test_the_picture_shows_the_tiles(red: Path, tmp_path: Path) -> None:
    tiles = (Tile("a", 1.0, "Red", picture=red), Tile("b", 0.5, "nothing"))
    write_png(
        tmp_path / "sheet.png", Sheet("Title", (Section("asked", tiles), Section("ásked", (), picture=red)))
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        colors = {color: count for count, color in sheet.convert("RGB").getcolors(1 << 24)}
    reds = sum(count for (r, g, b), count in colors.items() if r > 200 and g < 40 and b < 40)
    assert reds > 128 * 40  # a tile, and the smaller picture that was asked for


def test_without_a_font_that_has_accents_text_is_written_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "_FONTS", ())
    monkeypatch.setattr(contact_sheet, "_BOLD_FONTS", ())
    for name, text in (("a.png", "música à vélo"), ("b.png", "musica a velo")):
        write_png(tmp_path / name, Sheet(text, (Section(text, (Tile("a", 1.0, text),), condition=text),)))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_thumbnails_are_small_jpegs(red: Path) -> None:
    uri = thumbnail(red)
    assert uri
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", (320, 107))


def test_a_damaged_picture_is_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG nothing")
    assert thumbnail(tmp_path / "a.png") is None
    text = page(Sheet("T", (Section("q", (Tile("a", 1.0, "A", picture=tmp_path / "a.png"),)),)))
    assert "no picture here" in text


def test_every_text_of_a_page_is_escaped() -> None:
    evil = "<i>&\"'"
    tiles = (Tile(evil, 1.0, evil + "1", ((evil, evil), (evil, [evil, evil]))),)
    text = page(Sheet(evil, (Section(evil, tiles, condition=evil),), ((evil, evil),), evil))
    assert "<i>" not in text
    assert html.unescape(text).count(evil) >= 11
    assert text.count("&lt;i&gt;&amp;") >= 11
    assert re.search(r"<title>&lt;i&gt;", text)


def test_a_page_holds_so_many_pictures_and_no_more(red: Path) -> None:
    tiles = tuple(Tile(str(n), 1.0, str(n), picture=red) for n in range(205))
    text = page(Sheet("T", (Section("q", tiles),)))
    assert text.count("data:image/jpeg") == 200
    assert text.count("no picture here") == 5


def test_nothing_found_is_said() -> None:
    assert "Nothing was found." in page(Sheet("T", (Section("q", ()),)))


def shown_of(*tiles: Tile, title: str = "q") -> str:
    return page(Sheet("T", (Section(title, tiles),)))


@pytest.mark.parametrize("text", ["", "\u3000\u3000", "\u200b\ufeff", "\u3164", "\n\t "])
def test_a_text_without_anything_to_see_says_so(text: str, tmp_path: Path) -> None:
    made = tile(Hit("notes.txt#1", 0.5, {"format": "text", "text": text}), ["text"])
    assert shown_of(made).count("(no visible text)") == 1
    assert "no picture here" not in shown_of(made)
    titled = tile(Hit("a.png", 0.5, {"title": text or " "}), [])
    assert '<b class="title" title="(no visible text)">(no visible text)</b>' in shown_of(titled)
    assert '<h2 class="title" title="(no visible text)">' in shown_of(title=text)
    for name, words in (("a.png", text), ("b.png", "(no visible text)")):
        one = Tile("a", 0.5, "a", text=words)
        write_png(tmp_path / name, Sheet("T", (Section("q", (one,)),)))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_long_titles_are_clamped_and_file_names_are_whole() -> None:
    name = "folder/" + "IMG_2024-05-17_" * 30 + ".jpg"
    words = "a very long title " * 500
    text = shown_of(
        Tile(name, 0.5, Path(name).name),
        Tile("folder/b.jpg", 0.4, words.strip(), (("path", "/" + name), ("notes", words))),
        title=words,
    )
    assert text.replace("<wbr>", "").count(name) == 2
    assert '<b class="name">IMG_<wbr>2024-<wbr>05-<wbr>17_<wbr>' in text
    assert '<b class="title" title="a very long title' in text
    assert max(map(len, re.findall(r"(?:a very long title ?)+…?", text))) <= 300
    assert re.search(r"\.title {[^}]*line-clamp: 3;[^}]*overflow: hidden", text)


def test_a_picture_stands_on_the_paper_of_the_mode_and_not_on_white(red: Path) -> None:
    text = shown_of(Tile("a", 0.5, "a", picture=red))
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    white = [rule for rule in style.split("}") if re.search(r"background: *(#fff|white)", rule)]
    assert white == []


@pytest.mark.parametrize("text", ["\u202egnp.exe", "a\x1b[31m", "\x85b"])
def test_control_characters_are_spelled_out_on_the_page(text: str) -> None:
    shown = shown_of(Tile(text, 0.5, text, ((text, text),)), title=text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert text.encode("unicode_escape").decode()[:5] in shown


def test_all_pages_have_one_stylesheet(root: Path) -> None:
    folder = root / "vecbridge" / "pages" / "templates"
    assert [path.name for path in folder.glob("*.css")] == ["style.css"]
    for path in (root / "vecbridge").rglob("*.py"):
        assert "<style" not in path.read_text("utf-8"), path
    for path in folder.glob("*.html"):
        written = path.read_text("utf-8")
        assert "|safe" not in written.replace(" ", ""), path
        assert path.name in ("base.html", "plots.html") or 'extends "base.html"' in written
