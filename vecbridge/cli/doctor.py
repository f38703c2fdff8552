"""``doctor``: what is installed, what it runs on, and whether stores answer."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from vecbridge.cli import output
from vecbridge.cli.common import JsonOption, settings
from vecbridge.errors import MissingDependencyError, VecbridgeError

if TYPE_CHECKING:
    from vecbridge.settings import Settings

# Distribution, and the extra that brings it.
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
        name: What was looked at.
        state: "ok", "absent" (nothing is wrong with that) or "failed".
        detail: A version, or what to do.
    """

    name: str
    state: str
    detail: str


def doctor(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL", help="Stores or collections to reach.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the installation, the model, and stores.

    Exit status 1 if the model or a store fails.
    A model on the Hugging Face hub is named, and not downloaded.
    """
    found = settings()
    wanted = urls or ([found.store] if found.store else [])
    report = {
        "vecbridge": _versions(),
        "packages": [_package(name, extra) for name, extra in PACKAGES],
        "devices": _devices(found),
        "model": [_model(found)],
        "stores": [_store(each) for each in wanted],
    }
    failed = any(check.state == "failed" for checks in report.values() for check in checks)
    if as_json:
        plain = {
            part: [{"name": each.name, "state": each.state, "detail": each.detail} for each in checks]
            for part, checks in report.items()
        }
        output.document({"ok": not failed, **plain})
    else:
        _print(report)
    if failed:
        raise typer.Exit(1)


def _versions() -> list[Check]:
    from importlib.metadata import version

    from vecbridge import __version__

    made = [
        Check("vecbridge", "ok", __version__),
        Check("python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Check("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]
    return made + [Check(name, "ok", version(name)) for name in ("numpy", "pyarrow")]


def _package(name: str, extra: str) -> Check:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "absent", f"not installed: pip install 'vecbridge[{extra}]'")


def _devices(found: Settings) -> list[Check]:
    return [_cpu(), *_onnx_device(found.device), *_torch_device(found.device)]


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
    """Where ONNX Runtime runs; nothing if it is not installed."""
    from vecbridge.embed.onnx import choose_providers

    try:
        providers = choose_providers(device)
    except MissingDependencyError:
        return []
    except VecbridgeError as exc:
        return [Check("onnxruntime runs on", "absent", str(exc))]
    return [Check("onnxruntime runs on", "ok", providers[0].removesuffix("ExecutionProvider"))]


def _torch_device(device: str) -> list[Check]:
    """Where torch runs, and in which type; nothing if it is not installed."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return []
    from vecbridge.embed.clip import choose_device, choose_dtype

    try:
        chosen = choose_device(device)
        dtype = str(choose_dtype("auto", chosen)).removeprefix("torch.")
    except VecbridgeError as exc:
        return [Check("torch runs on", "absent", str(exc))]
    return [Check("torch runs on", "ok", f"{chosen}, in {dtype}")]


def _model(found: Settings) -> Check:
    from vecbridge.cli.common import load_embedder

    name = found.model
    if name != "bundled" and not Path(name).expanduser().is_dir():
        return Check(name, "absent", "on the Hugging Face hub: downloaded when first used, not checked here")
    start = time.perf_counter()
    try:
        with load_embedder(None, None, None, None, found) as clip:
            clip.embed_texts(["a test"])
            took = time.perf_counter() - start
            note = f"; {output.in_options(clip.note)}" if clip.note else ""
            detail = f"{clip.dim} dimensions, revision {clip.identity.revision}, loaded in {took:.1f} s{note}"
            return Check(name, "ok", detail)
    except MissingDependencyError as exc:
        return Check(name, "absent", str(exc))
    except VecbridgeError as exc:
        return Check(name, "failed", str(exc))


def _store(text: str) -> Check:
    """Reaches one store; a collection too, if the URL names one."""
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
        made = output.table(("", "", ""), ())
        made.show_header = False
        for each in checks:
            made.add_row(
                Text("  ").append(*marks[each.state]), output.safe(each.name), Text(output.safe(each.detail))
            )
        output.show(made)
