"""``--where``: SQL compiles to a filter of the same meaning, or is refused with an error that names it."""

from __future__ import annotations

import string
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbridge.cli.dates import with_dates
from vecbridge.cli.where import parse_where
from vecbridge.errors import ConfigError, SchemaError
from vecbridge.filters import (
    And,
    Cmp,
    Contains,
    Filter,
    In,
    IsEmpty,
    IsNull,
    Not,
    Or,
    field,
    matches,
    normalize,
    require_size,
)
from vecbridge.schema import CollectionSpec

TABLE: list[tuple[str, Filter]] = [
    ("year >= 2020", field("year") >= 2020),
    ("2020 <= year", field("year") >= 2020),
    ("2020 > year", field("year") < 2020),
    ("3 < year", field("year") > 3),
    ("2020 >= year", field("year") <= 2020),
    ("2020 = year", field("year") == 2020),
    ("2020 <> year", field("year") != 2020),
    ("year == 2020", field("year") == 2020),
    ("year <> -3", field("year") != -3),
    ("year != 1.5", field("year") != 1.5),
    ("year < 1e3", field("year") < 1000.0),
    ("year > 9223372036854775807", field("year") > 2**63 - 1),
    ("flag = true", field("flag") == True),  # noqa: E712 - a filter
    ("flag <> FALSE", field("flag") != False),  # noqa: E712
    ("title = 'it''s'", field("title") == "it's"),
    ("title = 'back\\slash'", field("title") == "back\\slash"),
    ("title = 'x -- y; /* z */'", field("title") == "x -- y; /* z */"),
    ("title = ''", field("title") == ""),
    ("título = 'ñandú 🦤'", field("título") == "ñandú 🦤"),
    ("\"case\" = 'a'", field("case") == "a"),
    ("group = 'a' and text = 'b'", (field("group") == "a") & (field("text") == "b")),
    ("year in (1, 2)", field("year").isin([1, 2])),
    ("year in ()", field("year").isin([])),
    ("year not in (1, -2)", ~field("year").isin([1, -2])),
    ("title in ('a', 'b')", field("title").isin(["a", "b"])),
    ("year is null", field("year").is_null()),
    ("year is not null", ~field("year").is_null()),
    ("year between 1 and 3", (field("year") >= 1) & (field("year") <= 3)),
    ("year not between 1 and 3", ~((field("year") >= 1) & (field("year") <= 3))),
    ("contains(tags, 'sea')", field("tags").contains("sea")),
    ("contains(sizes, 3)", field("sizes").contains(3)),
    ("contains(sizes, -0.5)", field("sizes").contains(-0.5)),
    ("is_empty(tags)", field("tags").is_empty()),
    ("not IS_EMPTY(tags)", ~field("tags").is_empty()),
    ("id = 'a'", field("id") == "a"),
    ("id <> 7", field("id") != 7),
    ("id in ('a', 'b')", field("id").isin(["a", "b"])),
    ("id not in (1, 2)", ~field("id").isin([1, 2])),
    ("taken > '2024-01-01'", field("taken") > "2024-01-01"),
    ("CONTAINS(tags, 'sea')", field("tags").contains("sea")),
    ("not contains(tags, 'sea')", ~field("tags").contains("sea")),
    ("a = 1 or b = 2 and c = 3", (field("a") == 1) | ((field("b") == 2) & (field("c") == 3))),
    ("(a = 1 or b = 2) and c = 3", ((field("a") == 1) | (field("b") == 2)) & (field("c") == 3)),
    ("NOT (a = 1)", ~(field("a") == 1)),
    ("(a) = (1)", field("a") == 1),
    ("a = 1 -- a comment", field("a") == 1),
]

REFUSED: list[tuple[str, str]] = [
    ("", "empty"),
    ("year >", "something is missing"),
    ("year = null", "is null"),
    ("year > 1 garbage", "garbage"),
    ("year > 1 group by title", "group by"),
    ("year > 1 limit 5", "limit"),
    ("year > 1; drop table photos", "drop"),
    ("year = 0xff", "xff"),
    ("year = 1e999", "float64"),
    ("year between symmetric 3 and 1", "symmetric"),
    ("year in (select 1)", "SELECT 1"),
    ("year in (1, null)", "is null"),
    ("year in (1, other)", "other"),
    ("'sea' in tags", "tags"),
    ("flag", "compare it"),
    ("true", "compares a field"),
    ("flag is true", "null or not null"),
    ("1 = 1", "field's name"),
    ("a < b", "two columns"),
    ('title = "A"', "single quotes"),
    ("1 < a < 3", "1 < a"),
    ("title like 'A%'", "LIKE"),
    ("lower(title) = 'a'", "LOWER"),
    ("year + 1 = 5", "year + 1"),
    ("year::int = 5", "CAST"),
    ("a.b = 1", "no dot"),
    ("a[0] = 1", "a[0]"),
    ("contains(tags)", "something is missing"),
    ("contains(tags, true)", "texts or numbers"),
    ("contains(tags, null)", "is null"),
    ("contains(tags, 'a', 'b')", "a list and an element"),
    ("is_empty()", "takes a list"),
    ("is_empty(a, b)", "takes a list"),
    ("is_empty('a')", "field's name"),
    ("is_empty(tags) = true", "IS_EMPTY"),
    ("id = null", "is null"),
    ("contains('a', tags)", "single quotes"),
    ("array_contains(tags, 'a')", "array_contains"),
    ("nonsense(tags)", "nonsense"),
    ("a is not distinct from 1", "DISTINCT"),
    ("title = 'a' 'b'", "'a'"),
    ("title = ?", "?"),
    ("title = 'unterminated", "unterminated"[:8]),
    ("case when a = 1 then true end", "CASE"),
    ("exists (select 1)", "EXISTS"),
    ("(" * 500 + "a = 1" + ")" * 500, "nested"),
]


@pytest.mark.parametrize(("sql", "expected"), TABLE, ids=[sql for sql, _ in TABLE])
def test_sql_compiles_to_a_filter_of_the_same_meaning(sql: str, expected: Filter) -> None:
    assert parse_where(sql) == expected


@pytest.mark.parametrize(("sql", "named"), REFUSED, ids=[sql[:40] for sql, _ in REFUSED])
def test_sql_that_no_filter_can_express_is_refused_and_named(sql: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_where(sql)
    message = str(caught.value)
    assert message.startswith("--where: ")
    assert named in message
    assert "\x1b" not in message
    assert "\n" not in message


def test_thousands_of_or_terms_become_one_flat_or() -> None:
    found = parse_where(" or ".join(f"year = {year}" for year in range(3000)))
    require_size(found, depth=2, leaves=3000)
    assert isinstance(found, Or)


# ------------------------------------------------------------------ any filter, written as SQL and read again

names = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12).filter(
    lambda name: name[0].isalpha()
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | numbers | texts
leaves = (
    st.builds(Cmp, names, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), scalars)
    | st.builds(In, names, st.lists(scalars, max_size=4).map(tuple))
    | st.builds(Contains, names, numbers | texts)
    | st.builds(IsEmpty, names)
    | st.builds(IsNull, names)
)
filters = st.recursive(
    leaves,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(lambda a, b: a & b, inner, inner)
        | st.builds(lambda a, b: a | b, inner, inner)
    ),
    max_leaves=12,
)


def sql_of(node: Filter) -> str:
    """A filter as SQL, with every name quoted and every part in parentheses."""
    match node:
        case Cmp(name, op, value):
            return f'"{name}" {"=" if op == "==" else op} {literal(value)}'
        case In(name, values):
            return f'"{name}" in ({", ".join(map(literal, values))})'
        case Contains(name, value):
            return f'contains("{name}", {literal(value)})'
        case IsEmpty(name):
            return f'is_empty("{name}")'
        case IsNull(name):
            return f'"{name}" is null'
        case And(items):
            return " and ".join(f"({sql_of(each)})" for each in items)
        case Or(items):
            return " or ".join(f"({sql_of(each)})" for each in items)
        case Not(item):
            return f"not ({sql_of(item)})"


def literal(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def exact(node: Filter) -> str:
    """repr() tells True from 1 and -0.0 from 0.0, which == does not."""
    return repr(node)


@given(filters)
def test_any_filter_written_as_sql_is_read_back_as_itself(node: Filter) -> None:
    assert exact(parse_where(sql_of(node))) == exact(node)


@given(texts)
def test_any_text_is_compiled_or_refused_with_a_config_error(sql: str) -> None:
    with suppress(ConfigError):
        parse_where(sql)


# ------------------------------------------------------------------------------------------------- times

SPEC = CollectionSpec.single("c", dim=2, fields={"taken": "timestamp", "title": "string"})
NOON = datetime(2024, 5, 17, 12, tzinfo=UTC)
TIMES = [
    ("taken > '2024-05-17'", True),
    ("taken < '2024-05-17'", False),
    ("taken >= '2024-05-17T14:00:00+02:00'", True),
    ("taken > '2024-05-17T12:00:00Z'", False),
    ("taken in ('2024-05-17', '2024-05-17T12:00:00.000000Z')", True),
    ("taken between '2024-05-17' and '2024-05-18'", True),
    ("not (taken < '2024-05-17' or taken > '2024-05-18')", True),
    ("'2024-05-18' > taken", True),
    ("title = '2024-05-17'", True),
]


@pytest.mark.parametrize(("sql", "expected"), TIMES, ids=[sql for sql, _ in TIMES])
def test_a_text_beside_a_timestamp_is_a_time_and_a_bare_date_is_midnight(sql: str, expected: bool) -> None:
    node = normalize(with_dates(parse_where(sql), SPEC), SPEC)
    assert matches(node, {"taken": NOON, "title": "2024-05-17"}) is expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2024-05-17T12:00:00", "write 2024-05-17T12:00:00Z, or another offset"),
        ("2024-05-17 12:00", "write 2024-05-17T12:00:00Z"),
        ("2024-02-31", "'2024-02-31' is no timestamp such as"),
        ("soon", "no timestamp such as 2020-05-17T12:00:00Z"),
    ],
)
def test_a_time_without_an_offset_is_refused_with_a_hint(text: str, says: str) -> None:
    with pytest.raises(SchemaError, match="field 'taken'") as caught:
        normalize(with_dates(parse_where(f"taken > '{text}'"), SPEC), SPEC)
    assert says in str(caught.value)


@given(filters)
def test_filters_without_times_stay_as_they_are(node: Filter) -> None:
    assert exact(with_dates(node, CollectionSpec.single("c", dim=2))) == exact(node)
