"""What tells whether a picture or a line of text is still the same: its :class:`SourceItem`."""

from __future__ import annotations

from vecbridge.sources import digests
from vecbridge.sources.images import CONTENT_ID_DIGITS, Item, PictureItem
from vecbridge.sources.reading import FileState, SourceItem, digest_file
from vecbridge.sources.texts import TextItem


def identify(item: Item) -> SourceItem:
    """Reads an item, and decodes nothing.

    Raises:
        InvalidRecordError: Its file cannot be read; ``rows[0].error`` is the reason.
    """
    return line_read(item) if isinstance(item, TextItem) else picture_read(item, *digest_file(item.path))


def picture_read(item: PictureItem, state: FileState, sha256: str) -> SourceItem:
    """A picture whose file was read.

    Args:
        item: The picture.
        state: Of its file.
        sha256: Of its file.
    """
    id = sha256[:CONTENT_ID_DIGITS] if item.by_content else item.id
    return SourceItem(id, item.root, item.relative, state.size, state.modified, sha256)


def line_read(item: TextItem) -> SourceItem:
    """A line of a text."""
    size = len(item.text.encode())
    return SourceItem(item.id, item.root, item.relative, size, None, digests.of_text(item.text))
