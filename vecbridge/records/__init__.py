"""Arrow batches of records: building, checking, viewing and splitting them.

A batch is a ``pyarrow.RecordBatch`` of ``id`` (string or int64), one ``fixed_size_list<float32>[dim]``
column per vector field, and one column per scalar field. :func:`checked` refuses what no backend may take,
with the same error everywhere, before a byte is sent; what it returns need not be checked again.
"""

from vecbridge.records.arrow import (
    arrow_schema,
    arrow_type,
    arrow_vector_type,
    booleans,
    id_array,
    number_array,
    numbers,
    python_ids,
    ranges,
    row_bytes,
    split,
    vector_array,
    vectors,
)
from vecbridge.records.building import batch
from vecbridge.records.checking import MAX_ID_BYTES, bad_vectors, check, checked, invalid
from vecbridge.records.inputs import Records, as_batch, as_table, changes, is_records, is_rows, rows_batch
from vecbridge.records.jsontext import canonical_json
from vecbridge.records.recognition import Checked
from vecbridge.records.stamps import require_same_embedder, split_origins, stamp, stamped, with_origins
from vecbridge.records.unfit import unfit_lengths, unfit_rows

__all__ = [
    "MAX_ID_BYTES",
    "Checked",
    "Records",
    "arrow_schema",
    "arrow_type",
    "arrow_vector_type",
    "as_batch",
    "as_table",
    "bad_vectors",
    "batch",
    "booleans",
    "canonical_json",
    "changes",
    "check",
    "checked",
    "id_array",
    "invalid",
    "is_records",
    "is_rows",
    "number_array",
    "numbers",
    "python_ids",
    "ranges",
    "require_same_embedder",
    "row_bytes",
    "rows_batch",
    "split",
    "split_origins",
    "stamp",
    "stamped",
    "unfit_lengths",
    "unfit_rows",
    "vector_array",
    "vectors",
    "with_origins",
]
