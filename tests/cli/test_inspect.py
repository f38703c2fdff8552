"""``list``, ``info`` and ``doctor``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import numpy as np
import pytest

import vecbridge as vb
from vecbridge.cli import output
from vecbridge.schema import FieldType

Run = Callable[..., Any]  # the fixture of conftest.py


@pytest.fixture
def store(run: Run) -> str:
    """A store with a plain and a namespaced collection."""
    url = "faiss:./store"
    with vb.connect(url) as opened:
        plain = vb.CollectionSpec.single(
            "plain", dim=4, metric="l2", index=vb.HNSW(m=8), fields={"year": "int64"}
        )
        with opened.create(plain) as collection:
            collection.upsert(vb.batch(plain, id=["a", "b"], vector=np.eye(4)[:2], year=[1, None]))
        parted = vb.CollectionSpec.single("parted", dim=4, namespaced=True, id_type="int64")
        for namespace in ("eu", "us"):
            with opened.create(parted, if_exists="open", namespace=namespace) as collection:
                collection.upsert(vb.batch(parted, id=[1, 2, 3], vector=np.eye(4)[:3]))
    return url


def test_list(run: Run, store: str) -> None:
    found = run("list", store, "--json").json
    assert found["store"] == store
    parted, plain = found["collections"]
    assert (plain["name"], plain["rows"], plain["dim"], plain["metric"]) == ("plain", 2, 4, "l2")
    assert plain["index"] == "hnsw(m=8, ef_construction=200)"
    assert (parted["rows"], parted["namespaces"]) == (6, ["eu", "us"])
    ran = run("list", store)
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["collection", "parted", "plain"]


def test_list_of_an_empty_store(run: Run) -> None:
    ran = run("list", "faiss:./nothing")
    assert (ran.code, ran.out) == (0, "")
    assert "no collections" in ran.err
    assert run("list", "faiss:./nothing", "--json").json["collections"] == []


def test_a_collection_that_cannot_be_opened_hides_no_other(
    run: Run, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vecbridge.errors import CorruptStoreError
    from vecbridge.store import Store

    whole = Store.open

    def open_(self: Any, name: str, **options: Any) -> Any:
        if name == "parted":
            raise CorruptStoreError("the log is torn")
        return whole(self, name, **options)

    monkeypatch.setattr(Store, "open", open_)
    ran = run("list", store)
    assert ran.code == 1
    assert "plain" in ran.out
    assert "parted: the log is torn" in ran.err


def test_info(run: Run, store: str) -> None:
    found = run("info", f"{store}#plain", "--json").json
    assert found["rows"] == 2
    assert found["disk_bytes"] > 0
    assert vb.CollectionSpec.from_dict(found["spec"]).field("year").type == "int64"
    shown = run("info", f"{store}#plain").out
    for part in (
        "faiss:./store#plain",
        "4 dimensions, l2, hnsw(m=8",
        "not recorded",
        "year",
        "int64",
        "on disk",
    ):
        assert part in shown


def test_info_shows_every_type(run: Run) -> None:
    fields = {f"f{number}": type for number, type in enumerate(get_args(FieldType))}
    with vb.connect("faiss:./store") as opened:
        opened.create(vb.CollectionSpec.single("typed", dim=4, fields=fields)).close()
    lines = run("info", "faiss:./store#typed").out.splitlines()[-len(fields) :]
    assert [tuple(line.split()) for line in lines] == list(fields.items())
    assert run("list", "faiss:./store", "--json").json["collections"][0]["name"] == "typed"


def test_info_of_namespaces(run: Run, store: str) -> None:
    assert "eu, us" in run("info", f"{store}#parted").out
    assert run("info", f"{store}?namespace=eu#parted", "--json").json["rows"] == 3
    assert run("info", f"{store}?namespace=eu#plain").code == 2


def test_info_names_the_model(run: Run, photos: str) -> None:
    assert "bundled, revision" in run("info", photos).out


def test_doctor_reports_working_stores_packages_and_model(run: Run, store: str) -> None:
    ran = run("doctor", store, f"{store}#plain", "memory://", "--json")
    assert ran.code == 0
    found = ran.json
    assert found["ok"] is True
    assert [each["state"] for each in found["stores"]] == ["ok", "ok", "ok"]
    assert found["stores"][1]["detail"].startswith("2 rows")
    packages = {each["name"]: each for each in found["packages"]}
    assert packages["faiss-cpu"]["state"] == "ok"
    for each in packages.values():
        assert each["state"] == "ok" or "pip install '.[" in each["detail"]
    [model] = found["model"]
    assert (model["name"], model["state"]) == ("bundled", "ok")
    assert "256 dimensions" in model["detail"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("faiss:./store#absent", "NotFoundError"),
        ("nonsense://x", "InvalidURLError"),
        ("no url", "InvalidURLError"),
    ],
)
def test_doctor_of_a_store_that_fails(run: Run, store: str, url: str, says: str) -> None:
    ran = run("doctor", store, url)
    assert ran.code == 1
    assert "FAILED" in ran.out
    assert says in ran.out
    assert "2 collections" in ran.out


def test_doctor_does_not_download(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBRIDGE_MODEL", "openai/clip-vit-base-patch32")
    ran = run("doctor", "--json")
    assert ran.code == 0
    assert "not checked" in ran.json["model"][0]["detail"]


def test_doctor_says_what_is_wrong_with_the_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBRIDGE_DEVICE", "abacus")
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert "abacus" in ran.json["model"][0]["detail"]


def test_an_invalid_setting_is_bad_usage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBRIDGE_LOG_LEVEL", "LOUD")
    ran = run("doctor")
    assert ran.code == 2
    assert "VECBRIDGE_LOG_LEVEL" in ran.err


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "true"),
        (0.1, "0.1"),
        (["a", "b"], "a, b"),
        ([1, 0.1 + 0.2], "1, 0.3"),
        (datetime(2024, 5, 17, 12, tzinfo=UTC), "2024-05-17 12:00:00 UTC"),
        (
            datetime(2024, 5, 17, 14, 0, 0, 500, timezone(timedelta(hours=2))),
            "2024-05-17 12:00:00.000500 UTC",
        ),
        (datetime.min.replace(tzinfo=UTC), "0001-01-01 00:00:00 UTC"),
        ([0.5] * 256, "[0.5, 0.5, 0.5, … 256 numbers]"),
        ("a\nb", "a\\nb"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert output.cell(value) == shown


def test_sizes() -> None:
    assert [output.size(n) for n in (0, 999, 1000, 3_400_000, 5e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "3.4 MB",
        "5.0 TB",
    ]


def test_messages_name_options_instead_of_arguments() -> None:
    said = "pass follow_links=True, use model='a/b', name it with id_column=, runtime='torch'"
    assert (
        output.in_options(said) == "pass --follow-links, use --model a/b, name it with --id, --runtime torch"
    )
