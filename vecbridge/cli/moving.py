"""What the commands share that move a collection: arguments, the transform, files of state, losses."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import common, output
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from vecbridge.migration.plans import Loss, Plan

TRANSFORM_PANEL: Final = "What is copied"
CONTINUE_PANEL: Final = "Failures and continuation"

SourceArgument = Annotated[
    str,
    typer.Argument(metavar="SRC", help="The collection, such as faiss:./vectors#photos.", show_default=False),
]
TargetArgument = Annotated[
    str,
    typer.Argument(metavar="DST", help="Where it goes; without #name it keeps its name.", show_default=False),
]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Rename a column. May be repeated.",
        rich_help_panel=TRANSFORM_PANEL,
    ),
]
DropOption = Annotated[
    list[str] | None,
    typer.Option(
        "--drop",
        metavar="COLUMN",
        help="Leave a column out. May be repeated.",
        rich_help_panel=TRANSFORM_PANEL,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="CONDITION", help="Only records that match, as in \"year >= 2020\".",
        rich_help_panel=TRANSFORM_PANEL,
    ),
]  # fmt: skip
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter", metavar="JSON", help="The same as JSON.", rich_help_panel=TRANSFORM_PANEL
    ),
]  # fmt: skip
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="TEMPLATE", help="How ids are built, as in '{namespace}/{id}'.",
        rich_help_panel=TRANSFORM_PANEL,
    ),
]  # fmt: skip
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="A plan that vecbridge plan --output FILE has written."),
]


def read_transform(
    source: str,
    rename: Sequence[str] | None,
    drop: Sequence[str] | None,
    where: str | None,
    filter_json: str | None,
    id_template: str | None,
) -> dict[str, Any]:
    """The transform arguments of the library from the options.

    Raises:
        ConfigError: One of them cannot be read.
    """
    condition = common.read_filter(where, filter_json)
    if condition is not None:
        from vecbridge.cli.dates import fitting
        from vecbridge.registry import open as open_collection

        with open_collection(source) as collection:
            condition = fitting(condition, collection.spec)
    dropped = [name.strip() for option in drop or () for name in option.split(",") if name.strip()]
    return {
        "rename": _renames(rename or ()), "drop": dropped, "filter": condition, "id_template": id_template
    }  # fmt: skip


def read_kinds(given: Sequence[str] | None) -> list[str]:
    """The kinds of losses of ``--allow``; commas separate them."""
    return [kind.strip() for option in given or () for kind in option.split(",") if kind.strip()]


def state_path(command: str, source: str, target: str, about: Mapping[str, Any], suffix: str) -> Path:
    """Where a command keeps a file of its own, so that the same command finds it again.

    Args:
        command: Its name.
        source: URL of the source.
        target: URL of the target.
        about: What else tells two runs apart, as JSON values; login data is not among them.
        suffix: Of the file.

    Raises:
        ConfigError: The directory cannot be made.
    """
    from vecbridge.migration.naming import collection_name
    from vecbridge.migration.sides import Side

    with Side(source) as from_side, Side(target, name=collection_name(from_side.name)) as to_side:
        values = [from_side.url, to_side.url, about]
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    home = os.environ.get("XDG_STATE_HOME")
    folder = (Path(home) if home else Path.home() / ".local" / "state") / "vecbridge"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"{folder}: {exc.strerror or exc}: set XDG_STATE_HOME, or name a file") from exc
    return folder / f"{command}-{digest}{suffix}"


def show_losses(plan: Plan) -> None:
    """Prints to stderr what the target does not get as it is."""
    if not plan.losses:
        output.note("Losses: none.")
        return
    output.stderr().print(losses_table(plan))


def losses_table(plan: Plan) -> Table:
    """What the target does not get as it is, a line each."""
    rows = [(loss.kind, loss.subject, _when(loss), loss.detail) for loss in plan.losses]
    return output.table(["loss", "of", "rows", "what happens"], rows)


def _when(loss: Loss) -> str:
    if loss.rows is not None:
        return f"{loss.rows:,}"
    if loss.of_rows and loss.certain:
        return "some"  # met in the sample, and nobody has counted them
    return "all" if loss.certain else "possibly"


def _renames(given: Sequence[str]) -> dict[str, str]:
    renames: dict[str, str] = {}
    for option in given:
        for pair in option.split(","):
            old, equals, new = (piece.strip() for piece in pair.partition("="))
            if not old or not equals or not new or old in renames:
                raise ConfigError(f"--rename {pair!r}: as in old=new, each column once")
            renames[old] = new
    return renames
