"""Input from pipes and compressed files: options, and temporary copies for as long as a command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
    from vecbridge.sources.spool import Spool

INPUT_PANEL: Final = "Pipes and compressed files"
_PICTURE_BYTES: Final = 2**30

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="What a pipe holds: jsonl, parquet or npy. Default: told by its first bytes.",
        rich_help_panel=INPUT_PANEL,
    ),
]
MaxBytesOption = Annotated[
    str,
    typer.Option(
        "--max-bytes",
        metavar="SIZE",
        help="Most that a pipe or an expanded file may take on the disk, as in 500MB.",
        rich_help_panel=INPUT_PANEL,
    ),
]


def table_spool(ctx: typer.Context, format: str | None, max_bytes: str) -> Spool:
    """A spool for files of records, which is closed when the command ends.

    Raises:
        ConfigError: No such format, or no such size.
    """
    return _spool(ctx, format, _size(max_bytes))


def as_picture(ctx: typer.Context, path: Path) -> Path:
    """The path of a picture that can be read: a copy for standard input and pipes."""
    spool = _spool(ctx, None, _PICTURE_BYTES)
    picture = spool.picture(path)
    output.call(picture, spool.name(picture))
    return picture


def as_files(spool: Spool, paths: list[Path]) -> list[Path]:
    """The paths of files of records that can be read: copies for pipes and compressed files."""
    files = []
    for path in paths:
        with output.busy(f"Reading {path}"):
            files.append(spool.table(path))
        output.call(files[-1], spool.name(files[-1]))
    return files


def named(
    batches: Callable[[OnDeadLetter], Iterator[pa.RecordBatch]], spool: Spool
) -> Callable[[OnDeadLetter], Iterator[pa.RecordBatch]]:
    """A reader whose rows and dead letters name the inputs, and not their copies."""
    from vecbridge.records.stamps import split_origins, with_origins

    def renamed(on_dead_letter: OnDeadLetter) -> Iterator[pa.RecordBatch]:
        def rename(letter: DeadLetter) -> None:
            source = None if letter.source is None else spool.named(letter.source)
            on_dead_letter(replace(letter, source=source, error=spool.named(letter.error)))

        for batch in batches(rename):
            plain, origins = split_origins(batch)
            yield batch if origins is None else with_origins(plain, [spool.named(each) for each in origins])

    return renamed


def _spool(ctx: typer.Context, format: str | None, max_bytes: int) -> Spool:
    from vecbridge.sources.spool import FORMATS, Spool

    if format is not None and format not in FORMATS:
        raise ConfigError(f"--format {format}: one of {', '.join(FORMATS)}")
    spool = Spool(max_bytes=max_bytes, format=format)
    ctx.call_on_close(spool.close)
    return spool


def _size(text: str) -> int:
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        size = 0
    if size < 1:
        raise ConfigError(f"--max-bytes {text}: a size from 1 byte, such as 500MB or 64GiB")
    return size
