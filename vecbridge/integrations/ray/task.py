"""What a write task does with its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from vecbridge.bulk import write
from vecbridge.collection import Collection
from vecbridge.errors import Failure, PartialWriteError
from vecbridge.integrations.ray import blocks as ray_blocks
from vecbridge.integrations.ray.installed import Block
from vecbridge.integrations.ray.report import total
from vecbridge.query import WriteReport
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter


class Task:
    """The rows of one task on their way.

    Args:
        collection: The namespace that rows go to, or any where a column says which.
        options: Of :func:`vecbridge.write`.
    """

    def __init__(self, collection: Collection, options: dict[str, Any]) -> None:
        self._collection, self._spec, self._options = collection, collection.spec, options

    def write(self, blocks: Iterable[Block]) -> WriteReport:
        """Writes all rows into one namespace, as one stream."""

        def read(on_dead_letter: OnDeadLetter) -> Iterator[pa.Table]:
            for table in ray_blocks.tables(blocks, self._spec, None):
                yield ray_blocks.embedded_rows(table, self._spec, on_dead_letter)

        return write(self._collection, read, **self._options)

    def write_by_namespace(
        self, blocks: Iterable[Block], column: str, open_namespace: Callable[[str], Collection]
    ) -> WriteReport:
        """Writes each row into the namespace that its column names, block by block."""
        most = self._options.pop("max_failures")
        opened: dict[str, Collection] = {}
        report = WriteReport()
        for table in ray_blocks.tables(blocks, self._spec, column):
            letters: list[DeadLetter] = []
            rows = ray_blocks.embedded_rows(table, self._spec, letters.append)
            for namespace, part in ray_blocks.by_namespace(rows, column, self._spec, letters.append):
                if namespace not in opened:
                    opened[namespace] = open_namespace(namespace)
                report = total([report, write(opened[namespace], part, **self._options)])
            report = total([report, self._set_aside(letters)])
            if most is not None and report.failed > most:
                raise PartialWriteError(report)
        return report

    def _set_aside(self, letters: Sequence[DeadLetter]) -> WriteReport:
        """Writes dead letters of rows that no write was asked for."""
        if (file := self._options["dead_letters"]) is not None:
            file.append(letters)
        failures = tuple(Failure(row, letter.id, letter.error) for row, letter in enumerate(letters))
        return WriteReport(failed=len(letters), failures=failures)
