"""``embed``: what concerns a model alone, and no store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecbridge.cli import common, output
from vecbridge.errors import ConfigError


def embed(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="export: write ONNX graphs.")],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A directory, or an id on the hub.", show_default=False)
    ],
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A new directory, or that of the model itself.", show_default=False
        ),
    ],
    as_json: common.JsonOption = False,
) -> None:
    """Export a model of PyTorch to ONNX, which runs without PyTorch.

    Writes both towers and the model's scale, after comparing their vectors with those
    of PyTorch. In the directory of the model itself, the graphs stand beside the
    weights, and its identity stays; a new directory is another model to collections.
    """
    if action != "export":
        raise ConfigError(f"ACTION is {action!r}: it must be export")
    from vecbridge.embed.torch_export import export

    done = export(model, directory)
    if as_json:
        towers = {
            name: {"largest_difference": each.largest, "smallest_cosine": each.cosine}
            for name, each in (("texts", done.texts), ("pictures", done.pictures))
        }
        about = {"directory": str(done.directory), "logit_scale": done.logits.scale}
        output.document(about | {"logit_bias": done.logits.bias} | towers)
        return
    lines = [("exported to", str(done.directory))]
    for name, each in (("texts", done.texts), ("pictures", done.pictures)):
        text = f"at most {each.largest:.1e} from PyTorch in a number, cosine at least {each.cosine:.7f}"
        lines.append((name, text))
    output.show(output.pairs(lines))
