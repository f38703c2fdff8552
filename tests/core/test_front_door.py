"""The front door: the names that people type, with the signatures that the design fixes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from vecbridge import field

NAMES = """
    connect open batch vectors stamp write embedder field
    Store Collection CollectionSpec VectorField Field Metric EmbedderIdentity
    Auto Flat IVFFlat IVFSQ8 IVFPQ HNSW SCANN DISKANN Other
    Filter Query Hit Hits Page Status WriteReport Failure Capabilities Gap Embedder
    VecbridgeError ConfigError InvalidURLError UnknownOptionError MissingDependencyError SchemaError
    DimensionMismatchError CollectionExistsError EmbedderMismatchError InvalidRecordError NotFoundError
    UnsupportedError BackendError RateLimitedError UnavailableError AuthError TooLargeError DeadlineError
    StoreLockedError CorruptStoreError StorageFullError PartialWriteError LossRefusedError JournalError
    CursorExpiredError
""".split()  # noqa: SIM905


def shape(function: Callable[..., Any]) -> str:
    """The signature without annotations; * and ** are kept."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(parameters))


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_listed(name: str) -> None:
    assert getattr(vb, name) is not None
    assert name in vb.__all__
    assert name in dir(vb)


def test_no_module_shadows_a_name() -> None:
    assert vb.__file__ is not None
    rooms = {path.stem for path in Path(vb.__file__).parent.iterdir()}
    assert rooms & set(vb.__all__) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = vb.conect


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (vb.connect, "(url, **options)"),
        (vb.open, "(url, **options)"),
        (vb.batch, "(spec, /, **columns)"),
        (vb.field, "(name)"),
        (vb.Store.create, "(spec, *, if_exists='error', grow=False, namespace='')"),
        (vb.Store.open, "(name, *, namespace='')"),
        (vb.Store.collections, "()"),
        (vb.Store.namespaces, "(name)"),
        (vb.Store.drop, "(name, *, namespace=None)"),
        (vb.Store.close, "()"),
        (vb.Collection.upsert, "(data, *, on_conflict='replace')"),
        (vb.Collection.update, "(data)"),
        (vb.Collection.add_fields, "(fields)"),
        (vb.Collection.search, "(query)"),
        (vb.Collection.fetch, "(ids, *, include='all')"),
        (vb.Collection.delete, "(ids=None, *, filter=None)"),
        (
            vb.Collection.scan,
            "(*, include='all', filter=None, batch_rows=10000, cursor=None, limit=None, unfit=None)",
        ),
        (vb.Collection.count, "(filter=None)"),
        (vb.Collection.status, "()"),
        (vb.Collection.flush, "(timeout=60.0)"),
        (vb.Collection.wait_ready, "(timeout=600.0)"),
        (vb.Collection.close, "()"),
        (
            vb.Query,
            "(vectors=None, k=10, *, filter=None, include=(), ef=None, nprobe=None, using=None, "
            "embedder=None, id=None, min_score=None, max_distance=None)",
        ),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_each_signature_is_as_designed(function: Callable[..., Any], expected: str) -> None:
    assert shape(function) == expected


def test_the_short_constructor_takes_keywords_and_defaults_as_designed() -> None:
    parameters = inspect.signature(vb.CollectionSpec.single).parameters
    defaults = {name: each.default for name, each in parameters.items() if each.default is not each.empty}
    assert defaults == {
        "metric": "cosine",
        "index": vb.Auto(),
        "fields": (),
        "id_type": "string",
        "namespaced": False,
        "ids": None,
        "embedder": None,
    }
    positional = [name for name, each in parameters.items() if each.kind is not each.KEYWORD_ONLY]
    assert positional == ["name"]


def test_writing_takes_the_options_that_people_type() -> None:
    parameters = inspect.signature(vb.write).parameters
    options = ["workers", "journal", "dead_letters", "max_failures"]
    assert [name for name in options if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == options


def test_an_embedder_is_chosen_by_model_device_and_runtime() -> None:
    parameters = list(inspect.signature(vb.embedder).parameters)
    assert parameters[0] == "model"
    assert {"device", "runtime"} <= set(parameters)


def test_the_first_example_of_the_documentation_runs() -> None:
    spec = vb.CollectionSpec.single(
        "photos", dim=4, metric="cosine", fields={"year": "int64", "tags": "list<string>", "title": "string"}
    )
    x = np.eye(4, dtype=np.float32)[:2]
    with vb.connect("memory:///front-door") as store:
        assert store.capabilities.check(spec) == []
        photos = store.create(spec, if_exists="open")
        rows = vb.batch(
            spec, id=["a", "b"], vector=x, year=[2020, None], tags=[["sea"], []], title=["A", "B"]
        )
        report = photos.upsert(rows)
        photos.flush()
        assert (report.written, report.failed, report.retried, report.duplicates) == (2, 0, 0, 0)
        where = (field("year") >= 2020) & field("tags").contains("sea") & ~field("title").isin(["B"])
        [hits] = photos.search(vb.Query(x[0], k=10, filter=where, include=["title"]))
        assert (hits.ids, hits.scores.tolist()) == (["a"], [1.0])
        assert [(hit.id, hit.score, hit.record) for hit in hits] == [("a", 1.0, {"id": "a", "title": "A"})]
        assert photos.fetch(["b"]).num_rows == 1
        assert (photos.count(where), photos.delete(["a"]), photos.delete(filter=where)) == (1, 1, 0)
        assert [
            page.batch.num_rows for page in photos.scan(include=[], batch_rows=10_000) if page.cursor
        ] == [1]
    with vb.open("memory:///front-door#photos") as photos:
        assert photos.count() == 1
