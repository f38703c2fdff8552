"""A copy that fails before anything is settled leaves all as it was; a later one leaves what was copied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.migration.copies import contents, exists, fill, memory, small_pages
from vecbridge.collection import Collection
from vecbridge.migration.statefile import partial_path

UPSERT = Collection.upsert


def nothing() -> None:
    """What others do meanwhile."""


def make(url: str, *, anew: bool = False) -> None:
    """An empty collection."""
    store_url, _, name = url.partition("#")
    spec = vb.CollectionSpec.single(name, dim=4, metric="l2")
    with vb.connect(store_url) as store:
        store.create(spec, if_exists="replace" if anew else "error").close()


def failed(
    source: str,
    target: str,
    error: BaseException,
    *,
    raises: type[BaseException] | None = None,
    after: int = 0,
    meanwhile: Callable[[], None] = nothing,
    **options: Any,
) -> None:
    """A copy in which upserts fail once some were done."""
    calls = 0

    def upsert(self: Collection, data: Any, **more: Any) -> vb.WriteReport:
        nonlocal calls
        calls += 1
        if calls > after:
            meanwhile()
            raise error
        return UPSERT(self, data, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collection, "upsert", upsert)
        with pytest.raises(raises or type(error)):
            vb.migrate(source, target, **options)


@pytest.fixture
def source() -> str:
    url = memory()
    fill(url, 50)
    return url


@pytest.mark.parametrize(
    "error",
    [vb.AuthError("no"), vb.StorageFullError("full"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_target_journal_and_state_are_gone_and_another_plan_starts_from_nothing(
    source: str, tmp_path: Path, error: BaseException
) -> None:
    target = memory()
    journal, state = tmp_path / "run.journal", tmp_path / "photos.state"
    failed(source, target, error, journal=journal, state=state)
    assert not exists(target)
    assert not any(path.exists() for path in (journal, state, partial_path(state)))
    report = vb.migrate(source, target, rename={"year": "taken"}, journal=journal, state=state)
    assert report.written == 50
    assert {*next(iter(contents(target)[""].values()))} == {"id", "vector", "taken", "title", "tags"}


def test_a_row_that_cannot_be_kept_leaves_no_target(source: str) -> None:
    target = memory()
    failed(source, target, vb.BackendError("400: not this one"), raises=vb.InvalidRecordError)
    assert not exists(target)


def test_what_was_copied_stays_and_the_journal_goes_on(source: str, tmp_path: Path) -> None:
    target, journal = memory(), tmp_path / "run.journal"
    with small_pages():
        failed(source, target, vb.AuthError("no"), after=3, journal=journal)
        assert exists(target)
        report = vb.migrate(source, target, journal=journal)
    assert report.resumed
    assert contents(target) == contents(source)


def test_an_empty_target_that_was_there_stays(source: str) -> None:
    target = memory()
    fill(target, 0)
    failed(source, target, vb.AuthError("no"))
    assert exists(target)


def test_a_target_that_somebody_else_made_anew_meanwhile_stays(source: str) -> None:
    target = memory()
    failed(source, target, vb.AuthError("no"), meanwhile=lambda: make(target, anew=True))
    assert exists(target)


def test_a_target_that_somebody_else_wrote_to_meanwhile_stays(source: str) -> None:
    target = memory()

    def used() -> None:
        with vb.open(target) as theirs:
            UPSERT(theirs, [{"id": "theirs", "vector": [1, 2, 3, 4]}])

    failed(source, target, vb.AuthError("no"), meanwhile=used)
    assert list(contents(target)[""]) == ["theirs"]
