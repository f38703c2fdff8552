"""What the commands that open pictures share."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer

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
