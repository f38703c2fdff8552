"""``plan``: what a migration would do, in tables and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from tests.migration import drivers
from vecbridge.capabilities import Gap
from vecbridge.migration.plans import Plan
from vecbridge.schema import CollectionSpec, Field, VectorField

Run = Callable[..., Any]  # the fixture of conftest.py


@pytest.fixture
def source(run: Run) -> str:
    """A collection with two namespaces."""
    spec = vb.CollectionSpec.single(
        "photos", dim=2, index=vb.Flat(), namespaced=True,
        fields={"year": "int64", "title": "string", "taken": "timestamp"},
    )  # fmt: skip
    with vb.connect("faiss:./store") as store:
        for namespace, rows in (("", 3), ("eu", 2)):
            collection = store.create(spec, if_exists="open", namespace=namespace)
            collection.upsert([
                {"id": f"r{number}", "vector": [1, number], "year": 2000 + number, "title": "t",
                 "taken": f"2020-05-1{number}T10:00:00Z"}
                for number in range(rows)
            ])  # fmt: skip
    return "faiss:./store#photos"


def test_the_tables_show_schema_namespaces_losses_and_the_command_that_comes_next(
    run: Run, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = drivers.narrow(monkeypatch, indexes=frozenset({"auto"}), text_bytes=10)
    ran = run("plan", source, f"{target}#copies")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["target", f"{target}#copies"] in lines
    assert ["records", "5"] in lines
    assert [
        "vector",
        "2",
        "dimensions,",
        "cosine,",
        "flat",
        "vector",
        "2",
        "dimensions,",
        "cosine,",
        "auto",
    ] in lines
    assert ["year", "int64", "year", "same"] in lines
    assert ["eu", "2", "eu"] in lines
    assert ["(the", "default", "one)", "3", "(the", "default", "one)"] in lines
    assert [line[:3] for line in lines if line[:1] in (["index"], ["size"])][1:] == [
        ["index", "vector", "all"], ["size", "title", "possibly"]
    ]  # fmt: skip
    assert f"migrate {source.replace('#', '#')!r} '{target}#copies' --allow index" in ran.err.replace(
        "\n", " "
    )
    with vb.connect(target) as store:
        assert store.collections() == []


def test_json_is_the_plan_and_a_file_of_it_is_taken_by_migrate(run: Run, source: str, tmp_path: Path) -> None:
    target = "faiss:./copies#photos"
    ran = run("plan", source, target, "--json", "--output", "move.plan", "--scan", "--rename", "title=name",
              "--drop", "year")  # fmt: skip
    plan = Plan.from_dict(ran.json)
    assert Plan.load(tmp_path / "move.plan") == plan
    assert (plan.renamed, plan.dropped, plan.size.exact) == ({"title": "name"}, ("year",), True)
    assert not (tmp_path / "copies").exists()
    report = vb.migrate(source, target, plan=tmp_path / "move.plan")
    assert report.written == 5


def test_conditions_select_records_as_in_the_other_commands(run: Run, source: str) -> None:
    target = "faiss:./copies#photos"
    for condition, rows in (("year >= 2001", 3), ("taken > '2020-05-12'", 1), ("year = 1", 0)):
        ran = run("plan", source, target, "--where", condition, "--json")
        assert ran.json["size"]["rows"] == rows, condition
    both = run("plan", source, target, "--where", "year >= 2001", "--filter",
               '{"field": "year", "op": "<", "value": 2002}', "--json")  # fmt: skip
    assert both.json["size"]["rows"] == 2
    assert "only" in run("plan", source, target, "--where", "year >= 2001").out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rename", "title"], "as in old=new"),
        (["--drop", "nothing"], "no column 'nothing'"),
        (["--where", "year like 2"], "like"),
        (["--id", "{name}"], "id template '{name}'"),
        (["--output", "absent/move.plan"], "absent/move.plan"),
    ],
)
def test_bad_usage_exits_with_2_and_says_why(run: Run, source: str, options: list[str], message: str) -> None:
    ran = run("plan", source, "memory:///target#photos", *options)
    assert (ran.code, ran.out) == (2, "")
    assert message.lower() in ran.err.lower()


def test_several_namespaces_into_one_are_told_the_option_that_helps(run: Run, source: str) -> None:
    ran = run("plan", source, "memory:///target?namespace=all#photos")
    assert ran.code == 2
    assert "--id '{namespace}/{id}'" in ran.err
    merged = run("plan", source, "memory:///target?namespace=all#photos", "--id", "{namespace}/{id}")
    assert merged.code == 0
    assert "built as {namespace}/{id}" in merged.out


def test_a_source_that_is_not_there_exits_with_1(run: Run) -> None:
    ran = run("plan", "faiss:./nothing#photos", "memory:///target#photos")
    assert (ran.code, ran.out) == (1, "")
    assert "photos" in ran.err


def test_names_of_another_program_cannot_control_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "\x1b[31mred\u202e"
    vectors = (VectorField("vector", 2, vb.Metric.COSINE, vb.Other(hostile)),)
    spec = CollectionSpec.foreign("photos", vectors, (Field(hostile, "string"),), "string")
    losses = [Gap(f"field:x{hostile}", f"x{hostile}", f"a {hostile} has no type here", blocking=False)]
    rows = {"": [{"id": hostile, "vector": [0.0, 0.0], hostile: hostile}]}
    source = drivers.foreign(monkeypatch, spec, rows, losses=losses)
    ran = run("plan", source, "memory:///hostile#photos", "--scan")
    assert ran.code == 0
    assert "\x1b" not in ran.out + ran.err
    assert "\u202e" not in ran.out + ran.err
    assert r"\x1b[31mred\u202e" in ran.out
    assert "f__31mred_" in ran.out or "f___31mred_" in ran.out
    assert (
        run("plan", source, "memory:///hostile#photos", "--json").json["source_spec"]["fields"][0]["name"]
        == hostile
    )


def test_an_empty_collection_has_a_plan(run: Run) -> None:
    with vb.connect("faiss:./store") as store:
        store.create(vb.CollectionSpec.single("photos", dim=2))
    ran = run("plan", "faiss:./store#photos", "faiss:./copies")
    assert ran.code == 0
    assert ["records", "none"] in [line.split() for line in ran.out.splitlines()]
    assert "Nothing is lost." in ran.out
    assert "copies#photos" in ran.out
