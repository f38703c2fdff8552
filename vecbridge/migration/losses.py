"""What a target cannot keep, as the named losses of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.bulk.intake import validate
from vecbridge.capabilities import Capabilities, Gap
from vecbridge.errors import InvalidRecordError, VecbridgeError
from vecbridge.front.dryrun import DryRequest, DryRun
from vecbridge.migration.plans import Loss
from vecbridge.schema import CollectionSpec, Metric, VectorField
from vecbridge.store import Store

EXAMPLES: Final = 3  # rows that a loss shows
_SHOWN_ID: Final = 60  # characters
_NAMED: Final = ("field:", "vector:")
_INTEGERS: Final = frozenset({"int64", "list<int64>"})
_ROWS_DETAIL: Final[Mapping[str, str]] = {
    "row:no_vector": "rows without a vector, or with one of another length",
    "row:zero_vector": "rows whose vector is zero",
    "row:not_finite": "rows with NaN or Inf in their vector",
    "row:id": "rows whose id cannot be one",
}


def of_source(gaps: Iterable[Gap], spec: CollectionSpec) -> list[Loss]:
    """What a collection of another program holds that its spec does not say.

    What stands in the spec all the same is lost in some values alone; nobody knows in which.

    Args:
        gaps: ``Collection.losses``.
        spec: Of the collection.
    """
    return [Loss(gap.kind, gap.subject, gap.detail, gap.subject not in spec.column_names) for gap in gaps]


def of_target(gaps: Iterable[Gap], spec: CollectionSpec, names: Mapping[str, str]) -> list[Loss]:
    """What the target cannot keep: blocking gaps are certain losses, the others depend on values.

    Args:
        gaps: About columns under the names of the target.
        spec: What the target would be.
        names: The target's name of each column, by the source's, by which losses are named.
    """
    metrics = {vector.name: vector.metric for vector in spec.vectors}
    sources = {new: name for name, new in names.items()}
    found = []
    for gap in gaps:
        subject = sources.get(gap.subject, "rows" if gap.subject == spec.name else gap.subject)
        kind = gap.kind
        if kind.startswith(_NAMED):
            kind = f"{kind.partition(':')[0]}:{subject}"
            if not gap.blocking and gap.subject in metrics:  # under cosine lengths are limited, else zeros
                kind = "size" if metrics[gap.subject] is Metric.COSINE else "row:zero_vector"
        found.append(Loss(kind, subject, gap.detail, certain=gap.blocking or kind == "null"))
    return found


@dataclass(frozen=True, slots=True)
class Examined:
    """What becomes of some rows at the target.

    Attributes:
        refused: Kind of the loss and reason of the rows that it cannot keep, by row.
        requests: That write the others.
    """

    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    requests: list[DryRequest] = field(default_factory=list)


def row_losses(
    batch: pa.RecordBatch, spec: CollectionSpec, capabilities: Capabilities, dry_run: DryRun | None = None
) -> dict[int, tuple[str, str]]:
    """Rows that the contract or the target refuses: kind of the loss and reason, by row.

    Args:
        batch: Rows as the plan converts them.
        spec: Of the target.
        capabilities: Of the target.
        dry_run: Of the target, for what only the encoded rows show; without it, that is not looked at.
    """
    return examined(batch, spec, capabilities, dry_run).refused


def refusal(
    row: pa.RecordBatch, spec: CollectionSpec, target: Store, namespace: str
) -> tuple[str, str] | None:
    """Why a target cannot keep a row: kind of the loss and reason; None if nothing is known against it.

    Args:
        row: One row as the plan converts it, not checked.
        spec: Of the target.
        target: Its store.
        namespace: Of the target.
    """
    try:
        dry_run = target.dry_run(spec, namespace=namespace)
        return row_losses(row, spec, target.capabilities, dry_run).get(0)
    except VecbridgeError:  # a reason more or less changes nothing
        return None


def examined(
    batch: pa.RecordBatch, spec: CollectionSpec, capabilities: Capabilities, dry_run: DryRun | None
) -> Examined:
    """As :func:`row_losses`, with the requests that write the other rows; without a dry run, none."""
    validated = validate(batch, spec)
    part = validated.part
    refused = {
        failure.row: (_contract_kind(batch, failure.row, spec), failure.error)
        for failure in validated.failures
    }
    while len(part):
        try:
            capabilities.refuse(part.checked.batch, spec)
            return Examined(refused, [] if dry_run is None else dry_run.requests(part.checked))
        except InvalidRecordError as exc:
            if not exc.rows:
                raise
            bad = {failure.row: failure.error for failure in exc.rows}
        for place, error in bad.items():
            kind = _limit_kind(part.take(np.array([place])).checked.batch, spec, capabilities, dry_run)
            refused[int(part.rows[place])] = (kind, error)
        part = part.take(np.setdiff1d(np.arange(len(part)), list(bad)))
    return Examined(refused)


def counted(losses: Iterable[Loss], met: Mapping[str, Met], *, all_rows: bool) -> Iterator[Loss]:
    """The losses, with the rows that each kind was seen to meet.

    Args:
        losses: Of the schema, and those that depend on the values of rows.
        met: The rows that were met, by kind.
        all_rows: Whether every row was looked at, so that what was not met is no loss.
    """
    possible: dict[str, list[Loss]] = {}
    for loss in losses:
        if loss.of_rows and not loss.certain:
            possible.setdefault(loss.kind, []).append(loss)
        else:
            yield loss
    for kind, several in possible.items():
        if kind in met:
            yield met[kind].loss(kind, several, all_rows=all_rows)
        elif not all_rows:
            yield from _merged(several)
    for kind, rows in met.items():
        if kind not in possible:
            yield rows.loss(kind, [], all_rows=all_rows)


@dataclass(slots=True)
class Met:
    """Rows that one kind of loss meets.

    Attributes:
        rows: How many.
        examples: The first of them, as "id: reason".
    """

    rows: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, key: str | int | None, namespace: str, reason: str) -> None:
        """Counts one."""
        self.rows += 1
        if len(self.examples) < EXAMPLES:
            where = f" of namespace {namespace!r}" if namespace else ""
            text = repr(key)
            text = text if len(text) <= _SHOWN_ID else f"{text[:_SHOWN_ID]}…"
            self.examples.append(f"{text}{where}: {reason}")

    def loss(self, kind: str, possible: Iterable[Loss], *, all_rows: bool) -> Loss:
        """As a loss that is certain; how many rows it meets is known if all were looked at."""
        subjects = ", ".join(dict.fromkeys(loss.subject for loss in possible)) or "rows"
        more = f"; and {self.rows - len(self.examples):,} more" if self.rows > len(self.examples) else ""
        detail = _ROWS_DETAIL.get(kind, "rows that the target refuses")
        shown = f"{detail}: {'; '.join(self.examples)}{more}"
        return Loss(kind, subjects, shown, certain=True, rows=self.rows if all_rows else None)


def _merged(losses: Iterable[Loss]) -> Iterator[Loss]:
    """Losses of one kind, those that say the same of several columns as one."""
    subjects: dict[str, dict[str, None]] = {}
    kinds = {}
    for loss in losses:
        subjects.setdefault(loss.detail, {})[loss.subject] = None
        kinds[loss.detail] = loss
    for detail, names in subjects.items():
        yield replace(kinds[detail], subject=", ".join(names))


def _contract_kind(batch: pa.RecordBatch, row: int, spec: CollectionSpec) -> str:
    """Why no backend may take a row."""
    for vector in spec.vectors:
        values = records.vectors(batch.slice(row, 1), vector.name)
        if not np.isfinite(values).all():
            return "row:not_finite"
        if vector.metric is Metric.COSINE and not values.any():
            return "row:zero_vector"
    return "row:id" if _bad_id(batch.column("id")[row].as_py()) else "size"


def _bad_id(key: str | int | None) -> bool:
    if not isinstance(key, str):
        return key is None
    return not key or "\0" in key or len(key.encode("utf-8", "surrogatepass")) > records.MAX_ID_BYTES


def _limit_kind(
    row: pa.RecordBatch, spec: CollectionSpec, capabilities: Capabilities, dry_run: DryRun | None
) -> str:
    """Why this backend does not take a row, which is checked and stands alone."""
    if not capabilities.zero_vectors and any(_is_zero(row, vector) for vector in spec.vectors):
        return "row:zero_vector"
    limit = 2**capabilities.int_bits
    for column in spec.fields:
        [value] = row.column(column.name).to_pylist()
        if column.type in _INTEGERS and value is not None:
            numbers = value if isinstance(value, list) else [value]
            if any(abs(number) > limit for number in numbers):
                return "int_width"
    return (
        "id" if dry_run is not None and _fits_under_another_id(row, spec, capabilities, dry_run) else "size"
    )


def _fits_under_another_id(
    row: pa.RecordBatch, spec: CollectionSpec, capabilities: Capabilities, dry_run: DryRun
) -> bool:
    """Whether a row that was refused would be taken with the shortest of ids."""
    ids = pa.array(["a"]) if spec.id_type == "string" else pa.array([1], pa.int64())
    checked = records.checked(row.set_column(0, row.schema.field("id"), ids), spec)
    try:
        capabilities.refuse(checked.batch, spec)
        dry_run.requests(checked)
    except InvalidRecordError:
        return False
    return True


def _is_zero(row: pa.RecordBatch, vector: VectorField) -> bool:
    return not records.vectors(row, vector.name).any()
