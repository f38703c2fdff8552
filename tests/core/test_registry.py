"""From a URL to a store: built in, third parties', and what is refused on the way."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from vecbridge import registry
from vecbridge.errors import ConfigError, InvalidURLError, NotFoundError, UnknownOptionError
from vecbridge.records import batch
from vecbridge.registry import BUILT_IN, connect, driver_class, open, register, schemes
from vecbridge.schema import CollectionSpec
from vecbridge.store import Collection, Store
from vecbridge.stores.memory import MemoryDriver
from vecbridge.testing import driver_of
from vecbridge.urls import parse

SPEC = CollectionSpec.single("photos", dim=2, namespaced=True)


class Recording(MemoryDriver):
    """A third party's driver, which notes that it was closed."""

    closed = 0

    def close(self) -> None:
        type(self).closed += 1


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else ())


@pytest.mark.parametrize("scheme", BUILT_IN)
def test_every_built_in_scheme_leads_to_a_class_with_capabilities(scheme: str) -> None:
    driver = driver_class(scheme)
    assert driver.capabilities.backend
    assert driver.on_fork in ("reopen", "read_only", "keep", "refuse")
    assert all(hasattr(driver, name) for name in ("connect", "describe", "create", "attach", "drop", "close"))


def test_connect_opens_a_store_and_takes_a_read_url_too() -> None:
    with connect("memory://") as store:
        assert isinstance(store, Store)
    assert connect(parse("memory://")).collections() == []


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("memory://#photos", r"vecbridge\.open"),
        ("memory://?namespace=eu", "namespace"),
        ("memry://", "did you mean 'memory'"),
        ("nonsense", "store URL"),
    ],
)
def test_connect_says_what_is_wrong_with_a_url(url: str, hint: str) -> None:
    with pytest.raises(InvalidURLError, match=hint):
        connect(url)


def test_open_needs_a_collection_that_exists() -> None:
    with pytest.raises(InvalidURLError, match="#name"):
        open("memory:///registry-none")
    with pytest.raises(NotFoundError):
        open("memory:///registry-none#photos")


def test_options_reach_the_store_from_the_url_and_from_arguments() -> None:
    for call in (lambda: connect("memory://?x=1"), lambda: connect("memory://", x=1)):
        with pytest.raises(UnknownOptionError, match="'x'"):
            call()


def test_open_picks_the_namespace_of_the_url() -> None:
    with connect("memory:///registry-namespace") as store:
        eu = store.create(SPEC, namespace="eu")
        eu.upsert(batch(SPEC, id=["a"], vector=[[1, 2]]))
    with open("memory:///registry-namespace?namespace=eu#photos") as found:
        assert (found.namespace, found.count()) == ("eu", 1)
    with open("memory:///registry-namespace#photos") as found:
        assert (found.namespace, found.count()) == ("", 0)


def test_closing_what_open_returned_closes_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("rec", f"{__name__}:Recording", registry.GROUP))
    monkeypatch.setattr(registry, "import_module", lambda name: type("M", (), {"Recording": Recording}))
    Recording.closed = 0
    with connect("rec:///registry-closing") as store:
        store.create(SPEC)
    assert Recording.closed == 1
    with open("rec:///registry-closing#photos") as found:
        assert isinstance(found, Collection)
        assert Recording.closed == 1
    assert Recording.closed == 2
    with pytest.raises(NotFoundError):
        open("rec:///registry-closing#absent")
    assert Recording.closed == 3


def test_a_third_party_adds_a_scheme_and_cannot_take_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        EntryPoint("theirs", "vecbridge.stores.memory:MemoryDriver", registry.GROUP),
        EntryPoint("faiss", "vecbridge.stores.memory:MemoryDriver", registry.GROUP),
    )
    assert driver_class("theirs") is MemoryDriver
    assert schemes()["faiss"] == BUILT_IN["faiss"]


def test_a_registered_driver_is_found_until_the_process_ends_and_takes_no_scheme_of_ours() -> None:
    register("scratch", "vecbridge.stores.memory:MemoryDriver")
    with connect("scratch://") as store:
        assert isinstance(driver_of(store), MemoryDriver)
    for scheme, target in (
        ("faiss", "a:B"),
        ("Bad Scheme", "a:B"),
        ("scratch2", "no_class"),
        ("scratch2", ":B"),
    ):
        with pytest.raises(ConfigError):
            register(scheme, target)


def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("broken", "package.module", registry.GROUP))
    with pytest.raises(ConfigError, match="'broken'"):
        schemes()


def test_memory_is_private_without_a_name_and_shared_with_one() -> None:
    stores: list[Any] = [connect("memory://"), connect("memory://"), connect("memory:///registry-shared")]
    for store in stores:
        store.create(SPEC)
    assert connect("memory:///registry-shared").collections() == ["photos"]
    with pytest.raises(InvalidURLError):
        connect("memory://host/x")
