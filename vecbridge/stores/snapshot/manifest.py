"""The manifest: what a snapshot holds, and the only thing that says so.

``manifest.json`` names every file with its rows, size and hash. Renaming a new manifest over the old one is
the commit of a merge; a file that it does not name is the remains of a crash. A field that is added changes
the spec alone: each file says how many fields it has, and lacks the others.

**Row numbers** let a scan go on after a merge. Each row that is written gets the next number of its
namespace. A file covers the numbers from ``first`` to ``first + span``; row ``p`` of a file has the number
``first + p``. A file that lost rows when it was rewritten covers more numbers than it has rows, so that
numbers within it that were handed out before version ``since`` of the manifest mean nothing any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from vecbridge.driver import Identity
from vecbridge.errors import ConfigError, CorruptStoreError, SchemaError
from vecbridge.schema import CollectionSpec
from vecbridge.storage import replace_file
from vecbridge.stores.snapshot.files import regular_file

MANIFEST: Final = "manifest.json"
PENDING: Final = "_pending"
LOCK: Final = "lock"
FORMAT: Final = 1
_DEFAULT: Final = "__default__"
_MOST_BYTES: Final = 16 << 20
_RESERVED: Final = {_DEFAULT, PENDING, LOCK}
_DIRECTORY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(~[0-9]{1,9})?")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]{0,64}")
_PART: Final = re.compile(r"part-[0-9]{8,18}-[0-9]{6}\.parquet")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = 2**62


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One Parquet file.

    Attributes:
        name: In the directory of its namespace.
        rows: How many rows it has.
        size: Its bytes.
        sha256: Of its bytes.
        fields: How many of the spec's scalar fields it has: the first ones.
        first: Number of its first row.
        span: How many numbers it covers, at least ``rows``.
        since: Version of the manifest that named it first.
    """

    name: str
    rows: int
    size: int
    sha256: str
    fields: int
    first: int
    span: int
    since: int


@dataclass(frozen=True, slots=True)
class NamespaceEntry:
    """One namespace.

    Attributes:
        directory: Of its files.
        generation: Another one after a compaction, which numbers the rows anew, and after a drop.
        next: Number of the next row that is merged.
        moved: Highest number of a row that replaced one; -1 if none did.
        merged: Requests up to this number are in the files.
        files: In the order of their numbers.
    """

    directory: str
    generation: int
    next: int = 0
    moved: int = -1
    merged: int = 0
    files: tuple[FileEntry, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the files."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """What a collection holds.

    Attributes:
        token: Of the collection; it changes when the collection is replaced.
        version: Raised by every commit.
        spec: The collection's spec.
        namespaces: By name.
    """

    token: str
    version: int
    spec: CollectionSpec
    namespaces: Mapping[str, NamespaceEntry]

    @property
    def identity(self) -> Identity:
        """The collection's identity."""
        return Identity(self.token, schema=len(self.spec.fields))

    @classmethod
    def read(cls, directory: Path) -> Manifest | None:
        """Reads the manifest of a collection; None if there is no collection.

        Raises:
            ConfigError: A newer version of vecbridge wrote it.
            CorruptStoreError: It is damaged, or says what no manifest of ours says.
        """
        path = directory / MANIFEST
        try:
            if regular_file(path).st_size > _MOST_BYTES:
                raise CorruptStoreError(f"{path} is larger than {_MOST_BYTES >> 20} MB")
            values = json.loads(path.read_bytes())
            _require_format(path, values)
            return _checked(values, directory.name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SchemaError) as exc:
            raise CorruptStoreError(f"{path} is damaged: {exc}; nothing was changed") from exc

    def write(self, directory: Path) -> None:
        """Replaces the manifest whole or not at all, durably.

        Raises:
            ConfigError: It would be larger than a manifest may be.
        """
        namespaces = [
            {"name": name, "rows": entry.rows, **asdict(entry)} for name, entry in self.namespaces.items()
        ]
        content = {
            "format": FORMAT,
            "token": self.token,
            "version": self.version,
            "rows": sum(entry.rows for entry in self.namespaces.values()),
            "spec": self.spec.to_dict(),
            "namespaces": namespaces,
        }
        data = json.dumps(content, ensure_ascii=False, indent=1).encode()
        if len(data) > _MOST_BYTES:
            raise ConfigError(
                f"{directory}: the manifest would be larger than {_MOST_BYTES >> 20} MB: compact the "
                "collection, or divide it into several"
            )
        replace_file(directory / MANIFEST, data)

    def changed(self, name: str, entry: NamespaceEntry | None) -> Manifest:
        """The next version, with another entry for a namespace, or none."""
        namespaces = dict(self.namespaces)
        if entry is None:
            namespaces.pop(name, None)
        else:
            namespaces[name] = entry
        return replace(self, version=self.version + 1, namespaces=namespaces)

    def new_directory(self, namespace: str) -> str:
        """A directory for a namespace that differs from the others also where case does not count."""
        wanted = namespace or _DEFAULT
        taken = {entry.directory.lower() for entry in self.namespaces.values()}
        if namespace:
            taken |= _RESERVED
        directory, number = wanted, 1
        while directory.lower() in taken:
            number += 1
            directory = f"{wanted}~{number}"
        return directory


def is_part(name: str) -> bool:
    """Whether a file has a name that this store gives to the files of a namespace."""
    return bool(_PART.fullmatch(name))


def _require_format(path: Path, values: Any) -> None:
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    version = _whole(values, "format", 1)
    if version > FORMAT:
        raise ConfigError(
            f"{path} has format {version}, and this version of vecbridge reads up to {FORMAT}: install a "
            "newer one"
        )


def _checked(values: dict[str, Any], name: str) -> Manifest:
    spec = CollectionSpec.from_dict(values["spec"]).renamed(name)  # the directory may have been renamed
    version = _whole(values, "version", 0)
    namespaces: dict[str, NamespaceEntry] = {}
    for each in values["namespaces"]:
        namespace = _text(each, "name", _NAMESPACE)
        if namespace in namespaces or (namespace and not spec.namespaced):
            raise ValueError(f"namespace {namespace!r} comes twice, or the collection has none")
        namespaces[namespace] = _namespace(each, spec, version)
    directories = [entry.directory.lower() for entry in namespaces.values()]
    if len(set(directories)) < len(directories):
        raise ValueError("two namespaces have one directory")
    token = values["token"]
    if not isinstance(token, str) or not token:
        raise ValueError(f"token {token!r}")
    manifest = Manifest(token, version, spec, namespaces)
    _require_sum(values, "rows", sum(entry.rows for entry in namespaces.values()))
    return manifest


def _namespace(values: dict[str, Any], spec: CollectionSpec, version: int) -> NamespaceEntry:
    files = tuple(_file(each, spec, version) for each in values["files"])
    entry = NamespaceEntry(
        directory=_text(values, "directory", _DIRECTORY),
        generation=_whole(values, "generation", 0),
        next=_whole(values, "next", 0),
        moved=_whole(values, "moved", -1),
        merged=_whole(values, "merged", 0),
        files=files,
    )
    if entry.directory in (PENDING, LOCK):
        raise ValueError(f"directory {entry.directory!r} is reserved")
    if len({file.name for file in files}) < len(files):
        raise ValueError(f"a file of {entry.directory!r} comes twice")
    end = 0
    for file in files:
        if file.first < end:
            raise ValueError(f"{file.name}: its row numbers overlap those before")
        end = file.first + file.span
    if end > entry.next:
        raise ValueError(f"next of {entry.directory!r} is below the numbers of its rows")
    _require_sum(values, "rows", entry.rows)
    return entry


def _file(values: dict[str, Any], spec: CollectionSpec, version: int) -> FileEntry:
    file = FileEntry(
        name=_text(values, "name", _PART),
        rows=_whole(values, "rows", 1),
        size=_whole(values, "size", 1),
        sha256=_text(values, "sha256", _SHA256),
        fields=_whole(values, "fields", 0),
        first=_whole(values, "first", 0),
        span=_whole(values, "span", 1),
        since=_whole(values, "since", 0),
    )
    if file.rows > file.span or file.fields > len(spec.fields) or file.since > version:
        raise ValueError(f"{file.name}: its figures contradict each other")
    return file


def _text(values: dict[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = values[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key} {str(value)[:200]!r} is not of the form {pattern.pattern}")
    return value


def _whole(values: dict[str, Any], key: str, least: int) -> int:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
        raise ValueError(f"{key} {str(value)[:200]!r} is no whole number from {least}")
    return value


def _require_sum(values: dict[str, Any], key: str, total: int) -> None:
    if _whole(values, key, 0) != total:
        raise ValueError(f"{key} is {values[key]}, and the files have {total}")
