"""What the tests of the file sources share."""

import pyarrow as pa
import pytest


class Reading:
    """What a source gave: rows, and dead letters by their line or row."""

    def __init__(self, source, spec, **options):
        self.letters = []
        self.batches = list(source.batches(spec, on_dead_letter=self.letters.append, **options))
        self.rows = [row for batch in self.batches for row in batch.to_pylist()]
        self.ids = [row["id"] for row in self.rows]
        self.errors = {letter.source.rpartition(":")[2]: letter.error for letter in self.letters}
        assert all(isinstance(batch, pa.RecordBatch) and batch.num_rows for batch in self.batches)


@pytest.fixture
def read():
    def reading(source, spec=None, **options):
        return Reading(source, spec or source.schema().spec("c"), **options)

    return reading
