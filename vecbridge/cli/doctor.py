"""``doctor``: which packages are installed, what runs the models, and whether stores answer."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from vecbridge.cli import output
from vecbridge.cli.common import DeviceOption, DtypeOption, JsonOption, load_settings
from vecbridge.errors import MissingDependencyError, VecbridgeError, install_hint

if TYPE_CHECKING:
    from vecbridge.settings import Settings

# A distribution, and the extra that installs it.
PACKAGES: Final[tuple[tuple[str, str], ...]] = (
    ("faiss-cpu", "faiss"),
    ("faiss-gpu-cu12", "faiss-gpu"),
    ("onnxruntime", "onnx"),
    ("tokenizers", "onnx"),
    ("pillow", "onnx"),
    ("torch", "clip"),
    ("transformers", "clip"),
    ("pymilvus", "milvus"),
    ("milvus-lite", "milvus"),
    ("weaviate-client", "weaviate"),
    ("pinecone", "pinecone"),
)
_CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was checked.
        state: "ok", "absent" (which is no error) or "failed".
        detail: A version, or what to do.
    """

    name: str
    state: str
    detail: str


def doctor(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL", help="Stores or collections to connect to.", show_default=False),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the installation, the model, and stores.

    The exit status is 1 if the model or a store fails.
    A model on the Hugging Face hub is not downloaded, and so not checked.
    """
    settings = load_settings()
    settings = settings.model_copy(
        update={"device": device or settings.device, "dtype": dtype or settings.dtype}
    )
    wanted = urls or ([settings.store] if settings.store else [])
    report = {
        "vecbridge": _versions(),
        "packages": [_package(name, extra) for name, extra in PACKAGES],
        "devices": _devices(settings),
        "model": [_model(settings)],
        "stores": [_store(url) for url in wanted],
    }
    failed = any(check.state == "failed" for checks in report.values() for check in checks)
    if as_json:
        values = {part: [asdict(check) for check in checks] for part, checks in report.items()}
        output.document({"ok": not failed, **values})
    else:
        _print(report)
    if failed:
        raise typer.Exit(1)


def _versions() -> list[Check]:
    from importlib.metadata import version

    from vecbridge import __version__

    checks = [
        Check("vecbridge", "ok", __version__),
        Check("python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Check("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]
    return checks + [Check(name, "ok", version(name)) for name in ("numpy", "pyarrow")]


def _package(name: str, extra: str) -> Check:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "absent", f"not installed: {install_hint(extra)}")


def _devices(settings: Settings) -> list[Check]:
    return [_cpu(), *_onnx_device(settings.device), *_torch_device(settings.device, settings.dtype)]


def _cpu() -> Check:
    from os import cpu_count

    flags: list[str] = []
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        words = set(listing.read_text("utf-8", "replace").lower().split())
        flags = [flag for flag in _CPU_FLAGS if flag in words]
    known = f": {' '.join(flags)}" if flags else ""
    return Check("cpu", "ok", f"{cpu_count()} cores{known}")


def _onnx_device(device: str) -> list[Check]:
    """The device that ONNX Runtime uses; an empty list if it is not installed."""
    from vecbridge.embed.onnx import choose_providers

    try:
        providers = choose_providers(device)
    except MissingDependencyError:
        return []
    except VecbridgeError as exc:
        return [Check("onnxruntime runs on", "absent", str(exc))]
    return [Check("onnxruntime runs on", "ok", providers[0].removesuffix("ExecutionProvider"))]


def _torch_device(device: str, dtype: str) -> list[Check]:
    """The device and the float type that torch uses; an empty list if it is not installed."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return []
    from vecbridge.embed.torch_device import choose_device, choose_dtype

    try:
        chosen = choose_device(device)
        computed = str(choose_dtype(dtype, chosen)).removeprefix("torch.")
    except VecbridgeError as exc:
        return [Check("torch runs on", "absent", str(exc))]
    return [Check("torch runs on", "ok", f"{chosen}, in {computed}")]


def _model(settings: Settings) -> Check:
    from vecbridge.cli.common import load_embedder

    name = settings.model
    if name != "bundled" and not Path(name).expanduser().is_dir():
        return Check(
            name, "absent", "on the Hugging Face hub: downloaded when it is first used, and not checked here"
        )
    start = time.perf_counter()
    try:
        with load_embedder(None, None, settings) as clip:
            clip.embed_texts(["a test"])
            seconds = time.perf_counter() - start
            note = f"; {output.in_options(clip.note)}" if clip.note else ""
            detail = (
                f"{clip.dim} dimensions, revision {clip.identity.revision}, loaded in {seconds:.1f} s{note}"
            )
            return Check(name, "ok", detail)
    except MissingDependencyError as exc:
        return Check(name, "absent", str(exc))
    except VecbridgeError as exc:
        return Check(name, "failed", str(exc))


def _store(text: str) -> Check:
    """Connects to a store, and opens the collection if the URL names one."""
    from vecbridge.registry import connect
    from vecbridge.urls import parse

    name = "store"
    try:
        url = parse(text)
        name = str(url)
        with connect(url.without_collection()) as store:
            if not url.collection:
                return Check(name, "ok", output.number(len(store.collections()), "collection"))
            with store.open(url.collection, namespace=url.namespace or "") as collection:
                status = collection.status()
                return Check(name, "ok", f"{output.number(status.rows, 'row')}, index {status.index}")
    except (VecbridgeError, OSError, ImportError) as exc:
        return Check(name, "failed", f"{type(exc).__name__}: {exc}")


def _print(report: dict[str, list[Check]]) -> None:
    marks: dict[str, Any] = {"ok": ("ok", "green"), "absent": ("-", "dim"), "failed": ("FAILED", "bold red")}
    for part, checks in report.items():
        if not checks:
            continue
        output.show(Text(part, "bold"))
        table = output.table(("", "", ""), ())
        table.show_header = False
        for check in checks:
            mark = Text("  ").append(*marks[check.state])
            table.add_row(mark, output.safe(check.name), Text(output.safe(check.detail)))
        output.show(table)
