"""Points in time: what is one, and that every form of it is exact."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecbridge as vb
from vecbridge import timestamps
from vecbridge.testing.strategies import ODD_TIMES, times

SPEC = vb.CollectionSpec.single("photos", dim=1, fields={"taken": "timestamp"})


@given(times())
def test_text_and_microseconds_are_exact_and_in_order(moment: datetime) -> None:
    text, number = timestamps.text(moment), timestamps.microseconds(moment)
    assert timestamps.utc(text) == timestamps.of_microseconds(number) == moment
    assert len(text) == len("2020-05-17T12:00:00.000000Z")
    assert number == pa.scalar(moment, pa.timestamp("us", "UTC")).value
    assert timestamps.EARLIEST <= number <= timestamps.LATEST


@given(st.lists(times(), min_size=2, max_size=2))
def test_texts_are_in_the_order_of_their_times(pair: list[datetime]) -> None:
    one, other = pair
    assert (timestamps.text(one) < timestamps.text(other)) == (one < other)


@pytest.mark.parametrize(
    ("value", "utc"),
    [
        (datetime(2020, 5, 17, 12, tzinfo=timezone(timedelta(hours=2))), "2020-05-17T10:00:00.000000Z"),
        ("2020-05-17T12:00:00-05:30", "2020-05-17T17:30:00.000000Z"),
        ("2020-05-17 12:00:00.5Z", "2020-05-17T12:00:00.500000Z"),
        ("20200517T120000Z", "2020-05-17T12:00:00.000000Z"),
        ("2020-05-17T12:00:00.123456000Z", "2020-05-17T12:00:00.123456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_with_a_zone_are_taken(value: Any, utc: str) -> None:
    assert timestamps.text(timestamps.utc(value)) == utc
    [row] = vb.batch(SPEC, id=["a"], vector=[[1]], taken=[value]).to_pylist()
    assert timestamps.text(row["taken"].astimezone(UTC)) == utc


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime(2020, 5, 17), "no time zone: give it tzinfo=UTC"),
        ("2020-05-17T12:00:00", "write 2020-05-17T12:00:00Z"),
        ("2020-05-17", "no time zone"),
        (date(2020, 5, 17), "no time of day"),
        ("yesterday", "is no timestamp"),
        (1589716800, "is no timestamp"),
        ("2020-05-17T12:00:00.1234567Z", "finer than microseconds"),
        ("0001-01-01T00:00:00+01:00", "years 1 to 9999"),
        ("9999-12-31T23:59:59-01:00", "years 1 to 9999"),
        ("2020-02-30T00:00:00Z", "is no timestamp"),
    ],
)
def test_what_is_no_time_or_has_no_zone_is_refused_with_its_row(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        timestamps.utc(value)
    with pytest.raises(vb.InvalidRecordError, match=words) as caught:
        vb.batch(SPEC, id=["a", "b"], vector=[[1], [2]], taken=["2020-01-01T00:00:00Z", value])
    assert [failure.row for failure in caught.value.rows] == [1]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
def test_arrow_timestamps_of_any_unit_and_zone_are_taken(unit: str, zone: str) -> None:
    moments = [datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), None, datetime(2020, 5, 17, tzinfo=UTC)]
    column = pa.array(moments, pa.timestamp(unit, zone))
    batch = vb.batch(SPEC, id=["a", "b", "c"], vector=[[1]] * 3, taken=column)
    assert batch.column("taken").type == pa.timestamp("us", "UTC")
    assert batch.column("taken").to_pylist() == moments


def test_arrow_timestamps_that_do_not_fit_are_refused_with_their_rows() -> None:
    limits = [timestamps.microseconds(time) for time in (ODD_TIMES[0], ODD_TIMES[-1])]
    for values, unit, wrong in (
        ([999, 1000, -1, None], "ns", [0, 2]),
        ([limits[0] - 1, limits[0], limits[1], limits[1] + 1], "us", [0, 3]),
        (
            [limits[0] // 10**6 - 1, limits[0] // 10**6, limits[1] // 10**6, limits[1] // 10**6 + 1],
            "s",
            [0, 3],
        ),
        ([2**62, None, -(2**62), 0], "ms", [0, 2]),
    ):
        column = pa.array(values, pa.int64()).cast(pa.timestamp(unit, "UTC"))
        with pytest.raises(vb.InvalidRecordError) as caught:
            vb.batch(SPEC, id=list("abcd"), vector=[[1]] * 4, taken=column)
        assert [failure.row for failure in caught.value.rows] == wrong
    for naive in (pa.array([0], pa.timestamp("us")), pa.array([0], pa.date32()), pa.array([0])):
        with pytest.raises(vb.InvalidRecordError, match="not a timestamp with a time zone"):
            vb.batch(SPEC, id=["a"], vector=[[1]], taken=naive)
