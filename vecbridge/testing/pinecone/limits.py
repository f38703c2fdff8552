"""The service's limits, and the checks of what a request carries.

Numbers: https://docs.pinecone.io/reference/api/database-limits (read in 2026) and the OpenAPI description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from vecbridge.testing.pinecone.errors import ApiError, invalid

REQUEST_BYTES = 2 * 1024 * 1024
RESULT_BYTES = 4 * 1024 * 1024
UPSERT_ROWS = 1_000
IDS = 1_000
PAGE = 100
TOP_K = 10_000
FILTER_VALUES = 10_000
ID_BYTES = 512
METADATA_BYTES = 40 * 1024
SPARSE_VALUES = 2_048

Array = np.ndarray[Any, np.dtype[np.float32]]


def request_size(size: int) -> None:
    """Refuses a request beyond 2 MB, in the words of the service's gRPC library."""
    if size > REQUEST_BYTES:
        text = f"Error, message length too large: found {size} bytes, the limit is: {REQUEST_BYTES} bytes"
        raise ApiError("OUT_OF_RANGE", text)


def member(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    """One member of a request, of the type that the OpenAPI description gives it, which is never null."""
    if name not in body:
        return default
    value = body[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise invalid(f"{name}: invalid value of type {type(value).__name__}")
    return value


def floats(body: Mapping[str, Any], name: str) -> list[Any] | Array:
    """A list of numbers as it came: a list from REST, an array from gRPC; empty where none came."""
    values: list[Any] | Array = member(body, name, (list, np.ndarray), [])
    return values


def count(body: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number between two bounds."""
    if name not in body and default is None:
        raise invalid(f"{name} is required")
    value = member(body, name, (int, float), default)
    if value != int(value) or not low <= value <= high:
        raise invalid(f"Invalid value for {name}: must be between {low} and {high}, got {value}")
    return int(value)


def identifier(value: object, what: str = "Vector ID") -> str:
    """An id: 1 to 512 bytes of ASCII without NUL."""
    if not isinstance(value, str) or not value:
        raise invalid(f"{what} must be a non-empty string")
    if not value.isascii() or "\0" in value:
        raise invalid(f"{what} must be ASCII, but got '{value}'")
    if len(value) > ID_BYTES:
        raise invalid(f"{what} is {len(value)} bytes, which exceeds the limit of {ID_BYTES} bytes")
    return value


def identifiers(body: Mapping[str, Any], name: str = "ids") -> list[str]:
    """A list of at most 1,000 ids, perhaps empty."""
    values = member(body, name, list, [])
    if len(values) > IDS:
        raise invalid(f"Too many IDs in the request: {len(values)}, the limit is {IDS}")
    return [identifier(value) for value in values]


def namespace(value: object) -> str:
    """A namespace's name as it is kept: ``__default__`` is another word for the empty one."""
    if value in ("", "__default__"):
        return ""
    return identifier(value, "Namespace")


def metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as it is stored: numbers become float64, what the service has no type for is refused."""
    if (size := len(orjson.dumps(value))) > METADATA_BYTES:
        limit = f"the limit of {METADATA_BYTES} bytes per vector"
        raise invalid(f"metadata size is {size} bytes, which exceeds {limit}")
    return {_key(key): _scalar(key, item) for key, item in value.items()}


def _key(key: str) -> str:
    if not key or key.startswith("$"):
        raise invalid(f"Metadata keys must not be empty or start with '$', got '{key}'")
    return key


def _scalar(key: str, value: Any) -> str | bool | float | list[str]:
    match value:
        case str() | bool():
            return value
        case int() | float() if math.isfinite(value):
            return float(value)
        case list() if all(isinstance(item, str) for item in value):
            return value
    shown = orjson.dumps(value).decode()[:20]
    allowed = "a string, number, boolean or list of strings"
    raise invalid(f"Metadata value must be {allowed}, got '{shown}' for field '{key}'")


def dense(values: Sequence[Any] | Array, dimension: int | None, owner: str | None = None) -> Array:
    """A dense vector as it is stored, in float32.

    Args:
        values: Numbers.
        dimension: That of the index; None where it holds no dense vectors.
        owner: The id of the record, which may not be all zeros; None for a query, which may.
    """
    if dimension is None:
        raise invalid("Sparse indexes do not accept dense vector values")
    if len(values) != dimension:
        raise invalid(f"Vector dimension {len(values)} does not match the dimension of the index {dimension}")
    if isinstance(values, list) and not set(map(type, values)) <= {int, float}:
        raise invalid("Vector values must be numbers")
    array = np.array(values, np.float32)
    if 0 < array.dot(array) < math.inf:  # nearly always, and then neither of these can be
        return array
    if not np.isfinite(array).all():
        raise invalid("Vector values must be finite 32-bit floating point numbers")
    if owner is not None and not array.any():
        text = "Dense vectors must contain at least one non-zero value."
        raise invalid(f"{text} Vector ID '{owner}' contains only zeros")
    return array


def sparse(value: Mapping[str, Any]) -> dict[int, float]:
    """A sparse vector: what stands at each index."""
    indices, values = member(value, "indices", list, []), floats(value, "values")
    if len(indices) != len(values) or len(set(map(str, indices))) != len(indices):
        raise invalid("Sparse vector must have as many indices as values, and each index once")
    if not 1 <= len(indices) <= SPARSE_VALUES:
        raise invalid(f"Sparse vector must have between 1 and {SPARSE_VALUES} values")
    if not all(type(index) is int and 0 <= index < 2**32 for index in indices):
        raise invalid("Sparse vector indices must be unsigned 32-bit integers")
    return dict(zip(indices, dense(values, len(values)).tolist(), strict=True))
