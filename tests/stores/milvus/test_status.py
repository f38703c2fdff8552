"""What the statuses of Milvus become; no server is asked."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from vecbridge.errors import (
    AuthError,
    BackendError,
    CollectionExistsError,
    DeadlineError,
    NotFoundError,
    RateLimitedError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    VecbridgeError,
)
from vecbridge.stores.milvus import errors

EXPECTED = {
    (1, "node not ready"): UnavailableError,
    (2, "service unavailable"): UnavailableError,
    (3, "memory limit exceeded"): RateLimitedError,
    (4, "too many requests in the queue"): RateLimitedError,
    (7, "disk quota of the node"): StorageFullError,
    (8, "quota exceeded"): RateLimitedError,
    (9, "limited"): RateLimitedError,
    (100, "of a collection"): NotFoundError,
    (101, "of a collection"): UnavailableError,
    (103, "partly loaded"): UnavailableError,
    (503, "a channel moves"): UnavailableError,
    (800, "of a database"): NotFoundError,
    (1100, "invalid parameter"): BackendError,
    (1400, "no login"): AuthError,
    (1401, "no right"): AuthError,
    (65535, "Collection not loaded: photos"): UnavailableError,
    (65535, "can't find collection: photos"): NotFoundError,
    (65535, "database not found[database=x]"): NotFoundError,
    (65535, "create duplicate collection with different parameters"): CollectionExistsError,
    (65535, "auth check failure, please check username and password"): AuthError,
    (65535, "grpc: received message larger than max (70 vs. 60)"): TooLargeError,
    (65535, "write /data: no space left on device"): StorageFullError,
    (65535, "index not found[collection=photos]"): errors.NoIndexError,
    (65535, "context deadline exceeded"): DeadlineError,
    (65535, "rate limit exceeded[rate=0.1]"): RateLimitedError,
    (65535, "something else"): BackendError,
}


@pytest.mark.parametrize(("status", "kind"), EXPECTED.items(), ids=str)
def test_a_status_is_the_error_of_its_code_or_of_its_words(
    status: tuple[int, str], kind: type[VecbridgeError]
) -> None:
    error = errors.of_status(_status(*status), "search")
    assert type(error) is kind
    assert status[1] in str(error)
    assert str(error).startswith("search: ")


def test_no_code_is_no_error_and_an_old_code_counts_where_there_is_no_new_one() -> None:
    assert errors.of_status(_status(0, ""), "search") is None
    assert isinstance(errors.of_status(_status(0, "collection not exist", old=4), "search"), NotFoundError)


def test_a_code_that_is_not_known_is_retried_where_the_server_says_so() -> None:
    assert errors.of_status(_status(2200, "later", retriable=True), "search").retryable
    assert not errors.of_status(_status(2200, "never"), "search").retryable


def test_certainly_nothing_is_stored_of_what_was_refused_for_its_parameters() -> None:
    assert errors.of_status(_status(1100, "invalid parameter"), "upsert").unsent
    assert not errors.of_status(_status(2200, "something else"), "upsert").unsent


def test_the_words_count_also_where_the_call_failed() -> None:
    class Failed(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNKNOWN

        def details(self) -> str:
            return "Collection not loaded: photos"

    assert isinstance(errors.of_rpc(Failed(), "search"), UnavailableError)


def _status(code: int, reason: str, *, old: int = 0, retriable: bool = False) -> SimpleNamespace:
    return SimpleNamespace(code=code, error_code=old, reason=reason, retriable=retriable)
