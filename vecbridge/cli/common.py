"""What several commands share: options, settings, the collection's URL, the model, filters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import output
from vecbridge.errors import ConfigError, EmbedderMismatchError, SchemaError, VecbridgeError, suggestion

if TYPE_CHECKING:
    import logging

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
        "--store",
        "-s",
        metavar="URL",
        help="Collection, such as faiss:./vectors#photos. Default: VECBRIDGE_STORE.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="ID",
        help="bundled, a CLIP checkpoint on the Hugging Face hub, or a directory. "
        "Default: the collection's model, else VECBRIDGE_MODEL.",
        rich_help_panel=MODEL_PANEL,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1 or mps. Default: VECBRIDGE_DEVICE.",
        rich_help_panel=MODEL_PANEL,
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="auto, float32, bfloat16, float16 (torch) or int8 (onnx). Default: VECBRIDGE_DTYPE.",
        rich_help_panel=MODEL_PANEL,
    ),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="onnx or torch. Default: VECBRIDGE_RUNTIME.",
        rich_help_panel=MODEL_PANEL,
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON", help="The same as JSON. With --where, both must hold."),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON document to stdout.", rich_help_panel=OUTPUT_PANEL),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bar.", rich_help_panel=OUTPUT_PANEL)
]


def load_settings() -> Settings:
    """Reads the settings of this process, and starts logging at their level.

    Raises:
        ConfigError: A variable has a value that is not allowed.
    """
    import logging
    import os

    from vecbridge.settings import read_settings

    settings = read_settings()
    if settings.debug:
        output.set_debug(True)
    level = "DEBUG" if output.debugging() else settings.log_level

    handler = _handler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("vecbridge")
    logger.handlers = [handler]  # the root logger would also print what other libraries log
    logger.setLevel(level)
    if not output.debugging():  # the hub's client would warn of every retry; if they fail, an error says so
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    return settings


def _handler() -> logging.Handler:
    """Prints lines of the log where everything else is printed, so that they do not tear a progress bar."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                output.log(self.format(record))
            except (OSError, ValueError):  # nobody reads, or the stream is closed: no reason to end
                self.handleError(record)

    return Handler()


def collection_url(given: str | None, settings: Settings) -> StoreURL:
    """The URL of a collection, from the option or the settings.

    Raises:
        ConfigError: Neither gives a URL, or it names no collection.
    """
    from vecbridge.urls import parse

    text = given or settings.store
    if not text:
        raise ConfigError("which store? Give --store URL, as in --store faiss:./vectors#photos")
    url = parse(text)
    url.require_collection()
    return url


def load_embedder(
    field: VectorField | None,
    model: str | None,
    settings: Settings,
    *,
    runtime: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    lazy: bool = False,
) -> Embedder:
    """Loads the model that a collection records, or the one asked for.

    Args:
        field: The collection's vector field; None if the collection does not exist yet.
        model: Value of ``--model``; None takes the collection's model, or else that of the settings.
        settings: The settings.
        runtime: Value of ``--runtime``; None takes that of the settings, as with the next two.
        device: Value of ``--device``.
        dtype: Value of ``--dtype``.
        lazy: Whether only what embeds texts, or what embeds pictures, will be used.

    Raises:
        EmbedderMismatchError: The collection holds vectors of another model.
        ConfigError: No such model.
    """
    from vecbridge.embed.factory import embedder
    from vecbridge.records import require_same_embedder

    recorded = field.embedder if field is not None else None
    if recorded is not None and model is not None and _name(model) != recorded.model:
        raise EmbedderMismatchError(  # before anything is downloaded
            f"the collection holds vectors of {recorded.model}, not of {model}: leave --model out to use "
            f"{recorded.model}, or name another collection after #"
        )
    name, revision = model or settings.model, None
    if model is None and recorded is not None:
        name = recorded.model
        revision = recorded.revision if _on_hub(name) else None
    chosen: Any = runtime or settings.runtime
    with output.busy(f"Loading {name}"):
        clip = embedder(
            name,
            device=device or settings.device,
            runtime=chosen,
            dtype=dtype or settings.dtype,
            revision=revision,
            lazy=lazy,
        )
    if field is not None:
        try:
            require_same_embedder(field, clip.identity)
        except BaseException:
            clip.close()
            raise
    return clip


def report_model(clip: Embedder) -> None:
    """Prints which model runs, and what users should know about it."""
    if clip.note:
        output.note(f"Model: {output.in_options(clip.note)}.")
    else:
        output.note(f"Model: {clip.identity.model} ({clip.dim} dimensions).")


def read_filter(where: str | None, text: str | None) -> Filter | None:
    """The filter of ``--where`` and ``--filter``; if both are given, both must hold.

    Raises:
        ConfigError: One of them is no filter.
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
    """The columns to show: those named (commas separate them), or every scalar field.

    Raises:
        ConfigError: The collection has no such column.
    """
    names = [name.strip() for option in given for name in option.split(",") if name.strip()]
    for name in names:
        if name not in spec.column_names:
            hint = suggestion(name, spec.column_names)
            raise ConfigError(f"--include: {spec.name!r} has no field {name!r}{hint}")
    return list(dict.fromkeys(names)) if names else [field.name for field in spec.fields]


def read_using(given: str | None, spec: CollectionSpec) -> VectorField:
    """The vector field of ``--using``, or the only one.

    Raises:
        ConfigError: There is none of that name, or several and none is named.
    """
    try:
        return spec.vector_field(given)
    except SchemaError as exc:
        raise ConfigError(str(exc) if given is None else f"--using: {exc}") from None


def _json_filter(text: str) -> Filter:
    from vecbridge.filters import from_json

    try:
        return from_json(text)
    except SchemaError as exc:
        raise ConfigError(f"--filter: {exc}") from None


def _on_hub(model: str) -> bool:
    return model != "bundled" and "/" in model and not Path(model).expanduser().is_dir()


def _name(model: str) -> str:
    """The model's name as its identity records it: of a directory, the last part of the path."""
    path = Path(model).expanduser()
    return path.resolve().name if model != "bundled" and path.is_dir() else model


def ask(question: str, *, yes: bool, refused: str = "nothing was removed") -> None:
    """Asks on the terminal.

    Args:
        question: What is asked.
        yes: Whether it was answered beforehand.
        refused: The error where the answer is another.

    Raises:
        ConfigError: Nobody can be asked.
        VecbridgeError: The answer is not yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody can be asked here: --yes says yes")
    sys.stderr.write(f"{output.safe(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise VecbridgeError(refused)
