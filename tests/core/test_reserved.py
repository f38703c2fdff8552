"""Reserved fields in specs."""

from __future__ import annotations

import pytest

import vecbridge as vb
from vecbridge import agreement, reserved
from vecbridge.names import RESERVED, SOURCE

SPEC = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})


def test_a_spec_gets_them_once_loses_them_and_survives_json() -> None:
    tracking = reserved.tracking(SPEC)
    assert reserved.tracking(tracking) == tracking
    assert reserved.is_tracking(tracking)
    assert not reserved.is_tracking(SPEC)
    assert vb.CollectionSpec.from_json(tracking.to_json()) == tracking
    assert reserved.public(tracking) == SPEC
    assert reserved.public(SPEC) is SPEC
    assert reserved.missing(SPEC) == reserved.FIELDS
    assert reserved.missing(tracking) == ()


@pytest.mark.parametrize(
    "field",
    [
        vb.Field(SOURCE, "int64"),
        vb.Field("_vb_other", "string"),
        vb.Field("_VB_SOURCE", "string"),
        vb.Field("_vb_source_2", "string"),
    ],
    ids=lambda field: f"{field.name} {field.type}",
)
def test_no_other_field_has_such_a_name(field: vb.Field) -> None:
    with pytest.raises(vb.SchemaError, match="field name"):
        vb.CollectionSpec.single("photos", dim=2, fields=[field])
    with vb.connect("memory://") as store, pytest.raises(vb.SchemaError, match="field name"):
        store.create(SPEC).add_fields([field])


def test_a_vector_has_no_such_name() -> None:
    with pytest.raises(vb.SchemaError, match="field name"):
        vb.CollectionSpec("photos", (vb.VectorField(SOURCE, 2),))


def test_the_public_spec_of_a_collection_of_another_program_keeps_its_names() -> None:
    fields = (vb.Field("2020-year", "int64"), *reserved.FIELDS)
    spec = vb.CollectionSpec.foreign("Photos", (vb.VectorField("Vector", 2),), fields, "string")
    assert [field.name for field in reserved.public(spec).fields] == ["2020-year"]
    assert reserved.public(spec).name == "Photos"


def test_those_of_a_collection_disagree_with_no_spec_that_has_none() -> None:
    tracking = reserved.tracking(SPEC)
    assert agreement.differences(tracking, SPEC) == []
    assert len(agreement.differences(SPEC, tracking)) == len(RESERVED)
    assert len(agreement.differences(tracking, vb.CollectionSpec.single("photos", dim=2))) == 1


def test_bulk_writes_them_and_rows_without_them() -> None:
    rows = [{"id": "a", "vector": [1, 0], SOURCE: "/x//a"}, {"id": "b", "vector": [0, 1]}]
    with vb.connect("memory://") as store:
        photos = store.create(reserved.tracking(SPEC))
        assert vb.write(photos, [rows]).written == 2
        found = photos.fetch(["a", "b"], include=[SOURCE]).column(SOURCE).to_pylist()
    assert found == ["/x//a", None]
