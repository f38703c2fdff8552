"""The control plane: what indexes there are.

A request has one of two forms: up to version 2026-04 an index has a ``spec``, a dimension and a metric; from
2026-07 on, which client 10 speaks, a ``schema`` and a ``deployment``. Serverless indexes only.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from vecbridge.testing.pinecone.data import Data
from vecbridge.testing.pinecone.errors import ApiError, invalid, not_found

Body = Mapping[str, Any]

REGIONS = {
    "aws": ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1"),
    "gcp": ("us-central1", "europe-west4"),
    "azure": ("eastus2",),
}
METRICS = ("cosine", "euclidean", "dotproduct")
DENSE, SPARSE = "_values", "_sparse_values"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_TAG_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Endpoint(Protocol):
    """Where an index is served."""

    host: str

    def close(self) -> None:
        """Ends it."""


@dataclass(slots=True)
class Index:
    """One index: its settings, its records, where it is served."""

    name: str
    data: Data
    cloud: str
    region: str
    deletion_protection: str
    tags: dict[str, str]
    ready_at: float
    endpoint: Endpoint = field(init=False)

    @property
    def ready(self) -> bool:
        """Whether it takes requests yet."""
        return monotonic() >= self.ready_at

    def described(self, schema_form: bool) -> dict[str, Any]:
        """As the control plane shows it.

        Args:
            schema_form: As from version 2026-07 on.
        """
        data = self.data
        shape: dict[str, Any] = {"metric": data.metric}
        if data.dimension:
            shape["dimension"] = data.dimension
        common = {
            "name": self.name,
            "host": self.endpoint.host,
            "status": {"ready": self.ready, "state": "Ready" if self.ready else "Initializing"},
            "deletion_protection": self.deletion_protection,
        } | ({"tags": self.tags} if self.tags else {})
        place = {"cloud": self.cloud, "region": self.region}
        capacity = {"read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}}}
        if not schema_form:
            kind = "dense" if data.dimension else "sparse"
            return common | shape | {"vector_type": kind, "spec": {"serverless": place | capacity}}
        name, kind = (DENSE, "dense_vector") if data.dimension else (SPARSE, "sparse_vector")
        fields = {name: {"type": kind} | (shape if data.dimension else {})}
        deployment = {"deployment_type": "managed"} | place
        return common | capacity | {"schema": {"fields": fields}, "deployment": deployment}


class Project:
    """The indexes of one API key.

    Args:
        serve: Starts to serve an index.
        delay: Seconds until a write is visible.
        ready_after: Seconds until a new index is ready.
    """

    def __init__(self, serve: Callable[[Index], Endpoint], delay: float, ready_after: float) -> None:
        self._serve = serve
        self._delay = delay
        self._ready_after = ready_after
        self._indexes: dict[str, Index] = {}
        self._lock = threading.Lock()

    def list(self) -> list[Index]:
        """All of them, by name."""
        return [self._indexes[name] for name in sorted(self._indexes)]

    def find(self, name: str) -> Index:
        """The index of a name."""
        if name not in self._indexes:
            raise not_found(f"Resource {name} not found")
        return self._indexes[name]

    def create(self, body: Body, schema_form: bool) -> Index:
        """Makes an index from the body of a request."""
        name = _name(body)
        dimension, metric = _schema(body) if schema_form else _shape(body)
        cloud, region = _place(body, schema_form)
        protection, tags = _protection(body, "disabled"), _tags(body, {})
        with self._lock:
            if name in self._indexes:
                raise ApiError("ALREADY_EXISTS", "Resource already exists")
            data = Data(dimension, metric, self._delay)
            ready_at = monotonic() + self._ready_after
            index = Index(name, data, cloud, region, protection, tags, ready_at)
            index.endpoint = self._serve(index)
            self._indexes[name] = index
            return index

    def configure(self, name: str, body: Body) -> Index:
        """Changes an index's deletion protection and tags; the tag ``""`` removes one."""
        with self._lock:
            index = self.find(name)
            protection, tags = _protection(body, index.deletion_protection), _tags(body, index.tags)
            for part in ("spec", "embed", "schema", "deployment"):
                if part in body:
                    raise _not_emulated(part)
            index.deletion_protection, index.tags = protection, tags
            return index

    def delete(self, name: str) -> None:
        """Deletes an index and all its records."""
        with self._lock:
            index = self.find(name)
            if index.deletion_protection == "enabled":
                text = "Deletion protection is enabled for this index."
                raise ApiError("FORBIDDEN", f"{text} Disable deletion protection before retrying.")
            del self._indexes[name]
        index.endpoint.close()

    def close(self) -> None:
        """Stops to serve every index."""
        for index in self.list():
            index.endpoint.close()


def _unprocessable(message: str) -> ApiError:
    return ApiError(
        "UNPROCESSABLE_ENTITY", f"Failed to deserialize the JSON body into the target type: {message}"
    )


def _not_emulated(what: str) -> ApiError:
    return invalid(f"{what} is not emulated")


def _member(body: Body, name: str, kind: type, default: Any = None) -> Any:
    value = body.get(name)
    if value is None:
        if default is None:
            raise _unprocessable(f"missing field `{name}`")
        return default
    if type(value) is not kind:
        raise _unprocessable(f"{name}: invalid type")
    return value


def _object(body: Body, name: str, default: Any = None) -> dict[str, Any]:
    value: dict[str, Any] = _member(body, name, dict, default)
    return value


def _name(body: Body) -> str:
    name: str = _member(body, "name", str)
    if not 1 <= len(name) <= 45:
        raise invalid("Name must be between 1 and 45 characters long")
    if not _NAME.fullmatch(name):
        raise invalid("Name must consist of lower case alphanumeric characters or '-'")
    return name


def _shape(body: Body) -> tuple[int | None, str]:
    """Dimension and metric in the older form."""
    kind = _member(body, "vector_type", str, "dense")
    if kind == "dense":
        return _dimension(body), _metric(body)
    if kind != "sparse":
        raise invalid(f"Invalid vector_type {kind}")
    if body.get("dimension") is not None or _member(body, "metric", str, "dotproduct") != "dotproduct":
        raise invalid("Sparse indexes take no dimension, and only the metric dotproduct")
    return None, "dotproduct"


def _schema(body: Body) -> tuple[int | None, str]:
    """Dimension and metric in the newer form, whose fields ``_values`` and ``_sparse_values`` are vectors."""
    fields = _object(_object(body, "schema"), "fields")
    if list(fields) == [DENSE] and _member(_object(fields, DENSE), "type", str) == "dense_vector":
        return _dimension(fields[DENSE]), _metric(fields[DENSE])
    if list(fields) == [SPARSE] and _member(_object(fields, SPARSE), "type", str) == "sparse_vector":
        return None, "dotproduct"
    raise _not_emulated("A schema other than one vector field, _values or _sparse_values,")


def _dimension(body: Body) -> int:
    dimension: int = _member(body, "dimension", int)
    if not 1 <= dimension <= 20_000:
        raise invalid(f"Dimension must be between 1 and 20000, got {dimension}")
    return dimension


def _metric(body: Body) -> str:
    metric: str = _member(body, "metric", str, "cosine")
    if metric not in METRICS:
        raise invalid(f"Metric must be one of {', '.join(METRICS)}, got {metric}")
    return metric


def _place(body: Body, schema_form: bool) -> tuple[str, str]:
    if schema_form:
        default = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
        place = _object(body, "deployment", default)
        if _member(place, "deployment_type", str) != "managed":
            raise _not_emulated("An index that is not serverless")
    else:
        spec = _object(body, "spec")
        if list(spec) != ["serverless"] and set(spec) & {"pod", "byoc"}:
            raise _not_emulated("An index that is not serverless")
        place = _object(spec, "serverless")
        if len(spec) > 1:
            raise _unprocessable(f"spec: unknown field `{(spec.keys() - {'serverless'}).pop()}`")
    for part in ("schema", "source_collection"):
        if part in place:
            raise _not_emulated(part)
    capacity = _object(body if schema_form else place, "read_capacity", {"mode": "OnDemand"})
    if capacity != {"mode": "OnDemand"}:
        raise _not_emulated("read_capacity other than OnDemand")
    cloud, region = _member(place, "cloud", str), _member(place, "region", str)
    if region not in REGIONS.get(cloud, ()):
        raise not_found(f"Resource cloud: {cloud} region: {region} not found.")
    return cloud, region


def _protection(body: Body, default: str) -> str:
    value: str = _member(body, "deletion_protection", str, default)
    if value not in ("enabled", "disabled"):
        raise invalid(f"deletion_protection must be enabled or disabled, got {value}")
    return value


def _tags(body: Body, present: Mapping[str, str]) -> dict[str, str]:
    tags = _object(body, "tags", {})
    for key, value in tags.items():
        if not isinstance(value, str):
            raise _unprocessable("tags: invalid type")
        if not _TAG_KEY.fullmatch(key) or len(value) > 120:
            raise invalid(
                f"Invalid tag {key}: at most 80 letters, digits, '_' or '-', and a value of at most 120"
            )
    merged = {key: value for key, value in {**present, **tags}.items() if value}
    if len(merged) > 20:
        raise invalid("An index has at most 20 tags")
    return merged
