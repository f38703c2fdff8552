"""A FAISS index file that was written without vecbridge becomes a collection of any store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vecbridge.errors import ConfigError, MissingDependencyError
from vecbridge.query import FloatArray
from vecbridge.schema import CollectionSpec

if TYPE_CHECKING:
    from vecbridge.collection import Collection
    from vecbridge.front.arguments import IfExists
    from vecbridge.store import Store


def import_index(
    store: Store,
    path: str | os.PathLike[str],
    spec: CollectionSpec | None = None,
    *,
    name: str | None = None,
    ids: Sequence[str | int] | None = None,
    vectors: FloatArray | None = None,
    if_exists: IfExists = "error",
    namespace: str = "",
) -> Collection:
    """Builds a collection from a FAISS index file that was written without vecbridge.

    The vectors are copied and the index is built again, by :meth:`vecbridge.Collection.wait_ready`, since a
    bare file can neither be extended safely nor checked. A file with inner products may be imported as "dot"
    or as "cosine".

    Args:
        store: Where to; any store.
        path: What ``faiss.write_index`` wrote.
        spec: What to build, with one vector field; its scalar fields are null. Or give ``name``.
        name: What to call a collection that is like the file: its dim, metric (inner products become
            "dot"), kind of index, int64 ids.
        ids: By FAISS's own id (the position, where the index has none), the id in the collection.
            None takes FAISS's, as decimal text where the spec has string ids.
        vectors: Shape (n, dim), where the index holds only an approximation of them; in the order in
            which they were added, or, where there are inverted lists, of their FAISS ids.
        if_exists: As for :meth:`vecbridge.Store.create`.
        namespace: As for :meth:`vecbridge.Store.create`.

    Returns:
        The collection; every row is written, and its index is not built yet.

    Raises:
        UnsupportedError: The index lost the vectors (SQ, PQ, transforms), and none were given.
        SchemaError: A dim, a metric or ids that do not fit the spec.
        InvalidRecordError: Vectors that no collection takes; nothing was made.
        ConfigError: No such file.
        CorruptStoreError: FAISS cannot read it.
        MissingDependencyError: FAISS is not installed.

    Example:
        >>> import faiss, numpy, tempfile, vecbridge as vb
        >>> from vecbridge.stores.faiss import import_index
        >>> folder = tempfile.TemporaryDirectory()
        >>> index = faiss.IndexFlatL2(2)
        >>> index.add(numpy.eye(2, dtype="float32"))
        >>> faiss.write_index(index, f"{folder.name}/old.index")
        >>> with vb.connect(f"faiss://{folder.name}/store") as store:
        ...     import_index(store, f"{folder.name}/old.index", name="old").count()
        2
        >>> folder.cleanup()
    """
    if (spec is None) == (name is None):
        raise ConfigError("import_index() takes a spec or name=, exactly one of them")
    if find_spec("faiss") is None:
        raise MissingDependencyError("faiss", extra="faiss")
    from vecbridge.stores.faiss import bare

    file = bare.read(path)
    spec = file.spec(str(name)) if spec is None else spec
    file.require(spec)
    row_ids, rows = file.ids_for(spec, ids), file.with_vectors(vectors)
    for _ in bare.batches(spec, row_ids, rows, check=True):
        pass
    collection = store.create(spec, if_exists=if_exists, namespace=namespace)
    for batch in bare.batches(spec, row_ids, rows):
        collection.upsert(batch)
    return collection
