"""``count``, ``delete`` and ``drop``: how many records there are, and removing records or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbridge.cli import common, output
from vecbridge.errors import ConfigError, NotFoundError, VecbridgeError, suggestion

if TYPE_CHECKING:
    from vecbridge.filters import Filter
    from vecbridge.schema import CollectionSpec
    from vecbridge.store import Store
    from vecbridge.urls import StoreURL

URLArgument = Annotated[
    str,
    typer.Argument(
        metavar="URL#NAME", help="Collection, such as faiss:./vectors#photos.", show_default=False
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where", "-w", metavar="COND", help='SQL condition, as in "year >= 2020".', show_default=False
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON", help="The same as JSON. With --where, both must hold."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def count(
    store: URLArgument,
    where: WhereOption = None,
    filter_json: FilterOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Count the records, or those that match a condition.

    Without ?namespace= in the URL, the records of all namespaces are counted.
    """
    common.load_settings()
    condition = common.read_filter(where, filter_json)
    from vecbridge.registry import connect
    from vecbridge.urls import parse

    url = parse(store)
    name = url.require_collection()
    with connect(url.without_collection()) as opened:
        names = [url.namespace] if url.namespace is not None else opened.namespaces(name)
        total = sum(_count(opened, name, namespace, condition) for namespace in names or [""])
    if as_json:
        output.document({"url": str(url), "count": total})
    else:
        output.show(str(total))


def delete(
    store: URLArgument,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Ids of the records to delete.", show_default=False),
    ] = None,
    where: WhereOption = None,
    filter_json: FilterOption = None,
    yes: YesOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Delete records by id, or those that match a condition.

    Says how many there are and asks first. In a collection with namespaces, the URL names one of them.
    """
    common.load_settings()
    condition = common.read_filter(where, filter_json)
    if (condition is None) == (not ids):
        raise ConfigError("which records? Give their ids, or --where or --filter, one of the two")
    from vecbridge.registry import connect
    from vecbridge.urls import parse

    url = parse(store)
    name = url.require_collection()
    with (
        connect(url.without_collection()) as opened,
        opened.open(name, namespace=url.namespace or "") as collection,
    ):
        _require_one_namespace(opened, url, collection.spec)
        which: dict[str, Any]
        if condition is None:
            which = {"ids": _typed(ids or [], collection.spec)}
            matching = collection.fetch(which["ids"], include=()).num_rows
        else:
            which = {"filter": _dated(condition, collection.spec)}
            matching = collection.count(which["filter"])
        deleted: int | None = 0
        if matching:
            common.ask(f"Delete {output.number(matching, 'record')} from {url}?", yes=yes)
            deleted = collection.delete(**which)
            collection.flush()
    if as_json:
        output.document({"url": str(url), "matching": matching, "deleted": deleted})
    else:
        uncounted = "" if deleted is not None else " (as counted before; the store does not say)"
        output.show(output.pairs([("deleted", f"{matching if deleted is None else deleted:,}{uncounted}")]))


def drop(store: URLArgument, yes: YesOption = False, as_json: common.JsonOption = False) -> None:
    """Remove a collection, or one namespace of it.

    Removes the collection with all its records, or the namespace that the URL names. Says how many records
    there are and asks first.
    """
    common.load_settings()
    from vecbridge.registry import connect
    from vecbridge.urls import parse

    url = parse(store)
    name = url.require_collection()
    with connect(url.without_collection()) as opened:
        with opened.open(name, namespace=url.namespace or "") as collection:
            identity = collection.identity
        _require_namespace(opened, url)
        records = _rows(opened, url)
        counted = "its records" if records is None else output.number(records, "record")
        common.ask(f"Remove {url} with {counted}?", yes=yes)
        opened.drop_exactly(name, identity, namespace=url.namespace)
    if as_json:
        output.document({"url": str(url), "dropped": True, "records": records})
    else:
        output.show(output.pairs([("removed", f"{url}, {counted}")]))


def _count(store: Store, name: str, namespace: str, condition: Filter | None) -> int:
    with store.open(name, namespace=namespace) as collection:
        return collection.count(None if condition is None else _dated(condition, collection.spec))


def _dated(condition: Filter, spec: CollectionSpec) -> Filter:
    from vecbridge.cli.dates import fitting

    return fitting(condition, spec)


def _typed(ids: list[str], spec: CollectionSpec) -> list[str] | list[int]:
    """Ids as the collection has them.

    Raises:
        ConfigError: A text that is no whole number, where ids are such.
    """
    if spec.id_type == "string":
        return ids
    try:
        return [int(text) for text in ids]
    except ValueError:
        raise ConfigError(f"the ids of {spec.name!r} are whole numbers, and one of these is none") from None


def _require_one_namespace(store: Store, url: StoreURL, spec: CollectionSpec) -> None:
    """Refuses to delete from the default namespace where others were written to, and none was named."""
    if not spec.namespaced or url.namespace is not None:
        return
    others = [name for name in store.namespaces(spec.name) if name]
    if others:
        raise ConfigError(
            f"{url} has namespaces ({', '.join(others)}): name one, as in ?namespace={others[0]}"
        )


def _require_namespace(store: Store, url: StoreURL) -> None:
    if url.namespace is None:
        return
    known = store.namespaces(url.collection)
    if url.namespace not in known:
        raise NotFoundError(f"{url}: no namespace {url.namespace!r}{suggestion(url.namespace, known)}")


def _rows(store: Store, url: StoreURL) -> int | None:
    """How many records would go; None if they cannot be counted."""
    names = [url.namespace] if url.namespace is not None else store.namespaces(url.collection)
    try:
        return sum(_count(store, url.collection, namespace, None) for namespace in names)
    except VecbridgeError:
        return None
