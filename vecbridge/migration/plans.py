"""A plan: what a migration reads and writes, and everything that is lost or changed on the way; plain data.

A plan is made once, by :func:`vecbridge.plan`, and pinned: the copy, the verification and every later sync
convert rows by it, so that all of them speak of the same rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.names import is_namespace
from vecbridge.schema import CollectionSpec

FORMAT: Final = 1
_SCHEMA_KINDS: Final = frozenset({"index", "quantization", "sparse", "null"})
_NAMED_KINDS: Final = ("field:", "vector:")
_ROW_KINDS: Final = frozenset(
    {
        "size", "id", "int_width", "namespace",
        "row:no_vector", "row:zero_vector", "row:not_finite", "row:id",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of the source that the target does not get as it is.

    Attributes:
        kind: From the closed set: of the schema "index", "quantization", "field:NAME", "vector:NAME",
            "sparse", "null"; of rows "size", "id", "int_width", "namespace", "row:no_vector",
            "row:zero_vector", "row:not_finite", "row:id". "metric" is one that cannot be allowed.
        subject: The column, or what else it is about.
        detail: What happens to it, for people.
        certain: False where it depends on the values of rows, and nobody has looked at all of them.
        rows: How many rows it meets, where they were counted.

    Example:
        >>> import vecbridge as vb
        >>> loss = vb.Loss("index", "vector", "no ivf_pq; there are auto, flat")
        >>> loss.certain, loss.of_rows
        (True, False)
    """

    kind: str
    subject: str
    detail: str
    certain: bool = True
    rows: int | None = None

    @property
    def of_rows(self) -> bool:
        """Whether single rows are lost, and not a part of the schema."""
        return self.kind in _ROW_KINDS


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the target.

    Attributes:
        name: In the target.
        source: In the source, as ``Plan.source_spec`` names it.
    """

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class NamespacePlan:
    """Where the rows of a namespace go.

    Attributes:
        source: The namespace of the source.
        target: The namespace of the target.
        rows: Rows of it when the plan was made.
    """

    source: str
    target: str
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """How large a migration is.

    Attributes:
        rows: Rows of the source that it copies.
        bytes: Bytes of the requests as the target encodes them; where it stores files, of the rows in memory.
            From a sample of about 1,000 rows unless ``exact``.
        requests: Write requests: pages of the source, each cut as the target needs it.
        seconds: From the shortest to the longest time that it may take; None if there were no rows to
            measure. The shortest is that of reading and encoding alone, as measured, one page after the
            other; the longest is ten times as long, for nobody knows how fast the target writes.
        exact: Whether every row was read and encoded.
    """

    rows: int = 0
    bytes: int = 0
    requests: int = 0
    seconds: tuple[float, float] | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration does.

    Attributes:
        source: URL of the source collection, without login.
        target: URL of the target collection, without login.
        source_spec: The spec of the source as it was opened for the plan. Rows of a source without a schema,
            whose spec differs from one look to the next, are laid out by this one.
        source_identity: Which collection of its name the source is.
        extra: The json column of ``source_spec`` that takes the keys outside its other columns; None where
            the source has a schema.
        spec: What is created at the target.
        columns: Where each column of the target comes from, "id" apart; in the order of ``spec``.
        namespaces: What was there when the plan was made. One that is added later is copied under its own
            name, unless ``only`` names one.
        only: The one namespace that is copied; None is all.
        into: The namespace of the target that takes all rows; None where each keeps its name.
        filter: Only rows that match, as JSON; None is all of them.
        id_template: How ids of the target are built, such as "{namespace}/{id}"; None leaves them as they
            are.
        losses: Everything that is lost or changed.
        size: How large it is.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory:///plans") as store:
        ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2), if_exists="open")
        ...     plan = vb.plan("memory:///plans#photos", "memory:///others#photos")
        >>> plan.losses, plan.spec == photos.spec, vb.Plan.from_json(plan.to_json()) == plan
        ((), True, True)
    """

    source: str
    target: str
    source_spec: CollectionSpec
    source_identity: str
    spec: CollectionSpec
    columns: tuple[Column, ...]
    extra: str | None = None
    namespaces: tuple[NamespacePlan, ...] = ()
    only: str | None = None
    into: str | None = None
    filter: Mapping[str, Any] | None = None
    id_template: str | None = None
    losses: tuple[Loss, ...] = ()
    size: Size = field(default=Size(), compare=False)

    def __post_init__(self) -> None:
        for name in ("columns", "namespaces", "losses"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def target_namespace(self, source: str) -> str:
        """Where the rows of a namespace of the source go."""
        return source if self.into is None else self.into

    def reaches(self, source: str) -> bool:
        """Whether the target can have the namespace to which rows of the source's would go."""
        return is_namespace(self.target_namespace(source))

    @property
    def renamed(self) -> dict[str, str]:
        """Columns whose names differ: the target's name by the source's."""
        return {column.source: column.name for column in self.columns if column.source != column.name}

    @property
    def dropped(self) -> tuple[str, ...]:
        """Columns of the source that the target does not have."""
        kept = {column.source for column in self.columns}
        return tuple(name for name in self.source_spec.column_names if name != "id" and name not in kept)

    def refused(self, allow: Iterable[str]) -> tuple[Loss, ...]:
        """The losses that nobody allowed: certain ones of the schema, and what can never be allowed."""
        allowed = frozenset(allow) - {"metric"}
        return tuple(
            loss for loss in self.losses if loss.certain and not loss.of_rows and loss.kind not in allowed
        )

    def digest(self) -> str:
        """Of everything that decides what a row becomes, and where it goes; sizes do not count."""
        values = self.to_dict()
        for name in ("losses", "size", "namespaces"):
            del values[name]
        text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, without credentials; :meth:`from_dict` is the inverse."""
        return {
            "format": FORMAT,
            "source": self.source,
            "target": self.target,
            "source_spec": self.source_spec.to_dict(),
            "source_identity": self.source_identity,
            "extra": self.extra,
            "spec": self.spec.to_dict(),
            "columns": [asdict(column) for column in self.columns],
            "namespaces": [asdict(each) for each in self.namespaces],
            "only": self.only,
            "into": self.into,
            "filter": self.filter,
            "id_template": self.id_template,
            "losses": [asdict(loss) for loss in self.losses],
            "size": asdict(self.size),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ConfigError: No plan, or one of a newer vecbridge.
        """
        try:
            if (format := values["format"]) != FORMAT:
                raise ConfigError(f"a plan of format {format!r}, and this vecbridge reads format {FORMAT}")
            seconds = values["size"]["seconds"]
            plan = cls(
                values["source"],
                values["target"],
                CollectionSpec.from_dict(values["source_spec"], foreign=True),
                values["source_identity"],
                CollectionSpec.from_dict(values["spec"], foreign=True),  # create() refuses such names
                tuple(Column(**each) for each in values["columns"]),
                values["extra"],
                tuple(NamespacePlan(**each) for each in values["namespaces"]),
                values["only"],
                values["into"],
                values["filter"],
                values["id_template"],
                tuple(Loss(**each) for each in values["losses"]),
                Size(**values["size"] | {"seconds": None if seconds is None else tuple(seconds)}),
            )
        except (KeyError, TypeError, SchemaError) as exc:
            raise ConfigError(f"not a plan: {exc!r}") from exc
        if unknown := {column.source for column in plan.columns} - set(plan.source_spec.column_names):
            raise ConfigError(f"not a plan: its source has no column {min(unknown)!r}")
        if ("id", *(column.name for column in plan.columns)) != plan.spec.column_names:
            raise ConfigError("not a plan: its columns are not those of its spec")
        return plan

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ConfigError: No plan, or one of a newer vecbridge.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"not a plan: {exc}") from exc
        if not isinstance(values, dict):
            raise ConfigError("not a plan: no JSON object")
        return cls.from_dict(values)

    @classmethod
    def load(cls, plan: Plan | str | os.PathLike[str]) -> Plan:
        """A plan as it is, or from a file.

        Raises:
            ConfigError: The file cannot be read, or holds no plan.
        """
        if isinstance(plan, Plan):
            return plan
        try:
            text = Path(plan).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"plan {os.fspath(plan)!r}: {exc}") from exc
        return cls.from_json(text)

    def require_sides(self, source: str, target: str) -> None:
        """Refuses URLs that the plan is not of.

        Raises:
            ConfigError: Names both.
        """
        for what, planned, given in (("source", self.source, source), ("target", self.target, target)):
            if planned != given:
                raise ConfigError(f"the plan is of the {what} {planned}, not {given}")

    def with_losses(self, losses: Iterable[Loss]) -> Self:
        """The same plan with other losses."""
        return replace(self, losses=tuple(losses))

    def with_size(self, size: Size, losses: Iterable[Loss]) -> Self:
        """The same plan with what a look at the rows has found."""
        return replace(self, size=size, losses=tuple(losses))


def require_kinds(kinds: Iterable[str]) -> frozenset[str]:
    """Kinds of losses that may be allowed.

    Raises:
        ConfigError: One that is none, or that nothing allows.
    """
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in kinds:
        if kind == "metric":
            raise ConfigError("allow='metric': nothing converts one metric into another")
        named = any(kind.startswith(start) and kind != start for start in _NAMED_KINDS)
        if not named and kind not in _SCHEMA_KINDS | _ROW_KINDS:
            known = ", ".join([*sorted(_SCHEMA_KINDS), "field:NAME", "vector:NAME", *sorted(_ROW_KINDS)])
            raise ConfigError(f"allow={kind!r}: no such loss; there are: {known}")
    return frozenset(kinds)


#: What a level of a verification compares; each includes those before it.
Level = Literal["count", "ids", "content", "search"]
