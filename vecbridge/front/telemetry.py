"""OpenTelemetry spans and metrics of what stores and collections do, where opentelemetry-api is installed.

Where it is not, :func:`operation` returns the method as it is, so that a call costs nothing. Names follow the
semantic conventions for database clients (https://opentelemetry.io/docs/specs/semconv/db/); what those do not
name begins with ``vecbridge.``. No id, filter, vector, namespace, credential or error message is passed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache, partial, wraps
from importlib.util import find_spec
from typing import Any, Final, Protocol, TypeVar, cast

import pyarrow as pa

from vecbridge.capabilities import Capabilities
from vecbridge.driver import KeyedPage
from vecbridge.errors import PartialWriteError
from vecbridge.query import Hits, WriteReport
from vecbridge.urls import StoreURL

Method = TypeVar("Method", bound=Callable[..., Any])

INSTALLED: Final = find_spec("opentelemetry") is not None and find_spec("opentelemetry.metrics") is not None

#: Seconds: what the semantic conventions advise for ``db.client.operation.duration``.
_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Observed(Protocol):
    """A store or a collection."""

    url: StoreURL

    @property
    def capabilities(self) -> Capabilities:
        """What its server can do."""
        ...


@dataclass(frozen=True, slots=True)
class Instruments:
    """What OpenTelemetry records with; before the program has chosen an SDK, nothing."""

    tracer: Any
    use_span: Any
    client: Any
    internal: Any
    duration: Any
    returned_rows: Any
    written_rows: Any
    written_bytes: Any
    retries: Any


@cache
def _instruments() -> Instruments:
    """Those of the program; made by the first call, so that importing vecbridge imports no OpenTelemetry."""
    from opentelemetry import metrics, trace

    return instruments_of(trace.get_tracer("vecbridge"), metrics.get_meter("vecbridge"))


def instruments_of(tracer: Any, meter: Any) -> Instruments:
    """What a tracer and a meter of OpenTelemetry record with."""
    from opentelemetry.trace import SpanKind, use_span

    return Instruments(
        tracer=tracer,
        use_span=use_span,
        client=SpanKind.CLIENT,
        internal=SpanKind.INTERNAL,
        duration=meter.create_histogram(
            "db.client.operation.duration", "s", "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        ),
        returned_rows=meter.create_histogram(
            "db.client.response.returned_rows", "{row}", "Rows that an operation returned.",
            explicit_bucket_boundaries_advisory=_ROWS,
        ),
        written_rows=meter.create_counter("vecbridge.written.rows", "{row}", "Rows acknowledged."),
        written_bytes=meter.create_counter(
            "vecbridge.written.bytes", "By", "Bytes of the acknowledged rows, as Arrow holds them."
        ),
        retries=meter.create_counter(
            "vecbridge.write.retries", "{retry}", "Requests of bulk writes that are sent again."
        ),
    )  # fmt: skip


def operation(name: str, rows: Callable[[Any], int | None] | None = None) -> Callable[[Method], Method]:
    """Has a method of a store or a collection leave a span and its duration.

    Args:
        name: Of the operation.
        rows: How many rows a result has, where it has some.
    """

    def decorate(method: Method) -> Method:
        if not INSTALLED:
            return method

        @wraps(method)
        def call(self: Observed, *arguments: Any, **options: Any) -> Any:
            observed = _Operation(self, name)
            try:
                result = observed.run(method, self, *arguments, **options)
            except BaseException as exc:
                observed.end(type(exc).__name__)
                raise
            observed.end()
            if rows is not None and (returned := rows(result)) is not None:
                observed.returned(returned)
            return result

        return cast("Method", call)

    return decorate


class _Operation:
    """One call, its span and its duration; without an SDK it costs some microseconds.

    Args:
        what: Which is called.
        name: Of the operation.
    """

    __slots__ = ("_attributes", "_begun", "_instruments", "_place", "_span")

    def __init__(self, what: Observed, name: str) -> None:
        self._instruments, url = _instruments(), what.url
        self._attributes: dict[str, Any] = {
            "db.system.name": what.capabilities.backend, "db.operation.name": name
        }  # fmt: skip
        self._place: dict[str, Any] = {}
        if url.collection:
            self._attributes["db.collection.name"] = url.collection
            name = f"{name} {url.collection}"
        if url.host:
            self._place["server.address"] = url.host
            if url.port:
                self._place["server.port"] = url.port
        kind = self._instruments.client if url.host else self._instruments.internal
        self._span = self._instruments.tracer.start_span(
            name, kind=kind, attributes=self._attributes | self._place
        )
        self._begun = time.perf_counter()

    def run(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls the method; spans that begin meanwhile belong to this one."""
        if not self._span.is_recording():
            return method(*arguments, **options)
        with self._instruments.use_span(
            self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        ):
            return method(*arguments, **options)

    def end(self, error: str = "") -> None:
        """Ends the span and records the duration; of an error only its class: its message may hold an id."""
        attributes = self._attributes | self._place
        if error:
            attributes["error.type"] = error
            _mark_failed(self._span, error)
        self._span.end()
        self._instruments.duration.record(time.perf_counter() - self._begun, attributes)

    def returned(self, rows: int) -> None:
        """Records how many rows the call returned."""
        self._instruments.returned_rows.record(rows, self._attributes)


def _mark_failed(span: Any, error: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def count_written(backend: str, rows: pa.RecordBatch, written: int) -> None:
    """Counts rows that a backend has acknowledged.

    Args:
        backend: Its name.
        rows: All that were sent.
        written: How many of them were acknowledged.
    """
    if not INSTALLED or not written:
        return
    attributes = {"db.system.name": backend}
    _instruments().written_rows.add(written, attributes)
    _instruments().written_bytes.add(rows.nbytes * written // rows.num_rows, attributes)


def count_retry(backend: str, error: BaseException) -> None:
    """Counts a request that is sent again because of an error."""
    if INSTALLED:
        attributes = {"db.system.name": backend, "error.type": type(error).__name__}
        _instruments().retries.add(1, attributes)


@contextmanager
def bulk_write(target: str, backend: str) -> Iterator[Callable[[WriteReport], None]]:
    """A span around a bulk write; what is yielded takes the report of it.

    Args:
        target: Name of the collection.
        backend: Its name.
    """
    if not INSTALLED:
        yield _nothing
        return
    attributes = {"db.system.name": backend, "db.collection.name": target, "db.operation.name": "write"}
    with _instruments().tracer.start_as_current_span(
        f"write {target}", attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:

        def report(found: WriteReport) -> None:
            counts = ("written", "failed", "retried", "duplicates", "skipped")
            span.set_attributes({f"vecbridge.write.{each}": getattr(found, each) for each in counts})

        try:
            yield report
        except BaseException as exc:
            if isinstance(exc, PartialWriteError):
                report(exc.report)
            _mark_failed(span, type(exc).__name__)
            raise


def carried(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call for another thread, whose spans then belong to the one that is open in this thread."""
    return partial(copy_context().run, call) if INSTALLED else call


def hits_returned(found: Sequence[Hits]) -> int:
    """Rows of the results of a search."""
    return sum(map(len, found))


def rows_returned(found: pa.RecordBatch) -> int:
    """Rows of a batch."""
    return int(found.num_rows)


def page_returned(found: KeyedPage | None) -> int:
    """Rows of a page."""
    return 0 if found is None else int(found.batch.num_rows)


def _nothing(report: WriteReport) -> None:
    """Default for the report of a bulk write: does nothing."""
