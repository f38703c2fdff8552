"""Points in time: microseconds since 1970 in UTC, years 1 to 9999, as Python, text and whole numbers.

The text is ISO 8601 with six digits after the point and a Z, so that texts are in the order of their times.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: Microseconds since 1970 of the first and the last timestamp there is.
EARLIEST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_BEYOND_MICROSECONDS: Final = re.compile(r"[.,]\d{6}\d*[1-9]")


def utc(value: Any) -> datetime:
    """A timestamp in UTC.

    Args:
        value: A datetime with a time zone, or ISO 8601 text with an offset or Z.

    Raises:
        ValueError: No time zone, finer than microseconds, outside of the years 1 to 9999 in UTC, or no
            timestamp at all. The message says what is wrong, and not with which field.

    Example:
        >>> utc("2020-05-17T12:00:00+02:00")
        datetime.datetime(2020, 5, 17, 10, 0, tzinfo=datetime.timezone.utc)
        >>> utc("2020-05-17 12:00")
        Traceback (most recent call last):
            ...
        ValueError: '2020-05-17 12:00' has no time zone: write 2020-05-17T12:00:00Z, or another offset
    """
    moment = _parsed(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        what = "has no time of day" if isinstance(value, date) else "is no timestamp"
        raise ValueError(f"{_shown(value)} {what}: give a datetime with a time zone, or ISO 8601 text")
    if moment.utcoffset() is None:
        example = moment.replace(tzinfo=None).isoformat()
        hint = f"write {example}Z, or another offset" if isinstance(value, str) else "give it tzinfo=UTC"
        raise ValueError(f"{_shown(value)} has no time zone: {hint}")
    if getattr(moment, "nanosecond", 0):  # a pandas.Timestamp
        raise ValueError(f"{_shown(value)} is finer than microseconds")
    try:
        moment = moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError(f"{_shown(value)} is outside of the years 1 to 9999 in UTC") from None
    plain = (moment.hour, moment.minute, moment.second, moment.microsecond)
    return datetime(moment.year, moment.month, moment.day, *plain, tzinfo=UTC)


def text(value: datetime) -> str:
    """ISO 8601 with six digits and a Z.

    Args:
        value: In UTC, as :func:`utc` returns it.

    Example:
        >>> text(utc("2020-05-17T12:00:00+02:00"))
        '2020-05-17T10:00:00.000000Z'
    """
    return value.strftime(f"{value.year:04d}-%m-%dT%H:%M:%S.%fZ")


def readable(value: datetime) -> str:
    """A timestamp for people, with digits after the point only where there are any.

    Args:
        value: With a time zone.

    Example:
        >>> readable(utc("2020-05-17T12:00:00+02:00")), readable(utc("2020-05-17T12:00:00.5Z"))
        ('2020-05-17 10:00:00 UTC', '2020-05-17 12:00:00.500000 UTC')
    """
    return f"{utc(value).replace(tzinfo=None).isoformat(' ')} UTC"


def microseconds(value: datetime) -> int:
    """Microseconds since 1970, exactly.

    Args:
        value: In UTC, as :func:`utc` returns it.
    """
    return (value - _EPOCH) // _MICROSECOND


def of_microseconds(value: int) -> datetime:
    """The inverse of :func:`microseconds`."""
    return _EPOCH + timedelta(microseconds=value)


def _parsed(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no timestamp such as 2020-05-17T12:00:00Z") from None
    if _BEYOND_MICROSECONDS.search(value):
        raise ValueError(f"{_shown(value)} is finer than microseconds")
    return moment


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
