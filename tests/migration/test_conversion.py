"""Rows of a source as rows of the target: renamed, selected, and laid out by the plan's spec."""

from __future__ import annotations

from typing import Any

import pytest

import vecbridge as vb
from vecbridge import records
from vecbridge.errors import ConfigError, SchemaError
from vecbridge.migration.conversion import Converter, parse_template
from vecbridge.migration.plans import Column, Plan, require_kinds
from vecbridge.schema import CollectionSpec, Field, VectorField


def foreign(**fields: Any) -> CollectionSpec:
    columns = (*(Field(name, type) for name, type in fields.items()), Field("extra", "json"))
    return CollectionSpec.foreign("photos", (VectorField("vector", 2),), columns, "string")


def planned(source: CollectionSpec, extra: str | None = None, **options: Any) -> Plan:
    spec = vb.CollectionSpec("photos", source.vectors, source.fields, source.id_type)
    columns = options.pop("columns", None) or [Column(name, name) for name in spec.column_names[1:]]
    return Plan(
        "memory://#a", "memory://#b", source, "1", options.pop("spec", spec), columns, extra, **options
    )


def rows(spec: CollectionSpec, *records_: dict[str, Any]) -> Any:
    filled = [{"vector": [1.0, 0.0]} | record for record in records_]
    return records.rows_batch(filled, spec)


def test_a_row_is_laid_out_by_the_plans_spec_however_the_source_is_sampled_today() -> None:
    pinned = foreign(year="float64", tags="list<string>")
    plan = planned(pinned, "extra")
    expected = {"year": [2020.0, None], "tags": [["sea"], None], "extra": ['{"n":"x"}', '{"year":"old"}']}
    for opened, first, second in (
        (pinned, {"year": 2020, "tags": ["sea"], "extra": {"n": "x"}}, {"extra": {"year": "old"}}),
        (foreign(n="string"), {"n": "x", "extra": {"year": 2020, "tags": ["sea"]}},
         {"extra": {"year": "old"}}),
        (foreign(year="string"), {"extra": {"n": "x", "year": 2020.0, "tags": ["sea"]}}, {"year": "old"}),
    ):  # fmt: skip
        batch = rows(opened, {"id": "a", **first}, {"id": "b", **second})
        converted = Converter(plan, opened, "extra").convert(batch, "")
        assert converted.select(list(expected)).to_pydict() == expected


def test_columns_are_selected_and_renamed_and_ids_built() -> None:
    source = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64", "title": "string"})
    spec = vb.CollectionSpec.single("photos", dim=2, fields={"name": "string"})
    plan = planned(
        source, spec=spec, columns=[Column("vector", "vector"), Column("name", "title")],
        id_template="{namespace}/{id}",
    )  # fmt: skip
    converter = Converter(plan, source, None)
    assert converter.include == ("vector", "title")
    assert plan.renamed == {"title": "name"}
    assert plan.dropped == ("year",)
    batch = rows(source, {"id": "a", "title": "A", "year": 1}).select(["id", *converter.include])
    [row] = converter.convert(batch, "eu").to_pylist()
    assert row == {"id": "eu/a", "vector": [1.0, 0.0], "name": "A"}


def test_a_source_that_lost_a_column_or_changed_its_type_needs_a_new_plan() -> None:
    source = vb.CollectionSpec.single("photos", dim=2, fields={"year": "int64"})
    plan = planned(source)
    for fields in ({}, {"year": "string"}):
        changed = vb.CollectionSpec.single("photos", dim=2, fields=fields)
        with pytest.raises(SchemaError, match=r"'year' is .* and was int64 when the plan was made"):
            Converter(plan, changed, None)
    with pytest.raises(SchemaError, match="'vector' is a vector of 3"):
        Converter(plan, vb.CollectionSpec.single("photos", dim=3, fields={"year": "int64"}), None)


@pytest.mark.parametrize("template", ["", "x", "{namespace}", "{id!r}", "{id:3}", "{title}{id}", "{", "{}"])
def test_a_template_without_the_id_or_with_anything_else_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="id template"):
        parse_template(template)


def test_a_template_takes_braces_in_ids_and_in_its_text_as_they_are() -> None:
    assert parse_template("{{{namespace}}}-{id}")("eu", "{id}") == "{eu}-{id}"


def test_a_plan_is_the_same_after_json_also_of_a_foreign_source() -> None:
    plan = planned(
        foreign(year="float64"), "extra", only="eu", filter={"field": "year", "op": "==", "value": 1}
    )
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.digest() == plan.digest()
    with pytest.raises(ConfigError, match="format 2"):
        Plan.from_dict(plan.to_dict() | {"format": 2})
    for broken in ("[]", "{", "{}", plan.to_json().replace('"source": "year"', '"source": "age"')):
        with pytest.raises(ConfigError, match="not a plan"):
            Plan.from_json(broken)


def test_only_losses_that_exist_and_are_no_metric_can_be_allowed() -> None:
    assert require_kinds(["index", "field:year", "row:id"]) == {"index", "field:year", "row:id"}
    for kind in ("indexes", "field:", "metric", ""):
        with pytest.raises(ConfigError, match="allow="):
            require_kinds([kind])
