"""Which names collections, fields and namespaces may have."""

from __future__ import annotations

import re
from typing import Final

COLLECTION: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
SOURCE: Final = "_vb_source"
DIGEST: Final = "_vb_digest"
RESERVED: Final = (SOURCE, DIGEST)  # text columns that say what a row was made from; see vecbridge.reserved
NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_namespace(name: str) -> bool:
    """Whether a namespace of vecbridge's own collections may have this name; "" is the default one."""
    return name == "" or bool(NAMESPACE.fullmatch(name))


def is_field_name(name: str) -> bool:
    """Whether a field that is added may have this name, clashes apart."""
    return bool(FIELD.fullmatch(name)) and not name.lower().startswith("_vb") and name.lower() != "id"
