"""What several commands share: their options, the store's URL, the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import ConfigError, EmbedderMismatchError

if TYPE_CHECKING:
    from vecbridge.embed.base import Embedder
    from vecbridge.filters import Filter
    from vecbridge.schema import CollectionSpec, VectorField
    from vecbridge.settings import Settings
    from vecbridge.urls import StoreURL

MODEL_PANEL: Final = "Model"
OUTPUT_PANEL: Final = "Output"
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", "-s", metavar="URL", help="Collection, as faiss:./vectors#photos; or VECBRIDGE_STORE"
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="ID",
        help="bundled, a CLIP checkpoint on the Hugging Face hub, or a directory; "
        "without it the collection's own, or VECBRIDGE_MODEL.",
        rich_help_panel=MODEL_PANEL,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1 or mps; or VECBRIDGE_DEVICE.",
        rich_help_panel=MODEL_PANEL,
    ),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="onnx or torch; or VECBRIDGE_RUNTIME.",
        rich_help_panel=MODEL_PANEL,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON document to stdout.", rich_help_panel=OUTPUT_PANEL),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bar.", rich_help_panel=OUTPUT_PANEL)
]


def settings() -> Settings:
    """The settings of this process; starts logging at their level.

    Raises:
        ConfigError: A variable that cannot be right.
    """
    import logging
    import os
    import sys

    from vecbridge.settings import read_settings

    found = read_settings()
    if found.debug:
        output.set_debug(True)
    level = "DEBUG" if output.debugging() else found.log_level

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("vecbridge")
    logger.handlers = [handler]  # not the root: other libraries tell their own
    logger.setLevel(level)
    if not output.debugging():  # its retries are not news: what comes of them is said once
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    return found


def collection_url(given: str | None, found: Settings) -> StoreURL:
    """The URL of a collection, from the option or the settings.

    Raises:
        ConfigError: There is none, or it names no collection.
    """
    from vecbridge.urls import parse

    text = given or found.store
    if not text:
        raise ConfigError("which store? Give --store URL, as in --store faiss:./vectors#photos")
    url = parse(text)
    url.require_collection()
    return url


def load_embedder(
    field: VectorField | None, model: str | None, runtime: str | None, device: str | None, found: Settings
) -> Embedder:
    """The model of a collection, or the one asked for.

    Args:
        field: The collection's vector field; None where it is to be made.
        model: What ``--model`` says; None takes the collection's own, or else the setting.
        runtime: What ``--runtime`` says.
        device: What ``--device`` says.
        found: The settings.

    Raises:
        EmbedderMismatchError: The collection holds another model's vectors.
        ConfigError: No such model.
    """
    from vecbridge.embed.factory import embedder
    from vecbridge.records import require_same_embedder

    theirs = field.embedder if field is not None else None
    if theirs is not None and model is not None and _name(model) != theirs.model:
        raise EmbedderMismatchError(  # before anything is downloaded
            f"the collection holds vectors of {theirs.model}, not of {model}: leave --model out to use "
            f"{theirs.model}, or name another collection after #"
        )
    own = theirs if model is None else None
    name = own.model if own is not None else model or found.model
    chosen: Any = runtime or found.runtime
    revision = own.revision if own is not None and _on_hub(name) else None
    with output.busy(f"Loading {name}"):
        clip = embedder(name, device=device or found.device, runtime=chosen, revision=revision)
    if field is not None:
        try:
            require_same_embedder(field, clip.identity)
        except BaseException:
            clip.close()
            raise
    return clip


def say_model(clip: Embedder) -> None:
    """Tells which model runs, and what to know about it."""
    if clip.note:
        output.note(f"Model: {output.in_options(clip.note)}.")
    else:
        output.note(f"Model: {clip.identity.model} ({clip.dim} dimensions).")


def read_filter(where: str | None, text: str | None) -> Filter | None:
    """The filter of ``--where`` and ``--filter``; both together are both.

    Raises:
        ConfigError: One of them cannot be read.
    """
    parts: list[Filter] = []
    if where is not None:
        from vecbridge.cli.where import parse_where

        parts.append(parse_where(where))
    if text is not None:
        parts.append(_json_filter(text))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else parts[0] & parts[1]


def read_include(given: Sequence[str], spec: CollectionSpec) -> list[str]:
    """The columns to show: those named (commas separate them), or every scalar field."""
    names = [name.strip() for each in given for name in each.split(",") if name.strip()]
    return list(dict.fromkeys(names)) if names else [each.name for each in spec.fields]


def _json_filter(text: str) -> Filter:
    from vecbridge.errors import SchemaError
    from vecbridge.filters import from_json

    try:
        return from_json(text)
    except SchemaError as exc:
        raise ConfigError(f"--filter: {exc}") from None


def _on_hub(model: str) -> bool:
    return model != "bundled" and "/" in model and not Path(model).expanduser().is_dir()


def _name(model: str) -> str:
    """What the identity of a model calls it: a directory goes by its last part."""
    path = Path(model).expanduser()
    return path.resolve().name if model != "bundled" and path.is_dir() else model
