"""Rows that a copy cannot keep: they end it, or are set aside as dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from vecbridge import records
from vecbridge.bulk.deadletters import DeadLetterFile, row_values
from vecbridge.errors import Failure, InvalidRecordError, VecbridgeError
from vecbridge.migration import losses
from vecbridge.migration.conversion import Converter
from vecbridge.migration.plans import Plan
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.store import Collection, Store

KEPT_FAILURES: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """Rows of one page that are not in the target.

    Attributes:
        namespace: Of the source.
        source: Where they come from.
        converter: Makes rows of the target of them.
        converted: The rows of the page as the target would hold them.
        failures: Those that the target, or the contract, refuses; ``row`` is the position in ``converted``.
        unfit: Those that a batch cannot hold; without a position.
    """

    namespace: str
    source: Collection
    converter: Converter
    converted: pa.RecordBatch
    failures: Sequence[Failure]
    unfit: Sequence[Failure]


def unreachable(plan: Plan, namespace: str, converted: pa.RecordBatch) -> list[Failure]:
    """Every row of a page of a namespace that the target cannot have, as a failure."""
    error = f"the target cannot have one of the name {plan.target_namespace(namespace)!r}"
    return [Failure(row, key, error) for row, key in enumerate(converted.column("id").to_pylist())]


class SetAside:
    """Takes the rows that a copy cannot keep; used by one thread at a time.

    Args:
        plan: What the rows were to become.
        target: Where they were to go.
        file: The dead letters; None ends the copy at the first such row.

    Attributes:
        failures: The first hundred rows.
    """

    def __init__(self, plan: Plan, target: Store, file: DeadLetterFile | None) -> None:
        self._plan, self._target, self._file = plan, target, file
        self._written: set[int] = set()
        self.failures: list[Failure] = []

    def take(self, refused: Refused) -> None:
        """Appends dead letters; they are on the disk when this returns.

        Raises:
            InvalidRecordError: There is no file for them; names the rows.
            StorageFullError: The disk is full.
        """
        if not refused.failures and not refused.unfit:
            return
        refused = replace(refused, failures=[self._named(refused, each) for each in refused.failures])
        place = self._place(refused.namespace)
        if self._file is None:
            raise self._error(refused, place)
        letters = [
            DeadLetter(each.id, place, each.error, row_values(refused.converted, each.row, self._plan.spec))
            for each in refused.failures
        ]
        letters += [
            DeadLetter(each.id, place, each.error, self._without_vectors(refused, each.id))
            for each in refused.unfit
        ]
        # a namespace that is copied from its start again meets the same rows
        fresh = {key: letter for letter in letters if (key := hash(letter.to_json())) not in self._written}
        self._file.append(fresh.values())
        self._written |= fresh.keys()
        room = KEPT_FAILURES - len(self.failures)
        self.failures += [*refused.failures, *refused.unfit][: max(room, 0)]

    def _named(self, refused: Refused, failure: Failure) -> Failure:
        """With the kind of the loss before the reason, as in the plan, where it is known."""
        into, row = self._plan.target_namespace(refused.namespace), refused.converted.slice(failure.row, 1)
        if not self._plan.reaches(refused.namespace):
            return replace(failure, error=f"namespace: {failure.error}")
        found = losses.refusal(row, self._plan.spec, self._target, into)
        return failure if found is None else replace(failure, error=f"{found[0]}: {failure.error}")

    def _place(self, namespace: str) -> str:
        named = namespace and self._plan.only is None
        return self._plan.source + (f" namespace {namespace!r}" if named else "")

    def _error(self, refused: Refused, place: str) -> InvalidRecordError:
        named = [*refused.failures, *refused.unfit]
        more = f", and {len(named) - 1} more of this page" if len(named) > 1 else ""
        return InvalidRecordError(
            f"{place}: {self._plan.target} cannot keep the row {named[0].id!r}: {named[0].error}{more}: "
            "dead_letters= sets such rows aside and goes on",
            [replace(each, row=row) for row, each in enumerate(named)],
        )

    def _without_vectors(self, refused: Refused, key: str | int | None) -> dict[str, Any]:
        """What can be read of a row that a batch cannot hold: its columns beside the vectors."""
        source, vectors = refused.source, {each.name for each in refused.source.stored_spec.vectors}
        bare = {"id": key}
        if key is None:
            return bare
        try:
            scalars = [name for name in refused.converter.include if name not in vectors]
            found = source.fetch([key], include=scalars)
            if not found.num_rows:
                return bare
            schema = records.arrow_schema(source.stored_spec)
            columns = [
                pa.nulls(1, schema.field(name).type) if name in vectors else found.column(name)
                for name in ("id", *refused.converter.include)
            ]
            batch = pa.RecordBatch.from_arrays(columns, names=["id", *refused.converter.include])
            row = refused.converter.convert(batch, refused.namespace)
            return row_values(row, 0, self._plan.spec)
        except (VecbridgeError, pa.ArrowException, ValueError, TypeError):
            return bare  # what is wrong with the row may keep it from being read at all
