"""Filters: a small closed AST, its JSON form, its rules and its reference meaning.

One rule governs null: a null or missing value matches :class:`IsNull` and nothing else, also under
``Not``. :func:`normalize` therefore pushes ``Not`` down to the leaves, so that a compiler meets it
only around ``In``, ``Contains``, ``IsEmpty`` and ``IsNull``, where it means "has a value, and not so".

One rule governs depth: it is that of the normal form, where And in And is one level and ``Not`` is none.
No function here recurses before :func:`require_size` has measured the filter, so that one of any depth is
read or refused with a typed error.

Example:
    >>> import vecbridge as vb
    >>> condition: vb.Filter = vb.field("year").isin([2020, 2021]) | vb.field("title").is_null()
    >>> to_dict(condition)
    {'or': [{'field': 'year', 'op': 'in', 'value': [2020, 2021]}, {'field': 'title', 'op': 'is_null'}]}

    Starting from a filter that matches every row, conditions can be added one by one:

    >>> vb.everything & (vb.field("year") > 2020)
    And(items=(Cmp(name='year', op='>', value=2020),))
"""

from vecbridge.filters.form import from_dict, from_json, to_dict
from vecbridge.filters.nodes import (
    COMPARE,
    And,
    AnyFilter,
    Cmp,
    Contains,
    FieldRef,
    Filter,
    In,
    IsEmpty,
    IsNull,
    Not,
    Op,
    Or,
    Scalar,
    everything,
    field,
)
from vecbridge.filters.normal import INT64_MAX, INT64_MIN, TYPE_OPERATORS, folded, matches, normalize
from vecbridge.filters.shape import (
    MAX_DEPTH,
    MAX_LEAVES,
    field_names,
    operators,
    ordered_names,
    require_size,
)

__all__ = [
    "COMPARE",
    "INT64_MAX",
    "INT64_MIN",
    "MAX_DEPTH",
    "MAX_LEAVES",
    "TYPE_OPERATORS",
    "And",
    "AnyFilter",
    "Cmp",
    "Contains",
    "FieldRef",
    "Filter",
    "In",
    "IsEmpty",
    "IsNull",
    "Not",
    "Op",
    "Or",
    "Scalar",
    "everything",
    "field",
    "field_names",
    "folded",
    "from_dict",
    "from_json",
    "matches",
    "normalize",
    "operators",
    "ordered_names",
    "require_size",
    "to_dict",
]
