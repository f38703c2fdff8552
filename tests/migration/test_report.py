"""The report: everything escaped, no scripts, below 1 MB, and no values where none are wanted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

import vecbridge as vb
from vecbridge.migration.plans import Column, Plan
from vecbridge.migration.proof import Finding, NamespaceCount, Proof, Recall, Scores

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "'; -->",
    "&amp;",
    "\u202egnp",
    "\x00",
]
VOID = {"meta"}


class Tags(HTMLParser):
    """Collects tags and attributes, and looks whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def proof(count: int = 3) -> Proof:
    spec = vb.CollectionSpec.single("photos", dim=2, fields={"title": "string"})
    columns = (Column("vector", "vector"), Column("title", "title"))
    plan = Plan("memory:///a#photos", "memory:///b#photos", spec, "1", spec, columns)
    findings = [
        Finding("value", "another value", "", f"{text}{number}", "title", f"secret {text}", text)
        for number in range(count)
        for text in HOSTILE
    ]
    filter = {"field": "title", "op": "==", "value": f"secret {HOSTILE[0]}"}
    recall = [
        Recall("vector", None, None, 1.0, 10, 100, 0.5, None, 0.4, 0.95, False, None),
        Recall("vector", None, filter, 0.1, 10, 100, 1.0, 0.0, 0.9, 0.95, True, 0.5),
    ]
    scores = [Scores("vector", (1.0,) * 400, (1.0,) * 400), Scores("empty")]
    counts = [NamespaceCount(f"n{number}", (f"m{number}",), 1, 2) for number in range(count)]
    return Proof(
        False, tuple(findings), "search", HOSTILE[0], HOSTILE[1], tuple(counts), plan,
        datetime(2026, 1, 2, tzinfo=UTC), tuple(recall), tuple(scores), tuple(HOSTILE), {"<b>": "<i>"},
        {"count": 1.5}, 7,
    )  # fmt: skip


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_hostile_text_is_text_and_the_page_has_no_scripts_and_loads_nothing() -> None:
    page = proof().to_html()
    tags = parsed(page)
    assert not tags.names & {"script", "img", "link", "iframe", "object", "i", "b"}
    assert not {name for name in tags.attributes if name.startswith("on")} | (
        {"href", "src"} & tags.attributes
    )
    text = "".join(tags.text)
    for hostile in HOSTILE[:4]:
        assert hostile in text
    assert "\\u202egnp" in text
    assert not {"\u202e", "\x00"} & set(page)
    assert "http" not in page


def test_a_page_stays_below_a_megabyte_and_says_what_it_leaves_out() -> None:
    page = proof(5_000).to_html()
    assert len(page.encode()) < 1_000_000
    assert "and 29,800 more" in page
    assert "more namespaces" in page


@pytest.mark.parametrize("form", ["html", "json"])
def test_values_are_shown_unless_they_are_not_wanted(form: str) -> None:
    make = proof().to_html if form == "html" else proof().to_json
    assert "secret" in make()
    assert "secret" not in make(values=False)


def test_a_proof_is_json_without_numbers_that_json_does_not_have() -> None:
    text = proof().to_json()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert values["passed"] is False
    assert values["recall"][0]["source"] is None
    assert values["finished"] == "2026-01-02T00:00:00.000000Z"
