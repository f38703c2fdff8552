"""Every pair of stores, in both directions: what went out comes back as it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.migration.sides import PLACES, fresh_name
from vecbridge.migration.plans import Loss

PAIRS = list(itertools.product(PLACES, PLACES))
#: Kinds that a plan between our own stores may name: of the index, and limits to single rows.
EXPECTED = {"index", "quantization", "size", "id", "int_width", "row:zero_vector"}
FIELDS = {
    "flag": "bool", "year": "int64", "price": "float64", "title": "string", "taken": "timestamp",
    "tags": "list<string>", "counts": "list<int64>", "weights": "list<float64>", "notes": "json",
}  # fmt: skip
NULL: dict[str, Any] = dict.fromkeys(FIELDS)
ROWS: dict[str, dict[str, Any]] = {
    "a": {
        "flag": True, "year": 2**63 - 1, "price": 0.1, "title": "A", "taken": "2020-05-17T10:00:00.000001Z",
        "tags": ["sea", ""], "counts": [-(2**63), 2**63 - 1], "weights": [1e-300, -0.5], "notes": {"b": 1},
    },
    "A": {"flag": False, "year": -(2**63), "price": -1.7976931348623157e308, "title": "", "tags": []},
    " leading and trailing ": {"year": 0, "price": 5e-324, "title": " x\n\t", "counts": [], "weights": []},
    "100%2F/../#?&=~": {"title": 'quote" \\ back\\\\slash', "notes": {"deep": [{"null": None}, 2**53 + 1]}},
    "caf\u00e9": {"title": "caf\u00e9", "tags": ["\u00e9", "e\u0301"], "taken": "0001-01-01T00:00:00Z"},
    "cafe\u0301": {"title": "cafe\u0301", "taken": "9999-12-31T23:59:59.999999Z"},
    "\U0001f98a": {"title": "\U0001f98a\u200d\u5d14", "notes": []},
    "null": {"notes": "null", "year": 2**53 + 1},
    "x" * 512: {"price": 1 / 3, "tags": [str(number) for number in range(50)]},
}  # fmt: skip


def spec(name: str) -> vb.CollectionSpec:
    return vb.CollectionSpec.single(name, dim=8, metric="l2", fields=FIELDS, namespaced=True)


def records(namespace: str) -> list[dict[str, Any]]:
    shift = float(len(namespace))
    return [
        {"id": key, "vector": [shift, number, 0.1, -1e-30, 3e30, 1 / 3, -number, 1.0], **NULL, **values}
        for number, (key, values) in enumerate(ROWS.items())
    ]


def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row by namespace, ordered by id; vectors by their bits."""
    store_url, _, name = url.partition("#")
    with vb.connect(store_url, **options(url)) as store:
        found = {}
        for namespace in store.namespaces(name):
            collection = store.open(name, namespace=namespace)
            rows = [row for page in collection.scan() for row in page.batch.to_pylist()]
            found[namespace] = sorted(rows, key=lambda row: row["id"])
        return found


def options(url: str) -> dict[str, str]:
    return {"api_key": "emulated"} if url.startswith("pinecone") else {}


def moved(source: str, target: str) -> tuple[Loss, ...]:
    """Copies and verifies; what the plan names."""
    sides = {"source_options": options(source), "target_options": options(target)}
    allow = ("index", "quantization")
    report = vb.migrate(source, target, allow=allow, **sides)
    assert report.failed == 0
    proof = vb.verify(source, target, level="content", plan=report.plan, **sides)
    assert proof.passed, proof.findings
    return report.plan.losses


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def filled(directory: Path) -> Iterator[dict[str, str]]:
    """By kind of store, a collection with the rows in two namespaces; made when first asked for."""
    with ExitStack() as stack:
        yield _Filled(directory, stack)


class _Filled(dict[str, str]):
    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__()
        self._directory, self._stack = directory, stack

    def __missing__(self, kind: str) -> str:
        url = PLACES[kind].url(self._directory / kind)
        name = fresh_name()
        with vb.connect(url, **options(url)) as store:
            for namespace in ("", "eu-1"):
                collection = store.create(spec(name), if_exists="open", namespace=namespace)
                collection.upsert(records(namespace))
                collection.flush()
        self._stack.callback(_drop, f"{url}#{name}")
        self[kind] = f"{url}#{name}"
        return self[kind]


def _drop(url: str) -> None:
    store_url, _, name = url.partition("#")
    with vb.connect(store_url, **options(url)) as store:
        store.drop(name)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=["-to-".join(pair) for pair in PAIRS])
def test_what_goes_to_another_store_and_comes_back_is_what_it_was(
    first: str, second: str, filled: dict[str, str], directory: Path, request: pytest.FixtureRequest
) -> None:
    source = filled[first]
    away = f"{PLACES[second].url(directory / second)}#{fresh_name('away')}"
    back = f"{source.partition('#')[0]}#{fresh_name('back')}"
    for url in (away, back):
        request.addfinalizer(lambda url=url: _drop(url))
    losses = [*moved(source, away), *moved(away, back)]
    assert {loss.kind for loss in losses} <= EXPECTED
    before = contents(source)
    assert set(before) == {"", "eu-1"}
    assert all(len(rows) == len(ROWS) for rows in before.values())
    assert contents(back) == before
    with vb.open(source, **options(source)) as original, vb.open(back, **options(back)) as returned:
        assert returned.spec.renamed("x") == original.spec.renamed("x")
