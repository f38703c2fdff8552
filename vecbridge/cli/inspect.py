"""``list`` and ``info``: the collections of a store, and the details of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbridge.cli import output
from vecbridge.cli.common import JsonOption, load_settings
from vecbridge.errors import ConfigError, VecbridgeError

if TYPE_CHECKING:
    from vecbridge.query import Status
    from vecbridge.schema import CollectionSpec
    from vecbridge.store import Collection, Store
    from vecbridge.urls import StoreURL


def list_(
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="Store, such as faiss:./vectors. Default: VECBRIDGE_STORE.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the collections of a store."""
    from vecbridge.registry import connect
    from vecbridge.urls import parse

    url = parse(_url(store)).without_collection()
    with connect(url) as opened:
        rows = [_summary(opened, name) for name in opened.collections()]
    if as_json:
        output.document({"store": str(url), "collections": rows})
        return
    if not rows:
        output.note(f"{url} holds no collections.")
        return
    columns = ("collection", "rows", "dim", "metric", "index", "state", "model")
    cells = [[row.get("name"), *(row.get(key) for key in columns[1:])] for row in rows]
    output.show(output.table(columns, cells, right=("rows", "dim")))
    broken = [row for row in rows if "error" in row]
    for row in broken:
        output.fail(f"{row['name']}: {row['error']}")
    if broken:
        raise typer.Exit(1)


def info(
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="URL#NAME",
            help="Collection, such as faiss:./vectors#photos. Default: VECBRIDGE_STORE.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the spec and the state of a collection."""
    from vecbridge.registry import connect
    from vecbridge.urls import parse

    url = parse(_url(store))
    name = url.require_collection()
    with (
        connect(url.without_collection()) as opened,
        opened.open(name, namespace=url.namespace or "") as collection,
    ):
        status = collection.status()
        namespaces = list(opened.namespaces(name)) if collection.spec.namespaced else []
        details = _details(collection, status, namespaces)
        details["disk_bytes"] = _disk_bytes(url)

    if as_json:
        output.document({"url": str(url), **details, "spec": collection.spec.to_dict()})
    else:
        _print_info(str(url), collection.spec, details)


def _url(given: str | None) -> str:
    text = given or load_settings().store
    if not text:
        raise ConfigError("which store? Give its URL, as in faiss:./vectors")
    return text


def _summary(store: Store, name: str) -> dict[str, Any]:
    """One line of the list; the error message if the collection cannot be opened."""
    try:
        with store.open(name) as collection:
            status, spec = collection.status(), collection.spec
            namespaces = list(store.namespaces(name)) if spec.namespaced else None
            rows = status.rows if namespaces is None else _rows_of_all(store, name, namespaces)
    except VecbridgeError as exc:
        return {"name": name, "error": str(exc)}
    from vecbridge.indexes import describe

    vector = spec.vector
    return {
        "name": name,
        "rows": rows,
        "dim": vector.dim,
        "metric": vector.metric.value,
        "index": describe(vector.index),
        "state": status.index,
        "model": vector.embedder.model if vector.embedder else None,
        "vectors": len(spec.vectors),
        "namespaces": namespaces,
    }


def _rows_of_all(store: Store, name: str, namespaces: list[str]) -> int:
    total = 0
    for namespace in namespaces:
        with store.open(name, namespace=namespace) as collection:
            total += collection.status().rows
    return total


def _details(collection: Collection, status: Status, namespaces: list[str]) -> dict[str, Any]:
    return {
        "rows": status.rows,
        "state": status.index,
        "states": dict(status.indexes),
        "details": dict(status.details),
        "namespace": collection.namespace,
        "namespaces": namespaces,
        "losses": [{"kind": gap.kind, "detail": gap.detail} for gap in collection.losses],
    }


def _disk_bytes(url: StoreURL) -> int | None:
    """Bytes on disk of a collection that is a directory on this machine; None for any other."""
    folder = Path(url.path) / url.collection
    if url.host or not url.path or not folder.is_dir():
        return None
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _print_info(url: str, spec: CollectionSpec, details: dict[str, Any]) -> None:
    from vecbridge.indexes import describe

    lines: list[tuple[str, Any]] = [
        ("collection", url),
        ("rows", f"{details['rows']:,}"),
        ("ids", spec.id_type),
    ]
    if spec.namespaced:
        lines.append(("namespace", details["namespace"] or "(the default one)"))
        names = ", ".join(name or "(the default one)" for name in details["namespaces"])
        lines.append(("namespaces", names or "none yet"))
    for vector in spec.vectors:
        embedder = vector.embedder
        text = f"{vector.dim} dimensions, {vector.metric}, {describe(vector.index)}"
        label = vector.name if vector.name == "vector" else f"vector {vector.name}"
        lines.append((label, f"{text}: {details['states'].get(vector.name, details['state'])}"))
        model = f"{embedder.model}, revision {embedder.revision[:16]}" if embedder else "not recorded"
        lines.append(("  model", model))
    if details["disk_bytes"] is not None:
        lines.append(("on disk", output.size(details["disk_bytes"])))
    lines += [("not shown", f"{loss['kind']}: {loss['detail']}") for loss in details["losses"]]
    lines += [(key.replace("_", " "), _detail(key, value)) for key, value in details["details"].items()]
    output.show(output.pairs(lines))
    if spec.fields:
        output.show("")
        output.show(output.table(("field", "type"), [(field.name, field.type) for field in spec.fields]))


def _detail(key: str, value: Any) -> str:
    if "bytes" in key and isinstance(value, int | float):
        return output.size(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else output.cell(value)
