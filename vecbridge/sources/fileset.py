"""Several files of vectors that go into one collection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from vecbridge.errors import ConfigError, InvalidRecordError, SchemaError, VecbridgeError, suggestion
from vecbridge.schema import CollectionSpec
from vecbridge.sources.choosing import Selection
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.inference import SourceSchema, field_name, merged
from vecbridge.sources.npy import NpySource
from vecbridge.sources.parquet import ParquetSource
from vecbridge.sources.tables import TableSource, require_table, table_source

_SHOWN: Final = 5  # files in a message
_WAY_OUT: Final = "nothing of this file is loaded: mend it, and load it with the same options"


class FileSet:
    """Files of vectors, of any kinds, read one after the other.

    Empty files are skipped. A file that cannot be read is one dead letter, and the others are read. If none
    can be read, :meth:`schema` fails, as it does where a file has no ids or vectors, or others than the rest.
    Ids that are row numbers go on from file to file.

    Args:
        paths: The files.
        id_column: Where the ids stand; None finds them.
        vectors: {column: vector field}; None finds them.
        selection: Which other columns are read.
        truncate_times: Cut timestamps that are finer than microseconds, instead of refusing them.

    Raises:
        ConfigError: A path that is no file, or not one of a known kind; or no file has a column that the
            selection names.
        SchemaError: A file has no id column of the name given.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        id_column: str | None = None,
        vectors: Mapping[str, str] | None = None,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        truncate_times: bool = False,
    ) -> None:
        self.sources: list[TableSource] = []
        self.notes: list[str] = []
        self._failures: dict[str, VecbridgeError] = {}
        first_id = 0
        for path in [require_table(path) for path in paths]:
            try:
                source = table_source(
                    path,
                    id_column=id_column,
                    vectors=vectors,
                    selection=selection,
                    first_id=first_id,
                    truncate_times=truncate_times,
                )
                if source.is_empty:
                    self.notes.append(f"{path}: skipped, because it has no rows")
                    continue
                if source.is_numbered and isinstance(source, NpySource | ParquetSource):
                    first_id += len(source)
            except ConfigError as exc:
                self._failures[str(path)] = exc
                continue
            except SchemaError as exc:
                raise SchemaError(f"{path}: {exc}") from None
            self.sources.append(source)
        self._require_columns(selection)

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """One schema for all files.

        Args:
            existing: The collection that they go into.

        Raises:
            ConfigError: All files are empty.
            SchemaError: A file has no ids or vectors, or others than the rest, or a column of which no value
                fits the collection.
            VecbridgeError: No file can be read; the error of the only one, if it is one.
        """
        schemas: dict[str, SourceSchema] = {}
        readable = []
        for source in self.sources:
            try:
                schema = source.schema(existing)
            except SchemaError as exc:
                if source.columns:
                    raise
                self._failures[str(source.path)] = exc  # not a single record
                continue
            _require_types(str(source.path), schema, existing)
            schemas[str(source.path)] = schema
            readable.append(source)
        self.sources = readable
        if not schemas:
            raise self._nothing_to_read()
        _require_agreement(self.sources, schemas)
        return merged(schemas.values())

    def batches(self, spec: CollectionSpec, *, on_dead_letter: OnDeadLetter) -> Iterator[pa.RecordBatch]:
        """Streams the records of all files as checked batches.

        Args:
            spec: The collection that they go into.
            on_dead_letter: Receives what cannot be taken: files first, then rows.
        """
        for path, error in self._failures.items():
            on_dead_letter(DeadLetter(None, path, f"{error}: {_WAY_OUT}"))
        for source in self.sources:
            with _naming(source):
                yield from source.batches(spec, on_dead_letter=on_dead_letter)

    @property
    def failures(self) -> Mapping[str, VecbridgeError]:
        """The files that cannot be read, and why."""
        return self._failures

    @property
    def rows(self) -> int | None:
        """The number of rows; None where it is not known without reading them all."""
        counts = [len(source) for source in self.sources if isinstance(source, NpySource | ParquetSource)]
        return sum(counts) if len(counts) == len(self.sources) else None

    def _require_columns(self, selection: Selection) -> None:
        columns = {name for source in self.sources for name in source.columns}
        known = columns | {field_name(name, ()) for name in columns}
        unknown = sorted(selection.names() - known) if self.sources else []
        if unknown:
            hint = suggestion(unknown[0], sorted(columns))
            raise ConfigError(f"--fields, --drop: no file has a column {unknown[0]!r}{hint}")

    def _nothing_to_read(self) -> VecbridgeError:
        if not self._failures:
            return ConfigError(f"nothing to load: {'; '.join(self.notes) or 'no files'}")
        errors = list(self._failures.values())
        if len(errors) == 1:
            return errors[0]
        more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        shown = "; ".join(map(str, errors[:_SHOWN]))
        return SchemaError(f"none of the files can be loaded: {shown}{more}")


@contextmanager
def _naming(source: TableSource) -> Iterator[None]:
    """Puts the file before what is wrong with its columns."""
    try:
        yield
    except (SchemaError, InvalidRecordError) as exc:
        path = str(source.path)
        if path not in str(exc):
            exc.args = (f"{path}: {exc}", *exc.args[1:])
        raise


def _require_types(path: str, schema: SourceSchema, existing: CollectionSpec | None) -> None:
    """Refuses a file with a column of which no value could fit the collection's field."""
    known = {} if existing is None else {field.name: field.type for field in existing.fields}
    for name, type in schema.fields.items():
        if known.get(name, type) != type:
            raise SchemaError(
                f"{path}: column {name!r} is {type}, and the collection's field {known[name]}, so that no "
                f"value fits: --drop {name} leaves it out"
            )


def _require_agreement(sources: Sequence[TableSource], schemas: Mapping[str, SourceSchema]) -> None:
    """Names the files whose ids or vectors differ."""
    numbered = {str(source.path) for source in sources if source.is_numbered}
    first, *others = schemas.items()
    for path, schema in others:
        if (schema.id_type, schema.vectors) != (first[1].id_type, first[1].vectors):
            one = _described(first[1], is_numbered=first[0] in numbered)
            other = _described(schema, is_numbered=path in numbered)
            raise SchemaError(f"{first[0]}: {one}, but {path}: {other}; files that are loaded together agree")


def _described(schema: SourceSchema, *, is_numbered: bool) -> str:
    vectors = ", ".join(f"{name} [{dim}]" for name, dim in schema.vectors.items())
    ids = "no id column, so that ids are row numbers" if is_numbered else f"{schema.id_type} ids"
    return f"{ids}, and vectors {vectors}"
