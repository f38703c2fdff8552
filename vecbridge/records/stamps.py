"""What a batch says of itself in its schema metadata: the model of its vectors, and where its rows stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from vecbridge.errors import EmbedderMismatchError, SchemaError
from vecbridge.identity import EmbedderIdentity, embedder_differences, same_embedder
from vecbridge.records.recognition import Checked, recognise, remember
from vecbridge.schema import VectorField

_EMBEDDER_KEY: Final = b"vecbridge.embedder"
_ADDED_KEY: Final = b"vecbridge.embedder_added"  # what formats after the first added to an identity
_ORIGINS_KEY: Final = b"vecbridge.origins"


def stamp(batch: pa.RecordBatch, identity: EmbedderIdentity) -> pa.RecordBatch:
    """The batch with the model that made its vectors in its schema metadata.

    Args:
        batch: A batch with vectors of that model.
        identity: The identity of the model.

    Returns:
        The same columns. A collection that records another model refuses them (EmbedderMismatchError).

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("texts", dim=256)
        >>> with vb.embedder("bundled") as model:
        ...     plain = vb.batch(spec, id=["a"], vector=model.embed_texts(["a sunset"]))
        ...     stamped(vb.stamp(plain, model.identity)).model
        'bundled'
    """
    four, added = identity.to_dicts()
    metadata = dict(batch.schema.metadata or {}) | {_EMBEDDER_KEY: json.dumps(four).encode()}
    metadata.pop(_ADDED_KEY, None)  # of an earlier stamp
    if added:
        metadata[_ADDED_KEY] = json.dumps(added).encode()
    return _with_metadata(batch, metadata)


def stamped(batch: pa.RecordBatch) -> EmbedderIdentity | None:
    """The model that :func:`stamp` noted, if any.

    Raises:
        SchemaError: Something else stands in its place.
    """
    metadata = batch.schema.metadata or {}
    text, added = metadata.get(_EMBEDDER_KEY), metadata.get(_ADDED_KEY)
    try:
        return (
            EmbedderIdentity.from_dicts(json.loads(text), json.loads(added) if added else None)
            if text
            else None
        )
    except (ValueError, TypeError) as exc:
        raise SchemaError(f"the batch's embedder stamp cannot be read: {exc}") from exc


def require_same_embedder(field: VectorField, identity: EmbedderIdentity | None) -> None:
    """Refuses vectors from one model where the collection holds another's; absence is unchecked.

    Raises:
        EmbedderMismatchError: Names both models.
    """
    if field.embedder is None or identity is None or same_embedder(field.embedder, identity):
        return
    holds = f"vector {field.name!r} holds vectors of {field.embedder}"
    if str(field.embedder) != str(identity):
        raise EmbedderMismatchError(f"{holds}, not of {identity}: use that model, or another collection")
    changed = " and ".join(embedder_differences(field.embedder, identity))
    raise EmbedderMismatchError(
        f"{holds}, and now that model has another {changed}: bring its files back to what they were, or use "
        "another collection"
    )


def with_origins(batch: pa.RecordBatch, origins: Sequence[str | None]) -> pa.RecordBatch:
    """The batch with the place of each row, such as ``rows.jsonl:17``, for dead letters of a bulk write."""
    text = "\0".join(origin or "" for origin in origins).encode("utf-8", "surrogatepass")
    return _with_metadata(batch, dict(batch.schema.metadata or {}) | {_ORIGINS_KEY: text})


def split_origins(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[str] | None]:
    """The batch without the places of its rows, and these; None where :func:`with_origins` noted none.

    A batch that was cut since has more places than rows: they are dropped.
    """
    metadata = dict(batch.schema.metadata or {})
    text = metadata.pop(_ORIGINS_KEY, None)
    if text is None:
        return batch, None
    origins = text.decode("utf-8", "surrogatepass").split("\0")
    plain = _with_metadata(batch, metadata)
    return plain, origins if len(origins) == batch.num_rows else None


def _with_metadata(batch: pa.RecordBatch, metadata: dict[bytes, bytes]) -> pa.RecordBatch:
    changed = batch.replace_schema_metadata(metadata)
    known = recognise(batch)
    if known is not None:  # the same columns in another object
        remember(Checked(changed, known.spec))
    return changed
