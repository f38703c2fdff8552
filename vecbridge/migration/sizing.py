"""How large a migration is, and which rows the target cannot keep: from a sample, or from every row."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vecbridge import filters
from vecbridge.front.dryrun import DryRequest
from vecbridge.migration import losses, reading
from vecbridge.migration.conversion import Converter
from vecbridge.migration.losses import Met
from vecbridge.migration.plans import NamespacePlan, Plan, Size
from vecbridge.migration.sides import Side
from vecbridge.names import is_namespace
from vecbridge.query import Unfit

SAMPLE_ROWS: Final = 1_000
_SLOWER: Final = 10.0  # times as long as what was measured, at most: what the target does is not known before


@dataclass(slots=True)
class _Seen:
    """What was met on the way.

    Attributes:
        rows: Rows looked at, those that cannot be kept included.
        encoded: Rows of the requests.
        bytes: Bytes of the requests.
        requests: How many they are.
        fullest: Rows of the largest of them.
        cut: Whether a page took several.
        seconds: That it took.
        met: By kind of loss, the rows that cannot be kept.
    """

    rows: int = 0
    encoded: int = 0
    bytes: int = 0
    requests: int = 0
    fullest: int = 0
    cut: bool = False
    seconds: float = 0.0
    met: dict[str, Met] = field(default_factory=lambda: defaultdict(Met))

    def add(self, requests: list[DryRequest]) -> None:
        """The requests of a page."""
        self.encoded += sum(each.rows for each in requests)
        self.bytes += sum(each.bytes for each in requests)
        self.requests += len(requests)
        self.fullest = max(self.fullest, *(each.rows for each in requests), 0)
        self.cut = self.cut or len(requests) > 1


def sized(plan: Plan, source: Side, target: Side, *, scan: bool) -> Plan:
    """The plan with its size, and with the losses that depend on values as far as they are known.

    Args:
        plan: Without a size.
        source: The source.
        target: The target; it need not exist.
        scan: Look at every row.
    """
    namespaces = [each for each in plan.namespaces if is_namespace(each.target)]
    rows = sum(each.rows for each in namespaces)
    seen = _Seen()
    for each in namespaces:
        share = None if scan else math.ceil(SAMPLE_ROWS * each.rows / max(rows, 1))
        if each.rows and (scan or seen.rows < SAMPLE_ROWS):
            _look(plan, source, target, each, seen, share)
    found = tuple(losses.counted(plan.losses, seen.met, all_rows=scan))
    if scan:
        size = Size(seen.rows, seen.bytes, seen.requests, _range(seen.seconds, seen.rows), exact=True)
        return plan.with_size(size, found)
    scale = rows / seen.rows if seen.rows else 0.0
    requests = _requests(plan, namespaces, seen, target) if seen.encoded else 0
    size = Size(rows, round(seen.bytes * scale), requests, _range(seen.seconds * scale, seen.rows))
    return plan.with_size(size, found)


def _look(
    plan: Plan, source: Side, target: Side, each: NamespacePlan, seen: _Seen, limit: int | None
) -> None:
    """Looks at rows of one namespace."""
    collection = source.collection(each.source)
    converter = Converter(plan, collection.stored_spec, collection.extra)
    condition = None if plan.filter is None else filters.from_dict(plan.filter)
    capabilities = target.store.capabilities
    dry_run = target.store.dry_run(plan.spec, namespace=each.target)

    def unfit(key: str | int, reason: Unfit) -> None:
        seen.rows += 1
        seen.met[reason.kind].add(key, each.source, reason.detail)

    pages = collection.scan(
        include=converter.include, filter=condition, batch_rows=reading.page_rows(plan.source_spec),
        limit=limit, unfit=unfit,
    )  # fmt: skip
    if not seen.rows:  # what is imported and opened for the first rows would count for all of them
        first = collection.scan(include=converter.include, filter=condition, limit=1, unfit=lambda *_: None)
        next(first, None)
    start = time.perf_counter()
    for page in pages:
        if not page.batch.num_rows:
            continue
        batch = converter.convert(page.batch, each.source)
        if not seen.encoded:  # likewise what is imported to encode them
            paused = time.perf_counter()
            losses.examined(batch.slice(0, 1), plan.spec, capabilities, dry_run)
            start += time.perf_counter() - paused
        examined = losses.examined(batch, plan.spec, capabilities, dry_run)
        seen.rows += batch.num_rows
        seen.add(examined.requests)
        for row, (kind, reason) in examined.refused.items():
            if kind == "row:id" and plan.id_template is not None:
                kind = "id"  # the template made it too long
            seen.met[kind].add(page.batch.column("id")[row].as_py(), each.source, reason)
    seen.seconds += time.perf_counter() - start


def _requests(plan: Plan, namespaces: Sequence[NamespacePlan], seen: _Seen, target: Side) -> int:
    """Write requests, by the rows of a page of the source and of a request of the target."""
    capabilities = target.store.capabilities
    rows = sum(each.rows for each in namespaces)
    page = reading.page_rows(plan.source_spec, Size(rows, round(seen.bytes * rows / seen.rows)))
    if seen.cut:  # the sample says where requests end
        most = seen.fullest
    else:
        most = capabilities.request_rows
        if capabilities.request_bytes is not None:
            most = min(most, max(1, int(capabilities.request_bytes * seen.encoded / max(seen.bytes, 1))))
    total = 0
    for each in namespaces:
        whole, rest = divmod(each.rows, page)
        total += whole * math.ceil(page / most) + math.ceil(rest / most)
    return total


def _range(seconds: float, rows: int) -> tuple[float, float] | None:
    """From reading and encoding alone, one page at a time, to ten times as long."""
    if not rows:
        return None
    shortest = round(max(seconds, 0.1), 1)
    return shortest, round(shortest * _SLOWER, 1)
