"""The planting of faults: entries that fit the code, and a verdict that can be bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mutation import planted

GOOD = {
    "name": "a cursor of any version is read",
    "file": "vecbridge/front/cursors.py",
    "old": "        if version != _VERSION:",
    "new": "        if False:",
    "tests": ["tests/core/test_numbers.py::test_a_slice_of_booleans_is_that_slice"],
}


@pytest.mark.parametrize("fault", planted.read(), ids=lambda fault: fault.name)
def test_each_fault_can_be_planted_in_the_code_as_it_is(fault: Any) -> None:
    assert planted.misfit(fault) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"old": "no such text"}, "0 times"),
        ({"old": "raise ConfigError"}, "6 times"),
        ({"file": "vecbridge/nothing.py"}, "No such file"),
        ({"new": "        if:"}, "no Python"),
        (
            {"tests": ["tests/core/test_numbers.py::test_nothing"]},
            "there is no tests/core/test_numbers.py::test_n",
        ),
        ({"tests": ["tests/core/test_nothing.py::test_nothing"]}, "there is no tests/core/test_nothing.py"),
    ],
    ids=str,
)
def test_an_entry_that_does_not_fit_the_code_is_named(
    change: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(toml(GOOD | change), "utf-8")
    assert planted.main(["--file", str(path)]) == 2
    assert f"{GOOD['name']}: " in capsys.readouterr().err
    assert why in str(planted.misfit(*planted.read(path)))


def test_a_name_that_comes_twice_and_a_missing_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(toml(GOOD) + toml(GOOD), "utf-8")
    with pytest.raises(ValueError, match="comes twice"):
        planted.read(path)
    path.write_text(toml({key: value for key, value in GOOD.items() if key != "new"}), "utf-8")
    with pytest.raises(ValueError, match="an entry has"):
        planted.read(path)


def test_a_fault_that_no_test_catches_is_named_and_the_status_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three faults one is caught; the test of another does not look there; the last cannot be imported."""
    root, path = planted.ROOT, tmp_path / "faults.toml"
    before = {file: (root / file).read_bytes() for file in ("vecbridge/names.py", GOOD["file"])}
    caught = GOOD | {
        "name": "a fault that is caught",
        "old": "_PARTS: Final = 6",
        "new": "_PARTS: Final = 7",
        "tests": [
            "tests/front/test_collection.py::test_pages_without_rows_are_passed_over_and_their_keys_are_not_lost"
        ],
    }
    broken = GOOD | {"name": "a fault that cannot be imported", "new": "        if True:", "old": GOOD["old"]}
    broken |= {"old": "_VERSION: Final = 1", "new": "_VERSION: Final = nothing"}
    path.write_text(toml(GOOD) + toml(caught) + toml(broken), "utf-8")
    assert planted.main(["--file", str(path), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "1 of 3 caught" in out
    assert f"survived: {GOOD['name']}\n" in out
    assert f"broken: {broken['name']}\n" in out
    assert before == {file: (root / file).read_bytes() for file in before}


def toml(fault: dict[str, Any]) -> str:
    lines = [f"{key} = {value if isinstance(value, list) else repr(value)}" for key, value in fault.items()]
    return "\n".join(["[[fault]]", *lines, ""])
