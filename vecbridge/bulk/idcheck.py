"""Whether the ids that files get already stand for other files, before anything of them is embedded.

Two mistakes are found: an id that stands for another file (``2019/IMG_0001.jpg`` and ``2020/IMG_0001.jpg``,
of which each folder was indexed alone), and a file that has another id already (its folder was indexed, and
now the folder above). For the second, a few files of each folder are looked up, since all files of a folder
get their ids in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from vecbridge.errors import ConfigError, IdConflictError
from vecbridge.filters import field
from vecbridge.sources import digests
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.texts import TextItem

if TYPE_CHECKING:
    from vecbridge.collection import Collection
    from vecbridge.sources.images import Item, PictureItem

OnConflict = Literal["stop", "replace", "skip"]
POLICIES: Final[tuple[OnConflict, ...]] = ("stop", "replace", "skip")
ITEMS: Final = 1024  # that are looked up together
_COMPARED: Final = ("path", "sha256", "bytes", "text")
_OF_A_FOLDER: Final = 3  # files of each folder that are looked up by their path

_Row = Mapping[str, Any]


class IdCheck:
    """Looks ids and paths up in a collection before their files are read.

    A collection that holds no rows when this is made is not asked at all.

    Args:
        collection: Where the records go; None if it does not exist yet.
        on_conflict: "stop" raises before anything of those thousand items is yielded; "skip" leaves out the
            items in conflict, and counts them; "replace" looks nothing up.

    Attributes:
        skipped: Items that were left out.
        unknown: Ids that the collection has and of whose file it tells neither path nor content.

    Raises:
        ConfigError: Another policy.

    Example:
        >>> import vecbridge as vb
        >>> from vecbridge.sources.images import PictureItem
        >>> spec = vb.CollectionSpec.single("photos", dim=2, fields={"path": "string", "sha256": "string"})
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(spec)
        ...     row = {"path": ["/2019/a.jpg"], "sha256": ["00"]}
        ...     report = photos.upsert(vb.batch(spec, id=["a.jpg"], vector=[[1, 2]], **row))
        ...     check = IdCheck(photos)
        ...     len(list(check.items([PictureItem("b.jpg", "/2019/b.jpg")])))
        1
    """

    def __init__(self, collection: Collection | None, *, on_conflict: OnConflict = "stop") -> None:
        if on_conflict not in POLICIES:
            raise ConfigError(f"on_conflict={on_conflict!r}: {', '.join(POLICIES)}")
        self.skipped = 0
        self.unknown = 0
        self._policy = on_conflict
        self._collection: Collection | None = None
        if collection is not None and on_conflict != "replace":
            ids = collection.spec.ids
            if (ids is None or ids.kind != "content") and collection.count() > 0:
                self._collection = collection
        self._looked_up: Counter[str] = Counter()

    @property
    def is_needed(self) -> bool:
        """Whether anything is looked up."""
        return self._collection is not None

    def items(self, items: Iterable[Item | DeadLetter]) -> Iterator[Item | DeadLetter]:
        """The items, in the same order.

        Raises:
            IdConflictError: Names both files, or both ids, and the ways out.
        """
        if self._collection is None:
            yield from items
            return
        source = iter(items)
        while some := list(islice(source, ITEMS)):
            found = [each for each in some if not isinstance(each, DeadLetter)]
            problems = self._problems(found, self._collection)
            if problems and self._policy == "stop":
                raise IdConflictError(_all_of(list(problems.values())))
            self.skipped += len(problems)
            yield from (each for each in some if isinstance(each, DeadLetter) or each.id not in problems)

    def _problems(self, items: list[Item], collection: Collection) -> dict[str, str]:
        """The items in conflict by their id, and why."""
        known = [name for name in _COMPARED if name in collection.spec.column_names]
        found = collection.fetch([each.id for each in items], include=known).to_pylist()
        stored: dict[str, _Row] = {row["id"]: row for row in found}
        problems: dict[str, str] = {}
        new: list[PictureItem] = []
        for item in items:
            row = stored.get(item.id)
            if row is not None:
                if self._is_another(item, row):
                    problems[item.id] = _other_file(item, row)
            elif not isinstance(item, TextItem):
                new.append(item)
        return problems | (self._second_ids(new, collection) if "path" in known else {})

    def _is_another(self, item: Item, row: _Row) -> bool:
        """Whether a row is of another file with another content."""
        if row.get("path") == item.path:
            return False
        same = None if row.get("path") is None else _same_content(item, row)
        self.unknown += same is None
        return same is False

    def _second_ids(self, items: list[PictureItem], collection: Collection) -> dict[str, str]:
        """Files that the collection has under another id."""
        asked: dict[str, PictureItem] = {}
        for item in items:
            folder = str(Path(item.path).parent)
            self._looked_up[folder] += 1
            if self._policy == "skip" or self._looked_up[folder] <= _OF_A_FOLDER:
                asked[item.path] = item
        if not asked:
            return {}
        problems: dict[str, str] = {}
        for page in collection.scan(include=["path"], filter=field("path").isin(list(asked))):
            for row in page.batch.to_pylist():
                item = asked[row["path"]]
                if row["id"] != item.id:
                    problems[item.id] = _other_id(item, row["id"])
        return problems


def _same_content(item: Item, row: _Row) -> bool | None:
    """Whether a row holds what the file holds; None where nothing tells, or the file cannot be read."""
    if isinstance(item, TextItem):
        return None if row.get("text") is None else bool(row["text"] == item.text)
    try:
        if row.get("sha256") is not None:
            return bool(row["sha256"] == digests.of_file(item.path))
        if row.get("bytes") is not None and row["bytes"] != Path(item.path).stat().st_size:
            return False  # two files of the same size may be copies
    except OSError:  # the reader will say it
        pass
    return None


def _other_file(item: Item, row: _Row) -> str:
    return (
        f"{item.id!r} stands for {row['path']} in the collection, and would stand for {item.path}, which is "
        "another file: --prefix tells folders apart, --id content goes by what is in a file (in another "
        "collection), --on-conflict replace or skip keeps one of them"
    )


def _other_id(item: Item, id: str) -> str:
    way = "give the folder that was given before"
    if id.endswith(f"/{item.id}") or (id.endswith(item.id) and not item.id.startswith("/")):
        way += f", or --prefix {id[: -len(item.id)]}"
    return (
        f"{item.path} stands in the collection as {id!r}, and would stand there a second time as "
        f"{item.id!r}: {way}; --on-conflict skip leaves it as it is, replace writes it twice"
    )


def _all_of(problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more of the same thousand)" if len(problems) > 1 else ""
    return problems[0] + more
