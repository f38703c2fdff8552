"""Pictures and texts from folders, files and globs, as a stream of items."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from vecbridge.errors import ConfigError, InvalidRecordError
from vecbridge.identity import SourceIds
from vecbridge.records import MAX_ID_BYTES
from vecbridge.schema import CollectionSpec, Field, FieldType
from vecbridge.sources import digests
from vecbridge.sources.deadletters import DeadLetter, printable
from vecbridge.sources.inference import field_types
from vecbridge.sources.reading import FileState
from vecbridge.sources.sidecar import Sidecars, is_sidecar, sidecar_prefix
from vecbridge.sources.texts import TextItem, text_items
from vecbridge.sources.tracking import Roots
from vecbridge.sources.tree import OUTSIDE, Entry, Walk

PICTURE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".avif"}
)
# Pictures all the same: leaving them out without a word would be a gap.
OTHER_PICTURE_SUFFIXES: Final = frozenset({".heic", ".heif", ".jxl", ".jp2", ".psd"})
TEXT_SUFFIX: Final = ".txt"
CONTENT_ID_DIGITS: Final = 32  # of SHA-256: 128 bits
RELATIVE: Final = SourceIds()

PICTURE_FIELDS: Final[Mapping[str, FieldType]] = {
    "path": "string",
    "width": "int64",
    "height": "int64",
    "bytes": "int64",
    "format": "string",
    "modified": "timestamp",
    "sha256": "string",
}
TEXT_FIELDS: Final[Mapping[str, FieldType]] = {"text": "string", "line": "int64"}


@dataclass(frozen=True, slots=True)
class PictureItem:
    """A picture to be read.

    Attributes:
        id: Its id.
        path: Absolute path.
        metadata: Fields from a sidecar, as JSON values.
        root: The folder that ids are measured from; absolute, "" where nobody said.
        relative: The path below the root, with ``/``.
        by_content: Its id is the beginning of its file's SHA-256 and "" as long as nobody has read that.
    """

    id: str
    path: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    root: str = ""
    relative: str = ""
    by_content: bool = False


Item = PictureItem | TextItem


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A picture or a text that was found and not read yet.

    Attributes:
        path: Absolute path.
        relative: The path below the root.
        is_text: Whether its lines are the records.
    """

    path: str
    relative: str
    is_text: bool


class ImageSource:
    """Every picture in folders, files and globs.

    Folders are walked as they are read, sorted by name at each level; a glob is a pattern like
    ``photos/**/*.jpg`` whose matches are held in memory. What is no picture by its name is counted in
    :attr:`skipped`; what is one and cannot be read is a dead letter. A file that is named itself is taken for
    a picture whatever it is called.

    The ``path`` column is the absolute path: leave it out of the spec where others see the collection.
    A relative id is the path below ``root``, which is the folder given, or the deepest one around all that
    was given: the same file has another id when the folder above is given. Names that are not UTF-8 and ids
    longer than 512 bytes become dead letters.

    Args:
        paths: Folders, files, globs.
        texts: Also read ``.txt`` files, each line a record.
        follow_links: Also read links that lead out of the folder.
        hidden: Also read names that begin with a dot.
        ids: How ids are made.

    Raises:
        ConfigError: A path that is not there, or a glob without a match.

    Example:
        >>> from vecbridge.embed.files import BUNDLED
        >>> source = ImageSource([BUNDLED / "gallery"])
        >>> sum(1 for picture in source)
        320
        >>> source.fields()["width"]
        'int64'
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        texts: bool = False,
        follow_links: bool = False,
        hidden: bool = False,
        ids: SourceIds = RELATIVE,
    ) -> None:
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not given:
            raise ConfigError("no path was given")
        self.given = [os.fspath(each) for each in given]
        self.skipped = 0
        self._texts = texts
        self._follow = follow_links
        self._hidden = hidden
        self._ids = ids
        self._starts, bases = _starts(self.given)
        self.root = os.path.commonpath(bases)
        self._sidecars: Sidecars | None = None

    def fields(self, existing: CollectionSpec | None = None) -> dict[str, FieldType]:
        """The columns of the records: the picture's own, those of texts, then the sidecars'.

        Walks through everything once, since any folder may have a sidecar; no picture is opened.

        Args:
            existing: The collection that the records go into: its types hold for what sidecars say, and for
                ``modified``, which was an int64 once. A collection without ``sha256`` gets none.
        """
        own = dict(PICTURE_FIELDS) | (dict(TEXT_FIELDS) if self._texts else {})
        sidecars = self._read_sidecars()
        beside = field_types(sidecars.fields, existing, vectors_chosen=True)
        if existing is not None:  # null fits every collection, and asks for no field
            beside = {
                name: type
                for name, type in beside.items()
                if name in existing.column_names or name not in sidecars.empty
            }
        sidecars.hold(beside)
        found = own | beside
        if existing is not None and Field("modified", "int64") in existing.fields:
            found["modified"] = "int64"
        if existing is not None and "sha256" not in existing.column_names:
            del found["sha256"]
        return found

    def __iter__(self) -> Iterator[Item | DeadLetter]:
        for item in self.unread():
            yield _with_id(item) if isinstance(item, PictureItem) and item.by_content else item

    def unread(self) -> Iterator[Item | DeadLetter]:
        """The same items; the files of pictures are not read for their ids, if those are their content's."""
        for found in self.files():
            if isinstance(found, DeadLetter):
                yield found
            else:
                yield from self.items(found)

    def files(self) -> Iterator[FoundFile | DeadLetter]:
        """What is found, in the same order, before any of it is read; and what cannot be read by its name."""
        self.skipped = 0
        sidecars = self._read_sidecars()
        yield from sidecars.problems
        seen: set[str] = set()
        for entry, named in self._entries():
            if entry.relative in sidecars:
                seen.add(entry.relative)
            yield from self._found(entry, named)
        yield from sidecars.unused(seen)

    def items(self, file: FoundFile) -> Iterator[Item | DeadLetter]:
        """The items of a file as :meth:`unread` has them, or why not; the lines of a text are read."""
        return self._texts_of(file) if file.is_text else self._picture(file, self._read_sidecars())

    def id_of(self, file: FoundFile) -> str | None:
        """The id of a picture, and how the ids of a text's lines begin; None where its content says."""
        return None if self._ids.kind == "content" else self._id(file)

    def metadata(self, file: FoundFile) -> Mapping[str, Any]:
        """What sidecars say of a picture.

        Raises:
            OSError: A sidecar cannot be read any more; ValueError and KeyError where it has changed.
        """
        return self._read_sidecars().metadata(file.relative)

    @property
    def roots(self) -> Roots:
        """The folders that are walked through, and the files beside them."""
        return Roots(
            (each.path for each in self._starts if each.folder),
            (each.path for each in self._starts if not each.folder),
        )

    @property
    def sidecar_fields(self) -> list[str]:
        """The fields that sidecars add."""
        return list(self._read_sidecars().fields)

    @property
    def sidecars_complete(self) -> bool:
        """Whether all of every sidecar could be read."""
        return not self._read_sidecars().problems

    def _entries(self) -> Iterator[tuple[Entry, bool]]:
        """What is found, and whether the caller named it himself."""
        for start in self._starts:
            prefix = _below(start.path, self.root)
            if not start.folder:
                yield self._single(start.path, prefix, literal=start.literal), start.literal
                continue
            for entry in Walk(start.path, follow_links=self._follow, hidden=self._hidden):
                relative = posixpath.join(prefix, entry.relative) if prefix else entry.relative
                yield Entry(entry.path, relative, entry.kind, entry.problem), False

    def _single(self, path: str, relative: str, *, literal: bool) -> Entry:
        outside = not Path(path).resolve().is_relative_to(Path(self.root).resolve())
        if Path(path).is_symlink() and outside and not literal and not self._follow:
            return Entry(path, relative, "file", OUTSIDE)
        return Entry(path, relative, "file", None if Path(path).is_file() else "is not a regular file")

    def _found(self, entry: Entry, named: bool) -> Iterator[FoundFile | DeadLetter]:
        suffix = posixpath.splitext(entry.relative)[1].lower()
        wanted = suffix in PICTURE_SUFFIXES or (self._texts and suffix == TEXT_SUFFIX) or named
        if entry.kind == "left out" or is_sidecar(entry.relative):
            self.skipped += entry.kind == "left out"
        elif entry.kind == "folder" and entry.problem is None:
            if suffix in PICTURE_SUFFIXES:
                yield _refused(entry, "is a folder, for all its name; what is in it is read")
        elif suffix in OTHER_PICTURE_SUFFIXES and not named:
            yield _refused(entry, f"{suffix} pictures are not read: convert it to JPEG or PNG")
        elif not wanted and entry.kind == "file":
            self.skipped += 1
        elif entry.problem is not None:
            yield _refused(entry, entry.problem)
        elif not _is_text(entry.relative):
            yield _refused(entry, "the name is not UTF-8: rename the file")
        else:
            yield FoundFile(entry.path, entry.relative, self._texts and suffix == TEXT_SUFFIX)

    def _texts_of(self, entry: FoundFile) -> Iterator[Item | DeadLetter]:
        if self._ids.kind != "content":
            id = self._id(entry)
            yield from [_too_long(entry)] if _is_too_long(id) else self._lines(entry, id)
            return
        for item in self._lines(entry, entry.relative):
            yield (
                replace(item, id=digests.of_text(item.text)[:CONTENT_ID_DIGITS])
                if isinstance(item, TextItem)
                else item
            )

    def _lines(self, entry: FoundFile, id: str) -> Iterator[Item | DeadLetter]:
        try:
            state = FileState.of(entry.path)
        except InvalidRecordError as exc:
            yield _refused(entry, exc.rows[0].error)
            return
        # each row says how many there are, so that it is seen whether all were written
        count = sum(isinstance(each, TextItem) for each in text_items(entry.path, id))
        for item in text_items(entry.path, id, root=self.root, relative=entry.relative):
            yield replace(item, state=state, lines=count) if isinstance(item, TextItem) else item

    def _picture(self, entry: FoundFile, sidecars: Sidecars) -> Iterator[Item | DeadLetter]:
        id = self._id(entry)
        if _is_too_long(id):
            yield _too_long(entry)
            return
        try:
            metadata = sidecars.metadata(entry.relative)
            by_content = self._ids.kind == "content"
            yield PictureItem(id, entry.path, metadata, self.root, entry.relative, by_content)
        except (OSError, ValueError, KeyError) as exc:
            yield _refused(entry, f"its sidecar changed while it was read: {exc}")

    def _id(self, entry: FoundFile) -> str:
        match self._ids.kind:
            case "content":
                return ""
            case "absolute":
                return Path(entry.path).absolute().as_posix()
            case "relative":
                return self._ids.prefix + entry.relative

    def _read_sidecars(self) -> Sidecars:
        if self._sidecars is None:
            sidecars = Sidecars([*PICTURE_FIELDS, *TEXT_FIELDS])
            found = [
                entry
                for entry, _ in self._entries()
                if is_sidecar(entry.relative) and entry.kind == "file" and entry.problem is None
            ]
            for entry in sorted(found, key=lambda each: each.relative.endswith(".csv")):
                sidecars.read(entry.path, sidecar_prefix(entry.relative))  # JSON first: its values have types
            self._sidecars = sidecars
        return self._sidecars


def _with_id(item: PictureItem) -> Item | DeadLetter:
    """A picture under the id that its content gives it."""
    try:
        return replace(item, id=digests.of_file(item.path)[:CONTENT_ID_DIGITS])
    except OSError as exc:
        return DeadLetter(item.relative, printable(item.path), f"cannot be opened: {exc.strerror}")


@dataclass(frozen=True, slots=True)
class _Start:
    path: str
    folder: bool
    literal: bool


def _starts(given: Sequence[str]) -> tuple[list[_Start], list[str]]:
    """Where to begin, without what lies in another folder given, and the folders around it."""
    starts: dict[str, _Start] = {}
    bases: list[str] = []
    for text in given:
        path = os.path.normpath(Path(text).expanduser().absolute())
        literal = os.path.lexists(path)
        if literal:
            bases.append(path if Path(path).is_dir() else str(Path(path).parent))
        else:
            bases.append(_fixed_part(path))
        for match in [path] if literal else _matches(path, text):
            start = _Start(match, Path(match).is_dir() and (literal or not Path(match).is_symlink()), literal)
            starts.setdefault(match, start)
    folders = {start.path for start in starts.values() if start.folder}
    return [each for each in starts.values() if folders.isdisjoint(map(str, Path(each.path).parents))], bases


def _matches(pattern: str, text: str) -> list[str]:
    found = sorted(glob.iglob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207 - Path.glob
    if not found:  # leaves symbolic links out
        raise ConfigError(f"{printable(text)}: no such file or folder, and no pattern that matches one")
    return [each.rstrip("/") for each in found]


def _fixed_part(pattern: str) -> str:
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:fixed]))


def _below(path: str, root: str) -> str:
    relative = Path(path).relative_to(root).as_posix()
    return "" if relative == "." else relative


def _is_too_long(id: str) -> bool:
    return len(id.encode()) > MAX_ID_BYTES


def _too_long(entry: FoundFile) -> DeadLetter:
    return _refused(entry, f"its id is longer than {MAX_ID_BYTES} bytes")


def _refused(entry: Entry | FoundFile, error: str) -> DeadLetter:
    id = entry.relative if _is_text(entry.relative) else None
    return DeadLetter(id, printable(entry.path), error)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
