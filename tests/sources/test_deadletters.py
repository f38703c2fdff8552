"""Dead letters are one line of strict JSON each, whatever is in them."""

import json
import math
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vecbridge.sources.deadletters import DeadLetter, printable

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@given(st.text(), st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_any_record_is_one_line_of_strict_json(id, record):
    line = DeadLetter(id, "a", "b", record).to_json()
    assert "\n" not in line
    values = json.loads(line.encode(), parse_constant=refuse)
    assert list(values) == ["id", "source", "error", "record"]
    assert values["id"] == id


def test_numbers_that_json_lacks_are_named():
    line = DeadLetter(1, None, "e", {"vector": [math.nan, math.inf, -math.inf, 1.5]}).to_json()
    assert json.loads(line)["record"] == {"vector": ["NaN", "Infinity", "-Infinity", 1.5]}


def test_values_without_a_json_form_get_an_exact_one():
    record = {"n": np.int64(5), "x": np.float32(0.5), "v": np.ones(2), "b": b"x", "d": Decimal("1E+2")}
    assert json.loads(DeadLetter("a", None, "e", record).to_json())["record"] == {
        "n": 5,
        "x": 0.5,
        "v": [1.0, 1.0],
        "b": {"$binary": "eA=="},
        "d": "100",
    }


def test_paths_are_printable_whatever_their_bytes():
    assert printable("añb") == "añb"
    assert printable("a\udcff") == "a\\xff"
    assert printable("a\ud800") == "a\\ud800"
    DeadLetter("a", "b\udcff", "c").to_json().encode()
