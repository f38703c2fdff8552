"""The embedded store: raw vectors and a row log are the truth, FAISS indexes are derived from them.

    <root>/<collection>/spec.json              the spec, which fields were added to it, and a token that
                                               changes when the collection is replaced
    <root>/<collection>/lock                   the lock of the one writer
    <root>/<collection>/<namespace>/CURRENT    which generation and which log hold the namespace
    …/<generation>/vectors-<i>.f32             float32 vectors; row number = offset
    …/<generation>/rows-<n>.log                everything else, a checksummed frame a commit
    …/<generation>/indexes.json, *.faiss       derived; lost at no cost but time

A commit writes and syncs the vectors, then appends and syncs one frame to the log, then is
acknowledged. Bytes behind the last whole frame were never acknowledged; the next writer cuts them.
"""

from vecbridge.stores.faiss.importing import import_index

__all__ = ["import_index"]
