"""``embed``: what concerns a model alone, and no store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbridge.cli import common, output

if TYPE_CHECKING:
    from vecbridge.embed.comparison import Measured
    from vecbridge.embed.torch_export import Difference

embed = typer.Typer(no_args_is_help=True, help="Export a model to ONNX, or compare what it can run on.")
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A directory, or an id on the hub.", show_default=False)
]


@embed.command("export")
def export_(
    model: Model,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A new directory, or that of the model itself.", show_default=False
        ),
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Add graphs of int8, which --dtype int8 runs.")
    ] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Export a model of PyTorch to ONNX, which runs without PyTorch.

    Writes both towers and the model's scale, after comparing their vectors with those
    of PyTorch. In the directory of the model itself, the graphs stand beside the
    weights, and its identity stays; a new directory is another model to collections.
    """
    from vecbridge.embed.torch_export import export

    with output.busy(f"Exporting {model}"):
        done = export(model, directory, int8=int8)
    towers = {"texts": done.texts, "pictures": done.pictures}
    if done.int8 is not None:
        towers |= {"texts in int8": done.int8[0], "pictures in int8": done.int8[1]}
    if as_json:
        differences = {name.replace(" ", "_"): _values(each) for name, each in towers.items()}
        about = {"directory": str(done.directory), "logit_scale": done.logits.scale}
        output.document(about | {"logit_bias": done.logits.bias} | differences)
        return
    lines = [("exported to", str(done.directory))]
    for name, each in towers.items():
        text = f"at most {each.largest:.1e} from PyTorch in a number, cosine at least {each.cosine:.7f}"
        lines.append((name, text))
    output.show(output.pairs(lines))


def _values(difference: Difference) -> dict[str, float]:
    return {"largest_difference": difference.largest, "smallest_cosine": difference.cosine}


@embed.command()
def bench(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="bundled, a directory, or an id on the hub. Default: VECBRIDGE_MODEL.",
            show_default=False,
        ),
    ] = None,
    device: common.DeviceOption = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="PATH", help="A folder of your pictures. Default: random ones."),
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", metavar="N", min=1, help="Pictures in each round.")
    ] = 32,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Rounds.")] = 3,
    as_json: common.JsonOption = False,
) -> None:
    """Compare the runtimes and precisions that a model has here.

    Each embeds the same pictures and texts, in turns; its rate is the median of the
    rounds. The cosine is the smallest between its vectors and those of float32.
    Nothing is saved: give the options of the one that you want to the other commands.
    """
    settings = common.load_settings()
    from vecbridge.embed.comparison import compare

    name = model or settings.model
    with output.busy(f"Measuring {name}"):
        found = compare(
            name, device=device or settings.device, images=_pictures(images), pictures=pictures, rounds=rounds
        )
    if as_json:
        output.document({"model": name, "pictures": pictures, "rounds": rounds, "lines": _documents(found)})
        return
    _print(found)


def _pictures(folder: Path | None) -> list[Path] | None:
    """The pictures of a folder; None without one."""
    if folder is None:
        return None
    from vecbridge.sources.images import ImageSource, PictureItem

    found = list(ImageSource([folder]))
    return [Path(item.path) for item in found if isinstance(item, PictureItem)]


def _documents(found: list[Measured]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(each) | {"options": each.options} for each in found]


def _print(found: list[Measured]) -> None:
    rows = [
        (
            each.options,
            _rounded(each.pictures_per_s, 1),
            _rounded(each.texts_per_s, 0),
            _rounded(each.cosine, 5),
        )
        for each in found
        if not each.problem
    ]
    columns = ("options", "pictures/s", "texts/s", "cosine")
    output.show(output.table(columns, rows, right=columns[1:]))
    for each in found:
        if each.problem:
            output.note(f"{each.runtime}, {each.dtype}: {output.in_options(each.problem)}")


def _rounded(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
