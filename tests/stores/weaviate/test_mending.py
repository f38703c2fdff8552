"""How often rows are looked for after a crash; what the genuine server loses in one is in test_crash.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores.weaviate.helpers import fresh, made, rows
from vecbridge.collection import Collection
from vecbridge.errors import DeadlineError
from vecbridge.schema import CollectionSpec
from vecbridge.store import Store
from vecbridge.stores.weaviate import mending, repairing


@pytest.fixture
def collection(store: Store) -> Iterator[Collection]:
    """Three rows, which one page holds."""
    spec = CollectionSpec.single(fresh("mended"), dim=4)
    with made(store, spec) as photos:
        photos.upsert(rows(spec, ["a", "b", "c"]))
        yield photos


def missing(monkeypatch: pytest.MonkeyPatch, *places: list[int]) -> Iterator[list[int]]:
    """Which rows of the page no search finds, each time that they are looked for."""
    answers = iter(places)
    monkeypatch.setattr(repairing, "_missed_in_any_field", lambda *_: next(answers))
    return answers


def test_rows_that_lost_their_links_to_those_written_again_are_written_too(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = missing(monkeypatch, [0], [], [1], [], [])
    assert collection.repair() == 2
    assert list(left) == []


def test_three_rounds_are_enough_whatever_the_graph_loses(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = missing(monkeypatch, [0], [], [1], [], [2], [], [0])
    assert collection.repair() == 3
    assert list(left) == [[0]]


def test_a_row_that_is_missed_again_is_counted_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = missing(monkeypatch, [0], [], [0], [], [])
    assert collection.repair() == 1
    assert list(left) == []


def test_a_graph_that_hides_what_it_was_just_given_is_not_written_to_again(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = missing(monkeypatch, [0, 1], [0], [0])
    assert collection.repair() == 2
    assert list(left) == [[0]]


def test_a_row_that_stays_hidden_is_written_once_more_when_others_were(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mending, "_SPARSE", 1)  # so that one of three rows is no sparse graph
    left = missing(monkeypatch, [0, 1], [0], [0], [], [])
    assert collection.repair() == 2
    assert list(left) == []
    [written_again] = (record.getMessage() for record in caplog.records)
    assert "2 rows were found by no search" in written_again


def test_a_row_that_is_hidden_to_the_end_is_counted_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mending, "_SPARSE", 1)
    left = missing(monkeypatch, *[[0]] * 6)
    assert collection.repair() == 1
    assert list(left) == []
    assert "1 of them are still not found" in caplog.text


def test_a_search_that_ran_out_of_time_goes_on_in_its_round(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = missing(monkeypatch, [0], [], [])
    with pytest.raises(DeadlineError, match="call again to go on"):
        collection.repair(timeout=1e-9)
    assert collection.repair() == 1
    assert list(left) == []


def test_a_graph_is_suspect_in_another_term_and_after_an_interrupted_write() -> None:
    graph = mending.Graph(fresh=True)
    assert not graph.is_suspect("3")  # nothing was written
    graph.record_term("3")
    assert not graph.is_suspect("3")
    graph.record_term("4")  # of a later write, after the server was restarted
    assert graph.is_suspect("4")
    interrupted = mending.Graph(fresh=True)
    interrupted.record_term("3")
    interrupted.mark_suspect()
    assert interrupted.is_suspect("3")


def test_a_row_is_doubtful_from_its_interrupted_write_until_one_is_acknowledged() -> None:
    graph = mending.Graph(fresh=True)
    assert graph.doubtful(["a", "b"]) == set()
    graph.mark_doubtful(["a", "b"])
    assert graph.doubtful(["b", "c"]) == {"b"}
    graph.mark_acknowledged(["b", "c"])
    assert graph.doubtful(["a", "b", "c"]) == {"a"}
