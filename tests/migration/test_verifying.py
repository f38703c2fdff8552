"""Each fault that a copy may have is caught by its name, and at the lowest level that can see it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.errors import ConfigError, JournalError, NotFoundError, StorageFullError
from vecbridge.migration.proof import LEVELS, Proof

FIELDS = {"year": "int64", "title": "string", "tags": "list<string>", "price": "float64", "notes": "json"}
ROWS = 120
DIM = 8
Edit = Callable[["Copy"], None]


class Copy:
    """Two collections that hold the same, until one of them is altered."""

    def __init__(self, directory: Path) -> None:
        self.source, self.target = f"faiss://{directory}/a#photos", f"faiss://{directory}/b#photos"
        self.spec = vb.CollectionSpec.single("photos", dim=DIM, fields=FIELDS, namespaced=True)

    def fill(self) -> None:
        for url in (self.source, self.target):
            with vb.connect(url.partition("#")[0]) as store:
                for namespace, rows in (("", ROWS), ("eu", 30)):
                    collection = store.create(self.spec, if_exists="open", namespace=namespace)
                    collection.upsert(records(rows, seed=len(namespace)))

    def edit(self, change: Callable[[vb.Collection], object], namespace: str = "") -> None:
        with vb.connect(self.target.partition("#")[0]) as store:
            change(store.open("photos", namespace=namespace))

    def replace_target(self, spec: vb.CollectionSpec) -> None:
        """The target made anew with another spec and the same rows."""
        with vb.connect(self.target.partition("#")[0]) as store:
            store.create(spec, if_exists="replace")
            for namespace, rows in (("", ROWS), ("eu", 30)):
                names = set(spec.column_names)
                kept = [
                    {name: value for name, value in row.items() if name in names}
                    for row in records(rows, seed=len(namespace))
                ]
                store.open("photos", namespace=namespace).upsert(kept)

    def row(self, id: str) -> dict[str, Any]:
        with vb.open(self.target) as collection:
            [row] = collection.fetch([id]).to_pylist()
            return row

    def verify(self, level: Any, **options: Any) -> Proof:
        return vb.verify(self.source, self.target, level=level, **{"settle": 0.5, "wait": 0.5} | options)


def records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, DIM)).astype(np.float32)
    return [
        {
            "id": f"r{number}", "vector": vectors[number], "year": number if number % 3 else None,
            "title": f"title {number % 7}", "tags": [str(number % 5)] if number % 4 else [],
            "price": number / 7, "notes": {"n": number},
        }
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    made = Copy(tmp_path)
    made.fill()
    return made


def update(id: str, **values: Any) -> Edit:
    return lambda copy: copy.edit(lambda target: target.upsert([copy.row(id) | values]))


def drop_row(copy: Copy) -> None:
    copy.edit(lambda target: target.delete(["r7"]))


def swap_ids(copy: Copy) -> None:
    """A row dropped and another one added: the counts say nothing."""
    row = copy.row("r7")
    copy.edit(lambda target: target.delete(["r7"]))
    copy.edit(lambda target: target.upsert([row | {"id": "r7x"}]))


def swap_vectors(copy: Copy) -> None:
    first, second = copy.row("r3"), copy.row("r4")
    changed = [first | {"vector": second["vector"]}, second | {"vector": first["vector"]}]
    copy.edit(lambda target: target.upsert(changed))


def flip_bit(copy: Copy) -> None:
    vector = np.array(copy.row("r5")["vector"], np.float32)
    vector.view(np.uint32)[2] ^= 1
    update("r5", vector=vector)(copy)


def round_vectors(copy: Copy) -> None:
    rows = [row | {"vector": np.round(row["vector"], 1)} for row in records(ROWS)]
    copy.edit(lambda target: target.upsert(rows))


def add_row(copy: Copy) -> None:
    copy.edit(lambda target: target.upsert([copy.row("r1") | {"id": "extra"}]))


def empty(copy: Copy) -> None:
    for namespace in ("", "eu"):
        copy.edit(lambda target: target.delete(filter=vb.everything), namespace)


def leave_namespace(copy: Copy) -> None:
    copy.edit(lambda target: target.delete(filter=vb.everything), "eu")


def keep_first_page(copy: Copy) -> None:
    copy.edit(lambda target: target.delete([f"r{number}" for number in range(50, ROWS)]))


def wrong_metric(copy: Copy) -> None:
    copy.replace_target(replace_vector(copy.spec, metric="dot"))


def lose_field(copy: Copy) -> None:
    copy.replace_target(replace(copy.spec, fields=[each for each in copy.spec.fields if each.name != "year"]))


def other_type(copy: Copy) -> None:
    fields = [vb.Field("year", "float64") if each.name == "year" else each for each in copy.spec.fields]
    copy.replace_target(replace(copy.spec, fields=fields))


def replace_vector(spec: vb.CollectionSpec, **changes: Any) -> vb.CollectionSpec:
    return replace(spec, vectors=(replace(spec.vector, **changes),))


#: A fault, the kinds of its findings, and the lowest level that can see it.
FAULTS: dict[str, tuple[Edit, set[str], str]] = {
    "a wrong metric": (wrong_metric, {"metric"}, "count"),
    "a field is lost": (lose_field, {"field:year missing"}, "count"),
    "a field of another type": (other_type, {"field:year type"}, "count"),
    "a dropped row": (drop_row, {"count"}, "count"),
    "an extra row": (add_row, {"count"}, "count"),
    "an empty target": (empty, {"empty"}, "count"),
    "a namespace left behind": (leave_namespace, {"namespace"}, "count"),
    "the first page alone": (keep_first_page, {"count"}, "count"),
    "a dropped row and an extra one": (swap_ids, {"missing", "extra"}, "ids"),
    "two swapped vectors": (swap_vectors, {"vector"}, "content"),
    "one bit flipped": (flip_bit, {"vector"}, "content"),
    "vectors rounded to one decimal": (round_vectors, {"vector", "content"}, "content"),
    "a value lost": (update("r10", year=None), {"value"}, "content"),
    "a null that became 0": (update("r9", year=0), {"value"}, "content"),
    "an empty list that became null": (update("r8", tags=None), {"value"}, "content"),
    "an empty object that became null": (update("r8", notes=None), {"value"}, "content"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_by_its_name_at_the_lowest_level_that_can_see_it(name: str, copy: Copy) -> None:
    plant, kinds, lowest = FAULTS[name]
    plant(copy)
    place = LEVELS.index(lowest)  # type: ignore[arg-type]
    proof = copy.verify(lowest)
    assert not proof.passed
    assert {each.kind for each in proof.findings} == kinds
    if place:
        assert copy.verify(LEVELS[place - 1]).passed
    above = LEVELS[min(place + 1, 2)]
    assert kinds <= {each.kind for each in copy.verify(above).findings}


def test_a_faithful_copy_passes_every_level_and_nothing_is_left_on_the_disk(
    copy: Copy, tmp_path: Path
) -> None:
    for level in LEVELS:
        proof = copy.verify(level, directory=tmp_path / "ledgers")
        assert proof.passed, proof.findings
        assert [(each.namespace, each.source, each.target) for each in proof.namespaces] == [
            ("", ROWS, ROWS), ("eu", 30, 30),
        ]  # fmt: skip
        assert proof.compared == (0 if level == "count" else ROWS + 30)
        assert bool(proof.recall) == (level == "search")
    assert list((tmp_path / "ledgers").iterdir()) == []


def test_a_finding_says_where_what_and_which_values(copy: Copy) -> None:
    swap_vectors(copy)
    update("r9", year=0)(copy)
    by_id = {(each.id, each.column): each for each in copy.verify("content").findings}
    assert set(by_id) == {("r3", "vector"), ("r4", "vector"), ("r9", "year")}
    year = by_id["r9", "year"]
    assert (year.namespace, year.source, year.target) == ("", "null", "0")
    assert year.detail == "null became a value"
    assert "it is the vector of row 'r4'" in by_id["r3", "vector"].detail
    hidden = year.to_dict(values=False)
    assert "source" not in hidden
    assert "target" not in hidden


def test_many_differences_are_counted_and_twenty_shown(copy: Copy) -> None:
    round_vectors(copy)
    findings = copy.verify("content").findings
    assert len([each for each in findings if each.id is not None]) == 20
    [rest] = [each for each in findings if each.id is None]
    assert rest.detail == "100 more rows differ"


def test_a_source_without_rows_does_not_pass_any_level(tmp_path: Path) -> None:
    made = Copy(tmp_path)
    for url in (made.source, made.target):
        with vb.connect(url.partition("#")[0]) as store:
            store.create(made.spec)
    for level in LEVELS:
        proof = made.verify(level)
        assert not proof.passed
        assert [each.kind for each in proof.findings] == ["empty"]


def test_a_namespace_that_the_target_has_too_many_is_found(copy: Copy) -> None:
    copy.edit(lambda target: target.upsert(records(2)), "us")
    [finding] = copy.verify("count").findings
    assert (finding.kind, finding.namespace) == ("namespace", "us")
    assert vb.verify(f"{copy.source.replace('#', '?namespace=eu#')}", copy.target, level="content").passed


def test_a_copy_is_compared_by_its_plan_with_names_ids_and_a_filter(tmp_path: Path) -> None:
    made = Copy(tmp_path)
    made.fill()
    target = f"faiss://{tmp_path}/moved#photos"
    options: dict[str, Any] = {
        "rename": {"year": "when"}, "drop": ["price"], "id_template": "{namespace}/{id}",
        "filter": {"field": "title", "op": "!=", "value": "title 3"},
    }  # fmt: skip
    plan = moved(made.source, target, **options)
    proof = vb.verify(made.source, target, plan=plan)
    assert proof.passed, proof.findings
    assert proof.rows[0] == proof.rows[1] < ROWS + 30
    with vb.open(target) as collection:
        [row] = collection.fetch(["/r11"]).to_pylist()
        collection.upsert([row | {"when": None}])
    [finding] = vb.verify(made.source, target, plan=plan, level="content").findings
    assert (finding.kind, finding.id, finding.column) == ("value", "/r11", "when")


def moved(source: str, target: str, **options: Any) -> vb.Plan:
    """A copy with changes on the way, and its plan."""
    with vb.open(source) as opened, vb.connect(target.partition("#")[0]) as store:
        fields = [
            replace(each, name=options["rename"].get(each.name, each.name))
            for each in opened.spec.fields
            if each.name not in options["drop"]
        ]
        spec = replace(opened.spec, fields=fields)
        columns = [vb_column("vector", "vector")]
        back = {new: old for old, new in options["rename"].items()}
        columns += [vb_column(each.name, back.get(each.name, each.name)) for each in fields]
        plan = vb.Plan(
            opened_url(source), opened_url(target), opened.spec, opened.identity, spec, tuple(columns),
            filter=options["filter"], id_template=options["id_template"],
        )  # fmt: skip
        from vecbridge.migration.conversion import Converter

        store.create(spec)
        with vb.connect(source.partition("#")[0]) as from_store:
            for namespace in from_store.namespaces("photos"):
                mine = from_store.open("photos", namespace=namespace)
                converter = Converter(plan, mine.spec, None)
                theirs = store.open("photos", namespace=namespace)
                for page in mine.scan(include=converter.include, filter=options["filter"]):
                    theirs.upsert(converter.convert(page.batch, namespace))
        return plan


def vb_column(name: str, source: str) -> Any:
    from vecbridge.migration.plans import Column

    return Column(name, source)


def opened_url(url: str) -> str:
    from vecbridge.migration.sides import Side

    with Side(url) as side:
        return side.url


def test_rows_that_two_namespaces_lose_to_each_other_are_found(tmp_path: Path) -> None:
    made = Copy(tmp_path)
    made.fill()
    target = f"faiss://{tmp_path}/merged"
    with vb.connect(target) as store:
        merged = store.create(made.spec, namespace="all")
        merged.upsert(records(30, seed=2))
        merged.upsert(records(ROWS))
    proof = vb.verify(made.source, f"{target}?namespace=all#photos", level="content")
    assert {"count", "repeated"} <= {each.kind for each in proof.findings}


def test_what_becomes_visible_late_is_waited_for_and_a_source_that_moves_does_not_pass(copy: Copy) -> None:
    from vecbridge.migration import comparing

    row = copy.row("r5")
    update("r5", year=1)(copy)
    original = comparing.Comparison._settled

    def later(self: Any, *arguments: Any) -> Any:
        copy.edit(lambda target: target.upsert([row]))
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparing.Comparison, "_settled", later)
        assert copy.verify("content").passed

    def moves(self: Any, *arguments: Any) -> Any:
        with vb.open(copy.source) as source:
            source.upsert([row | {"year": 77}])
        return original(self, *arguments)

    update("r5", year=77)(copy)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparing.Comparison, "_settled", moves)
        assert [each.kind for each in copy.verify("content").findings] == ["moved"]


def test_a_source_that_grows_meanwhile_does_not_pass(copy: Copy) -> None:
    from vecbridge.migration import comparing

    original = comparing.Comparison.run

    def grows(self: Any) -> Any:
        compared = original(self)
        with vb.open(copy.source) as source:
            source.upsert([copy.row("r1") | {"id": "new"}])
        return compared

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparing.Comparison, "run", grows)
        assert [each.kind for each in copy.verify("content").findings] == ["moved"]


def test_neither_side_is_altered_and_a_writer_keeps_its_lock(copy: Copy, tmp_path: Path) -> None:
    before = files(tmp_path)
    with vb.connect(copy.target.partition("#")[0]) as store:
        writer = store.open("photos")
        writer.upsert([copy.row("r1")])
        before = files(tmp_path)
        done: list[Proof] = []
        thread = threading.Thread(target=lambda: done.append(copy.verify("search")))
        thread.start()
        thread.join()
        assert done[0].passed, done[0].findings
        assert files(tmp_path) == before
        writer.upsert([copy.row("r2")])


def files(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "lock" not in path.name
    }


def test_bad_usage_says_what_may_be_given(copy: Copy, tmp_path: Path) -> None:
    for options, error, match in (
        ({"level": "all"}, ConfigError, "count, ids, content, search"),
        ({"level": "search", "queries": [[np.nan] * DIM]}, ConfigError, "finite"),
        ({"level": "search", "min_recall": 2}, ConfigError, "min_recall"),
        ({"level": "ids", "plan": "none.json"}, ConfigError, "none.json"),
        ({"level": "ids", "journal": tmp_path / "none"}, JournalError, "none"),
        ({"level": "ids", "wait": -1}, ConfigError, "-1"),
    ):
        with pytest.raises(error, match=match):
            vb.verify(copy.source, copy.target, **options)
    with pytest.raises(NotFoundError, match="other"):
        vb.verify(copy.source, copy.target.replace("#photos", "#other"))


def test_a_disk_without_room_is_refused_before_anything_is_read(copy: Copy, monkeypatch: Any) -> None:
    from vecbridge.migration import ledger, scope

    def full(directory: Path, rows: int) -> None:
        assert rows == 2 * (ROWS + 30)
        raise StorageFullError("full")

    monkeypatch.setattr(ledger, "require_room", full)
    monkeypatch.setattr(scope.Scope, "scan_source", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(StorageFullError):
        copy.verify("content")


@pytest.fixture
def random_copies(tmp_path: Path) -> Callable[[int], tuple[str, str]]:
    """Makes two collections of memory with the same random rows, written in different orders."""

    def make(seed: int) -> tuple[str, str]:
        random = np.random.default_rng(seed)
        count, dim = int(random.integers(1, 40)), int(random.integers(1, 12))
        metric = ("cosine", "dot", "l2")[seed % 3]
        spec = vb.CollectionSpec.single(
            "photos", dim=dim, metric=metric, fields=FIELDS, namespaced=True,
            id_type="int64" if seed % 5 == 0 else "string",
        )  # fmt: skip
        rows = random_rows(random, spec, count, duplicates=seed % 4 == 0)
        urls = []
        for side in ("left", "right"):
            urls.append(f"memory:///{tmp_path.name}-{seed}-{side}#photos")
            with vb.connect(urls[-1].partition("#")[0]) as store:
                for namespace in ("", "eu")[: 1 + seed % 2]:
                    collection = store.create(spec, if_exists="open", namespace=namespace)
                    collection.upsert([rows[place] for place in random.permutation(count).tolist()])
        return urls[0], urls[1]

    return make


def random_rows(
    random: Any, spec: vb.CollectionSpec, count: int, *, duplicates: bool
) -> list[dict[str, Any]]:
    vectors = random.standard_normal((count, spec.vector.dim)) * 10.0 ** random.integers(-3, 4)
    if duplicates:
        vectors = vectors[random.integers(0, max(1, count // 4), count)]
    texts = ["", "a", "null", "é", "e\u0301", "🦊", "x" * 50]
    ids = random.permutation(1_000)[:count].tolist()
    return [
        {
            "id": ids[row] - 500 if spec.id_type == "int64" else f"{texts[row % 7]}{ids[row]}",
            "vector": vectors[row],
            "year": random.choice([None, 0, -(2**63), 2**63 - 1, row]),
            "title": random.choice([None, *texts]),
            "tags": [None, [], [""], ["a", "a"]][int(random.integers(4))],
            "price": random.choice([None, 0.0, -0.0, 1e-320, 0.1]),
            "notes": [None, {}, [], {"b": 1, "a": [None]}][int(random.integers(4))],
        }
        for row in range(count)
    ]


@pytest.mark.parametrize("part", range(4))
def test_fifty_faithful_copies_raise_no_alarm(
    part: int, random_copies: Callable[[int], tuple[str, str]], monkeypatch: Any
) -> None:
    from vecbridge.migration import search_level

    monkeypatch.setattr(search_level, "MOST_QUERIES", 16)
    for seed in range(50 * part, 50 * part + 50):
        proof = vb.verify(*random_copies(seed))
        assert proof.passed, (seed, proof.findings)
        assert proof.recall
