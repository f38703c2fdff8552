"""What the commands that open pictures share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from vecbridge.errors import ConfigError, InvalidRecordError

MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        help="Refuse pictures with more pixels. Default: 250 million for JPEG, 89 million for others.",
        show_default=False,
    ),
]


def ignore_pillow_warnings() -> None:
    """Hides what Pillow says about damaged metadata: the picture is read, or refused in our own words."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def query_picture(path: Path | None, max_pixels: int | None) -> Any:
    """The picture of ``--image``, as a ``PIL.Image.Image``; None without one.

    Raises:
        ConfigError: There is no such file.
        InvalidRecordError: It cannot be read.
    """
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(f"--image: {path}: no such file")
    from vecbridge.sources.pictures import open_picture

    ignore_pillow_warnings()
    try:
        return open_picture(path, max_pixels=max_pixels).image
    except InvalidRecordError as exc:
        raise InvalidRecordError(f"{path}: {exc.rows[0].error}", exc.rows) from None
