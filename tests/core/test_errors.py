"""The error tree is the one that its docstring draws."""

from __future__ import annotations

import inspect
import pickle

import pytest

from vecbridge import errors
from vecbridge.errors import Failure
from vecbridge.query import WriteReport

TREE = {
    "VecbridgeError": [
        "ConfigError",
        "MissingDependencyError",
        "SchemaError",
        "IdConflictError",
        "InvalidRecordError",
        "NotFoundError",
        "UnsupportedError",
        "BackendError",
        "PartialWriteError",
        "LossRefusedError",
        "JournalError",
        "CursorExpiredError",
    ],
    "ConfigError": ["InvalidURLError", "UnknownOptionError"],
    "SchemaError": ["DimensionMismatchError", "CollectionExistsError", "EmbedderMismatchError"],
    "BackendError": [
        "RateLimitedError",
        "UnavailableError",
        "AuthError",
        "TooLargeError",
        "DeadlineError",
        "StoreLockedError",
        "CorruptStoreError",
        "StorageFullError",
    ],
}
REPORT = WriteReport(written=2, failed=1, failures=(Failure(1, "b", "too long", "rejected"),))
EXAMPLES = [
    errors.ConfigError("no"),
    errors.MissingDependencyError("faiss", extra="faiss"),
    errors.InvalidRecordError("1 bad row", [Failure(3, "x", "is NaN")]),
    errors.UnsupportedError("memory", "hnsw", "use flat"),
    errors.BackendError("odd", retryable=True),
    errors.RateLimitedError("slow down", retry_after=2.5),
    errors.DeadlineError("late"),
    errors.PartialWriteError(REPORT),
    errors.LossRefusedError("null", plan={"losses": ["null"]}),
]


def test_the_tree_has_these_branches_and_no_others() -> None:
    drawn = {child: parent for parent, children in TREE.items() for child in children}
    built = {
        name: next(base.__name__ for base in cls.__bases__ if issubclass(base, errors.VecbridgeError))
        for name, cls in vars(errors).items()
        if inspect.isclass(cls)
        and issubclass(cls, errors.VecbridgeError)
        and cls is not errors.VecbridgeError
    }
    assert built == drawn


def test_the_docstring_draws_every_error() -> None:
    assert errors.__doc__ is not None
    for children in TREE.values():
        assert all(name in errors.__doc__ for name in children)


def test_python_handlers_of_import_and_timeout_errors_catch_ours() -> None:
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.DeadlineError, TimeoutError)


def test_a_missing_dependency_prints_the_line_to_type() -> None:
    error = errors.MissingDependencyError("pymilvus", extra="milvus")
    assert str(error) == "pymilvus is not installed: pip install '.[milvus]' in a checkout of vecbridge"


def test_only_what_can_pass_by_itself_is_retryable() -> None:
    retryable = {name for name in TREE["BackendError"] if getattr(errors, name)("x").retryable}
    assert retryable == {"RateLimitedError", "UnavailableError", "DeadlineError"}
    assert not errors.BackendError("x").retryable
    assert errors.BackendError("x", retryable=True).retryable


def test_a_partial_write_counts_and_quotes_the_first_failure() -> None:
    assert str(errors.PartialWriteError(REPORT)) == "2 rows written, 1 not: too long"


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_out_of_a_worker_process(error: errors.VecbridgeError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
