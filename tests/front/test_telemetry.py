"""What OpenTelemetry is told of stores and collections, what it is not told, and what happens without it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import vecbridge as vb
from vecbridge.bulk import delivery
from vecbridge.front import telemetry

SPEC = vb.CollectionSpec.single("photos", dim=2, fields={"title": "string"}, namespaced=True)
SECRETS = ("secret-id", "secret title", "secret-space", "secret-password")


class Told:
    """What OpenTelemetry was told."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers, meters = TracerProvider(), MeterProvider([self._reader])
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.instruments = telemetry.instruments_of(
            tracers.get_tracer("vecbridge"), meters.get_meter("vecbridge")
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended."""
        return list(self._exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        [found] = [span for span in self.spans if span.name == name]
        return found

    def points(self) -> dict[str, list[Any]]:
        """The points of each metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        metrics = [
            metric
            for each in data.resource_metrics
            for scope in each.scope_metrics
            for metric in scope.metrics
        ]
        return {metric.name: list(metric.data.data_points) for metric in metrics}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(telemetry, "_instruments", lambda: told.instruments)
    return told


@pytest.fixture
def photos(told: Told) -> Iterator[vb.Collection]:
    with vb.connect("memory://") as store, store.create(SPEC, namespace="secret-space") as photos:
        yield photos


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": id, "vector": [1, 0], "title": "secret title"} for id in ids]


def test_each_operation_leaves_a_span_named_after_it_and_its_collection(
    told: Told, photos: vb.Collection
) -> None:
    photos.upsert(rows("a", "b"))
    photos.search(vb.Query([1, 0], k=2))
    photos.search(vb.Query(id="a", k=1))
    photos.fetch(["a"])
    photos.find(None, limit=1)
    photos.count()
    photos.delete(["a"])
    assert [span.name for span in told.spans] == [
        "create_collection", "upsert photos", "search photos", "search photos", "fetch photos", "find photos",
        "count photos", "delete photos",
    ]  # fmt: skip
    span = told.span("upsert photos")
    assert span.kind is SpanKind.INTERNAL, "it happens in this process"
    assert dict(span.attributes or {}) == {
        "db.system.name": "memory", "db.operation.name": "upsert", "db.collection.name": "photos",
    }  # fmt: skip
    assert span.status.status_code is StatusCode.UNSET


def test_durations_and_returned_rows_are_histograms_by_backend_and_operation(
    told: Told, photos: vb.Collection
) -> None:
    photos.upsert(rows("a", "b", "c"))
    photos.search(vb.Query([[1, 0], [0, 1]], k=2))
    points = told.points()
    durations = {
        each.attributes["db.operation.name"]: each for each in points["db.client.operation.duration"]
    }
    assert set(durations) == {"create_collection", "upsert", "search"}
    assert durations["upsert"].attributes["db.system.name"] == "memory"
    assert durations["upsert"].count == 1
    assert 0 < durations["upsert"].sum < 60
    [returned] = points["db.client.response.returned_rows"]
    assert (returned.attributes["db.operation.name"], returned.sum) == ("search", 4)


def test_pages_of_a_scan_are_operations(told: Told, photos: vb.Collection) -> None:
    photos.upsert(rows(*"abcde"))
    assert sum(page.batch.num_rows for page in photos.scan(batch_rows=2)) == 5
    [returned] = told.points()["db.client.response.returned_rows"]
    assert (returned.attributes["db.operation.name"], returned.sum) == ("scan", 5)
    assert len([span for span in told.spans if span.name == "scan photos"]) == returned.count


def test_rows_and_bytes_written_are_counted(told: Told, photos: vb.Collection) -> None:
    photos.upsert(rows("a", "b", "c"))
    photos.upsert(rows("a"), on_conflict="skip")
    points = told.points()
    [written], [size] = points["vecbridge.written.rows"], points["vecbridge.written.bytes"]
    assert (written.value, dict(written.attributes)) == (3, {"db.system.name": "memory"})
    assert size.value >= 3 * (1 + 8 + len("secret title"))


def test_an_error_is_told_by_its_class_alone(told: Told, photos: vb.Collection) -> None:
    with pytest.raises(vb.SchemaError):
        photos.find(vb.field("secret-id") == 1, limit=1)
    span = told.span("find photos")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "SchemaError"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert not span.events
    [failed] = [
        each for each in told.points()["db.client.operation.duration"] if "error.type" in each.attributes
    ]
    assert failed.attributes["error.type"] == "SchemaError"


def test_nothing_told_holds_an_id_a_filter_a_value_a_namespace_or_a_credential(
    told: Told, photos: vb.Collection
) -> None:
    photos.upsert(rows("secret-id"))
    photos.find(vb.field("title") == "secret title", limit=1)
    photos.delete(filter=vb.field("title") == "secret title")
    with pytest.raises(vb.NotFoundError):
        photos.search(vb.Query(id="secret-id"))
    with (
        vb.connect("milvus://user:secret-password@127.0.0.1:1", timeout=1) as store,
        pytest.raises(vb.BackendError),
    ):
        store.collections()
    everything = "".join(span.to_json() for span in told.spans) + str(told.points())
    assert "list_collections" in everything
    assert [secret for secret in SECRETS if secret in everything] == []


def test_the_span_of_a_server_has_its_address_and_is_a_clients(told: Told) -> None:
    with vb.connect("milvus://127.0.0.1:1", timeout=1) as store, pytest.raises(vb.BackendError):
        store.collections()
    span = told.span("list_collections")
    assert span.kind is SpanKind.CLIENT
    assert span.attributes is not None
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("127.0.0.1", 1)


def test_the_upserts_of_a_bulk_write_belong_to_its_span_in_whatever_thread(
    told: Told, photos: vb.Collection
) -> None:
    vb.write(photos, [rows("a"), rows("b")])
    [whole] = [span for span in told.spans if span.name == "write photos"]
    assert whole.attributes is not None
    assert (whole.attributes["vecbridge.write.written"], whole.attributes["vecbridge.write.failed"]) == (2, 0)
    upserts = [span for span in told.spans if span.name == "upsert photos"]
    assert len(upserts) == 2
    assert {span.parent and span.parent.span_id for span in upserts} == {whole.context.span_id}


def test_retries_are_counted_and_logged_by_backend_and_class_of_error(
    told: Told, photos: vb.Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vecbridge.bulk")
    monkeypatch.setattr(delivery, "pause", lambda stop, seconds: None)
    errors: list[Exception] = [vb.UnavailableError("row secret-id"), vb.RateLimitedError("slow down")]
    original = type(photos).upsert

    def upsert(collection: Any, data: Any, **options: Any) -> vb.WriteReport:
        if errors:
            raise errors.pop(0)
        return original(collection, data, **options)

    monkeypatch.setattr(type(photos), "upsert", upsert)
    assert vb.write(photos, [rows("secret-id")]).retried == 2
    retries = told.points()["vecbridge.write.retries"]
    assert {each.attributes["error.type"]: each.value for each in retries} == {
        "UnavailableError": 1, "RateLimitedError": 1,
    }  # fmt: skip
    logged: list[Any] = [each for each in caplog.records if hasattr(each, "attempt")]
    assert [(each.backend, each.error_type, each.attempt) for each in logged] == [
        ("memory", "UnavailableError", 2), ("memory", "RateLimitedError", 3),
    ]  # fmt: skip
    assert "secret-id" not in caplog.text


def test_the_end_of_a_bulk_write_is_logged_with_its_counts(
    photos: vb.Collection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vecbridge.bulk")
    vb.write(photos, [[*rows("a", "b"), {"id": "secret-id", "vector": [1, 0], "title": 5}]])
    [record] = caplog.records
    told: Any = record
    assert (told.backend, told.collection, told.written, told.failed) == ("memory", "photos", 2, 1)
    assert (told.retried, told.duplicates, told.skipped) == (0, 0, 0)
    assert 0 <= told.seconds < 60
    assert "secret-id" not in caplog.text


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None  # which Python takes for a package that is not installed
import vecbridge as vb
from vecbridge.front import telemetry
assert not telemetry.INSTALLED
assert not hasattr(vb.Collection.upsert, "__wrapped__"), "the method is as it was written"
with vb.connect("memory://") as store:
    photos = store.create(vb.CollectionSpec.single("photos", dim=2))
    assert vb.write(photos, [[{"id": "a", "vector": [1, 0]}]]).written == 1
    assert len(photos.search(vb.Query([1, 0]))[0]) == 1
    assert sum(page.batch.num_rows for page in photos.scan()) == 1
assert not [name for name in sys.modules if name.startswith("opentelemetry.")]
print("done")
"""


def test_without_opentelemetry_everything_works_and_no_method_is_wrapped() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


CONNECTING = """
import sys
import vecbridge as vb
vb.connect("memory://").close()
print("opentelemetry.trace" in sys.modules)
"""


def test_importing_vecbridge_and_connecting_import_no_opentelemetry() -> None:
    done = subprocess.run([sys.executable, "-c", CONNECTING], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
