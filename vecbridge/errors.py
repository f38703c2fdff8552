"""Every error that vecbridge raises on purpose.

    VecbridgeError
     ├ ConfigError ─ InvalidURLError, UnknownOptionError
     ├ MissingDependencyError            (an ImportError too)
     ├ SchemaError ─ DimensionMismatchError, CollectionExistsError, EmbedderMismatchError
     ├ InvalidRecordError                (carries the rows at fault)
     ├ IdConflictError                   (two files under one id, or one under two)
     ├ NotFoundError
     ├ UnsupportedError                  (backend, feature, hint)
     ├ BackendError                      (says whether a retry can help)
     │  ├ RateLimitedError, UnavailableError, AuthError, TooLargeError
     │  ├ DeadlineError                  (a TimeoutError too)
     │  └ StoreLockedError, CorruptStoreError, StorageFullError
     ├ PartialWriteError                 (carries the report)
     ├ LossRefusedError                  (carries the plan)
     ├ JournalError
     └ CursorExpiredError

What the caller did wrong is a ConfigError, SchemaError, InvalidRecordError, IdConflictError, NotFoundError
or UnsupportedError; what happened at the other end is a BackendError.

Example:
    >>> import vecbridge as vb
    >>> with vb.connect("memory://") as store:
    ...     try:
    ...         store.open("photos")
    ...     except vb.NotFoundError as error:
    ...         print(error)
    ...     except vb.BackendError as error:
    ...         print("worth another try" if error.retryable else "not worth one")
    no collection 'photos' in memory://; there are: none
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from vecbridge.query import WriteReport

Certainty = Literal["rejected", "unknown"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One row that was not written.

    Attributes:
        row: Position of the row in the batch that was handed in.
        id: The row's id, or None where the id itself is what is wrong.
        error: What is wrong with it, in a sentence.
        outcome: "rejected" is certainly not stored; "unknown" may or may not be.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> try:
        ...     vb.batch(spec, id=["a", "b"], vector=[[1, 0], [0, 0]])
        ... except vb.InvalidRecordError as error:
        ...     [failure] = error.rows
        >>> failure.row, failure.id, failure.outcome
        (1, 'b', 'rejected')
    """

    row: int
    id: str | int | None
    error: str
    outcome: Certainty = "rejected"


class VecbridgeError(Exception):
    """The base of every error here; survives pickling, so that it can leave a worker process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), self.__dict__


def _rebuilt(kind: type[VecbridgeError], args: tuple[Any, ...]) -> VecbridgeError:
    error = kind.__new__(kind, *args)  # __init__ would compose the message again
    error.args = args  # which OSError, below DeadlineError, leaves to __init__
    return error


class ConfigError(VecbridgeError):
    """A setting or an argument that cannot be right, whatever the data."""


class InvalidURLError(ConfigError):
    """A store URL that cannot be read."""


class UnknownOptionError(ConfigError):
    """An option that the store does not have."""


def install_hint(*extras: str) -> str:
    """What to type to install extras. No package index has vecbridge yet, so that pip reads a checkout.

    Example:
        >>> install_hint("faiss", "onnx")
        "pip install '.[faiss,onnx]' in a checkout of vecbridge"
    """
    return f"pip install '.[{','.join(extras)}]' in a checkout of vecbridge"


class MissingDependencyError(VecbridgeError, ImportError):
    """A package that this feature needs is not installed.

    Args:
        package: What could not be imported.
        extra: The extra of vecbridge that installs it.
    """

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"{package} is not installed: {install_hint(extra)}")
        self.package = package
        self.extra = extra


class SchemaError(VecbridgeError):
    """A spec, a filter or a query that does not fit the collection."""


class DimensionMismatchError(SchemaError):
    """A query vector of another length than the field's."""


class CollectionExistsError(SchemaError):
    """The collection is there already, and (with ``if_exists="open"``) differs from the spec."""


class EmbedderMismatchError(SchemaError):
    """Vectors from one model meet a collection built with another."""


class InvalidRecordError(VecbridgeError):
    """Rows that no backend may take; nothing of the batch was sent.

    Args:
        message: The first few problems, as one sentence.
        rows: Every row at fault.
    """

    def __init__(self, message: str, rows: Sequence[Failure]) -> None:
        super().__init__(message)
        self.rows: tuple[Failure, ...] = tuple(rows)


class IdConflictError(VecbridgeError):
    """An id would mean two files, or a file would get a second id; nothing of it was written."""


class NotFoundError(VecbridgeError):
    """The collection does not exist."""


class UnsupportedError(VecbridgeError):
    """The backend cannot do this, and saying so beats doing something else.

    Args:
        backend: Which backend.
        feature: What was asked for.
        hint: The way out, if there is one.
    """

    def __init__(self, backend: str, feature: str, hint: str = "") -> None:
        super().__init__(f"{backend} does not support {feature}" + (f": {hint}" if hint else ""))
        self.backend = backend
        self.feature = feature
        self.hint = hint


class BackendError(VecbridgeError):
    """Something failed at the database, on the way to it, or on the disk below it.

    Args:
        message: What failed.
        retryable: Whether the same call may succeed later.
        unsent: Whether certainly nothing of a write is stored: it did not arrive, or was refused whole.
    """

    retryable_by_default: ClassVar[bool] = False
    unsent_by_default: ClassVar[bool] = False

    def __init__(self, message: str, *, retryable: bool | None = None, unsent: bool | None = None) -> None:
        super().__init__(message)
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.unsent = self.unsent_by_default if unsent is None else unsent


class RateLimitedError(BackendError):
    """Too many requests.

    Args:
        message: What the service said.
        retry_after: Seconds to wait, where the service says so.
    """

    retryable_by_default = True
    unsent_by_default = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(BackendError):
    """Nothing answers, or what answers is not ready."""

    retryable_by_default = True


class AuthError(BackendError):
    """The credentials were refused."""

    unsent_by_default = True


class TooLargeError(BackendError):
    """One request was larger than the backend takes."""

    unsent_by_default = True


class DeadlineError(BackendError, TimeoutError):
    """The call did not end in its time; a write may have happened."""

    retryable_by_default = True


class StoreLockedError(BackendError):
    """Another process writes to this collection."""

    unsent_by_default = True


class CorruptStoreError(BackendError):
    """The stored data contradicts itself; nothing was touched."""


class StorageFullError(BackendError):
    """No room is left on the disk; nothing of the batch was stored."""


class PartialWriteError(VecbridgeError):
    """Some rows were written, or may have been, and some were not.

    Args:
        report: What happened to each row; ``report.failures`` names those not acknowledged.
    """

    def __init__(self, report: WriteReport) -> None:
        first = f": {report.failures[0].error}" if report.failures else ""
        super().__init__(f"{report.written} rows written, {report.failed} not{first}")
        self.report = report


class LossRefusedError(VecbridgeError):
    """A migration would lose something that was not allowed.

    Args:
        message: The losses, in a sentence.
        plan: The plan that names them all.
    """

    def __init__(self, message: str, plan: Any) -> None:
        super().__init__(message)
        self.plan = plan


class JournalError(VecbridgeError):
    """The journal belongs to another run, or cannot be read."""


class CursorExpiredError(VecbridgeError):
    """The cursor points into a state that compaction or replacement removed: scan from the start."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error message about a name: what was meant, or what there is."""
    import difflib

    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names) or 'none'}"
