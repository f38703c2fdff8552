"""Identities of two formats: what is stored, what is compared, what an older vecbridge reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from vecbridge import identity, records
from vecbridge.agreement import differences
from vecbridge.errors import EmbedderMismatchError, SchemaError
from vecbridge.identity import EmbedderIdentity, embedder_differences, same_embedder
from vecbridge.records import require_same_embedder
from vecbridge.schema import CollectionSpec
from vecbridge.sources.inference import SourceSchema, merged

OLD = EmbedderIdentity("clip", "0123", 3, "p")
NEW = replace(OLD, config="c", tokenizer="t", format=2)
STORED_BEFORE = (
    '{"name":"photos","vectors":[{"name":"vector","dim":3,"metric":"cosine","index":{"kind":"auto"},'
    '"embedder":{"model":"clip","revision":"0123","dim":3,"preprocessing":"p"}}],'
    '"fields":[],"id_type":"string","namespaced":false}'
)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_told", set())


def spec(embedder: EmbedderIdentity) -> CollectionSpec:
    return CollectionSpec.single("photos", dim=3, embedder=embedder)


def test_a_spec_with_an_identity_of_the_first_format_keeps_its_bytes() -> None:
    assert CollectionSpec.from_json(STORED_BEFORE) == spec(OLD)
    assert spec(OLD).to_json() == STORED_BEFORE


def test_a_spec_with_an_identity_of_today_comes_back_equal() -> None:
    assert CollectionSpec.from_json(spec(NEW).to_json()) == spec(NEW)
    assert spec(NEW) != spec(OLD)


def test_what_an_older_vecbridge_reads_of_a_spec_is_what_it_would_have_written() -> None:
    values = spec(NEW).to_dict()
    [vector] = values["vectors"]
    assert vector.pop("embedder_added") == {"format": 2, "config": "c", "tokenizer": "t"}
    assert values == json.loads(STORED_BEFORE)


@pytest.mark.parametrize("added", [7, [1], {}, {"format": "2"}, {"format": True}, {"format": 2, "config": 5}])
def test_a_damaged_addition_is_a_schema_error(added: object) -> None:
    values = spec(NEW).to_dict()
    values["vectors"][0]["embedder_added"] = added
    with pytest.raises(SchemaError, match="not a collection spec"):
        CollectionSpec.from_dict(values)
    batch = records.batch(spec(OLD), id=["a"], vector=[[1, 0, 0]])
    stamped = records.stamp(batch, NEW)
    metadata = stamped.schema.metadata | {b"vecbridge.embedder_added": json.dumps(added).encode()}
    with pytest.raises(SchemaError, match="stamp"):
        records.stamped(stamped.replace_schema_metadata(metadata))


def test_hashes_need_a_format_that_stores_them() -> None:
    with pytest.raises(SchemaError, match="format=2"):
        EmbedderIdentity("clip", "0123", 3, "p", tokenizer="t")


def test_a_stamp_of_either_format_is_read_back_and_one_replaces_the_other() -> None:
    batch = records.batch(spec(OLD), id=["a"], vector=[[1, 0, 0]])
    new = records.stamp(batch, NEW)
    assert records.stamped(new) == NEW
    assert records.stamped(records.stamp(new, OLD)) == OLD
    four = json.loads(new.schema.metadata[b"vecbridge.embedder"])
    assert EmbedderIdentity(**four) == OLD, "an older vecbridge reads this key alone"


def test_an_identity_of_a_later_format_is_compared_by_its_four_parts() -> None:
    values = spec(NEW).to_dict()
    values["vectors"][0]["embedder_added"] = {"format": 3, "config": "other", "pooling": "mean"}
    later = CollectionSpec.from_dict(values).vector.embedder
    assert later is not None
    assert same_embedder(later, NEW)
    assert not same_embedder(replace(later, revision="9"), NEW)


def test_two_formats_agree_by_their_four_parts_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        require_same_embedder(spec(OLD).vector, NEW)
        assert differences(spec(OLD), spec(NEW)) == []
        records.check(records.stamp(records.batch(spec(OLD), id=["a"], vector=[[1, 0, 0]]), NEW), spec(OLD))
    [said] = [record.getMessage() for record in caplog.records]
    assert said == (
        "the identity of clip (0123) was recorded in format 1 and is compared with one of format 2: its "
        "config.json and tokenizer are not compared; a collection made now records them (said once)"
    )


def test_identities_of_one_format_agree_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    for one in (OLD, NEW):
        require_same_embedder(spec(one).vector, replace(one))
    assert caplog.records == []


@pytest.mark.parametrize("change", [{"model": "x"}, {"revision": "9"}, {"preprocessing": "q"}])
def test_each_of_the_four_parts_counts_between_two_formats(change: dict[str, str]) -> None:
    with pytest.raises(EmbedderMismatchError):
        require_same_embedder(spec(OLD).vector, replace(NEW, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "x"}, "clip (0123), not of x (0123): use that model"),
        ({"revision": "9"}, "clip (0123), not of clip (9): use that model"),
        ({"preprocessing": "q"}, "another preprocessing of pictures: bring its files back"),
        ({"config": "q"}, "another config.json"),
        ({"tokenizer": "q"}, "another tokenizer: bring its files back"),
        ({"tokenizer": "q", "config": "q"}, "another config.json and tokenizer"),
    ],
)
def test_a_refusal_says_what_differs(change: dict[str, str], words: str) -> None:
    with pytest.raises(EmbedderMismatchError) as caught:
        require_same_embedder(spec(NEW).vector, replace(NEW, **change))
    assert words in str(caught.value)
    assert len(embedder_differences(NEW, replace(NEW, **change))) == len(change)
    assert len(differences(spec(NEW), spec(replace(NEW, **change)))) == 1


def files(*embedders: EmbedderIdentity | None) -> Iterator[SourceSchema]:
    for each in embedders:
        yield SourceSchema("string", {"vector": 3}, {}, {}, {}, each)


def test_files_of_two_formats_are_loaded_together_as_the_older() -> None:
    assert merged(files(NEW, OLD)).embedder == OLD
    assert merged(files(OLD, NEW)).embedder == OLD
    assert merged(files(NEW, NEW)).embedder == NEW
    for other in (replace(NEW, tokenizer="q"), None):
        with pytest.raises(SchemaError, match="different models"):
            merged(files(NEW, other))
