"""Records that another program wrote and that a batch cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vecbridge.errors import Failure, InvalidRecordError
from vecbridge.query import Unfit

_SHOWN = 3


def unfit_rows(reasons: Mapping[str | int, Unfit]) -> InvalidRecordError:
    """The error that names such rows, the first three of them in its message.

    Args:
        reasons: By id, why a batch cannot hold the row.
    """
    failures = [Failure(row, key, str(reason)) for row, (key, reason) in enumerate(reasons.items())]
    shown = "; ".join(f"{failure.id!r}: {failure.error}" for failure in failures[:_SHOWN])
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    hint = "include= without the vectors reads them, and scan(unfit=...) goes on without them"
    message = f"{len(failures)} rows that a batch cannot hold: {shown}{more}: {hint}"
    return InvalidRecordError(message, failures)


def unfit_lengths(name: str, lengths: Sequence[int], dim: int) -> dict[int, Unfit]:
    """By position, why vectors cannot stand in a column of vectors.

    Args:
        name: The vector field.
        lengths: Dimensions of each vector; 0 where there is none.
        dim: Dimensions of the column.
    """
    return {row: Unfit.of_vector(name, length, dim) for row, length in enumerate(lengths) if length != dim}
