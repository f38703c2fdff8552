"""What a verification found: plain data, and its JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np

from vecbridge import timestamps
from vecbridge.migration.plans import Level, Plan

LEVELS: Final[tuple[Level, ...]] = ("count", "ids", "content", "search")
_LONGEST: Final = 200  # characters of a value that a report shows
_NUMBERS: Final = 4  # of a vector that a report shows


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold.

    Attributes:
        kind: What it is: of the schema "metric", "dim", "id_type", "embedder", "index", "field:NAME missing",
            "field:NAME type", "field:NAME extra" and the same of "vector:NAME"; of the rows "namespace",
            "empty", "count", "missing", "extra", "repeated", "value", "vector"; of searches "recall",
            "scores", "queries"; "moved" where the source changed meanwhile.
        detail: What it is, in a sentence without values of rows.
        namespace: At the target; None where it is about all of them.
        id: Of the row at the target; None where it is about no single row.
        column: Of the row; None where it is about all of it.
        source: The value at the source as text, where two values differ.
        target: The value at the target.

    Example:
        >>> import vecbridge as vb
        >>> spec = vb.CollectionSpec.single("photos", dim=2)
        >>> for name, rows in (("whole", ["a", "b"]), ("short", ["a"])):
        ...     with vb.connect(f"memory:///{name}") as store:
        ...         photos = store.create(spec, if_exists="replace")
        ...         report = photos.upsert(vb.batch(spec, id=rows, vector=[[1, 0]] * len(rows)))
        >>> [finding, _] = vb.verify("memory:///whole#photos", "memory:///short#photos", level="ids").findings
        >>> finding.kind, finding.detail
        ('count', '2 rows at the source, 1 at the target')
    """

    kind: str
    detail: str
    namespace: str | None = None
    id: str | int | None = None
    column: str | None = None
    source: str | None = None
    target: str | None = None

    def to_dict(self, *, values: bool = True) -> dict[str, Any]:
        """As JSON values.

        Args:
            values: Whether to show the values of the row.
        """
        shown = asdict(self)
        if not values:
            del shown["source"], shown["target"]
        return shown


@dataclass(frozen=True, slots=True)
class NamespaceCount:
    """Rows of a namespace.

    Attributes:
        namespace: At the target.
        sources: Namespaces of the source whose rows go there.
        source: Rows at the source, those of the plan's filter alone.
        target: Rows at the target.
    """

    namespace: str
    sources: tuple[str, ...]
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Recall:
    """How well both sides answer some searches, against an exact answer over the source.

    Attributes:
        vector: The vector field.
        namespace: At the target; None for all of them together.
        filter: The filter as JSON; None for searches without one.
        share: Share of the rows that match.
        queries: How many were asked.
        expected: Hits that an exact search has, over all queries.
        target: Recall of the target, from 0 to 1.
        source: Recall of the source; None where it was not asked.
        low: Lower end of the 95 % interval of the target's recall.
        required: The recall that had to be reached.
        passed: Whether it was.
        agreement: Share of the ranks at which both sides have the same id; shown, never judged.
            None if the source was not asked.
    """

    vector: str
    namespace: str | None
    filter: Mapping[str, Any] | None
    share: float
    queries: int
    expected: int
    target: float
    source: float | None
    low: float
    required: float
    passed: bool
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the same hit on both sides, some of them.

    Attributes:
        vector: The vector field.
        source: Score at the source.
        target: Score at the target.
    """

    vector: str
    source: tuple[float, ...] = ()
    target: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verification found.

    Attributes:
        passed: Whether everything holds that the level asks for.
        findings: What does not hold.
        level: How far it went: "count", "ids", "content" or "search".
        source: URL of the source, without login.
        target: URL of the target, without login.
        namespaces: Rows on both sides, by namespace.
        recall: Of the level "search".
        scores: Of the level "search".
        notes: What else there is to say; nothing that fails.
        versions: Of vecbridge and of the packages that it used.
        plan: What the copy was compared by.
        finished: When it ended.
        seconds: How long it took, by step.
        compared: Rows whose ids or contents were compared.
        derived: Whether the plan was made from the two specs, because none was given.

    Example:
        >>> import vecbridge as vb
        >>> with vb.connect("memory:///here") as store:
        ...     photos = store.create(vb.CollectionSpec.single("photos", dim=2), if_exists="replace")
        ...     report = photos.upsert([{"id": "a", "vector": [1, 0]}])
        ...     copied = vb.migrate("memory:///here#photos", "memory:///there#photos", into="existing")
        ...     proof = vb.verify("memory:///here#photos", "memory:///there#photos", level="content")
        >>> proof.passed, proof.findings, proof.compared
        (True, (), 1)
    """

    passed: bool
    findings: tuple[Finding, ...]
    level: Level
    source: str
    target: str
    namespaces: tuple[NamespaceCount, ...]
    plan: Plan
    finished: datetime
    recall: tuple[Recall, ...] = ()
    scores: tuple[Scores, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    compared: int = 0
    derived: bool = False

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the source and of the target."""
        return sum(each.source for each in self.namespaces), sum(each.target for each in self.namespaces)

    def shown_namespace(self, finding: Finding) -> str | None:
        """The namespace of a finding for people: the default one has a name where there are others."""
        if finding.namespace == "":
            return "(default)" if len(self.namespaces) > 1 else None
        return finding.namespace

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of the copy and of this verification, as they are typed."""
        return (
            f"vecbridge migrate '{self.source}' '{self.target}'",
            f"vecbridge verify '{self.source}' '{self.target}' --level {self.level}",
        )

    def to_dict(self, *, values: bool = True) -> dict[str, Any]:
        """As JSON values, without credentials.

        Args:
            values: Whether to show the values of rows that differ, and the values that filters were made of.
        """
        return {
            "passed": self.passed,
            "level": self.level,
            "source": self.source,
            "target": self.target,
            "findings": [each.to_dict(values=values) for each in self.findings],
            "namespaces": [asdict(each) for each in self.namespaces],
            "compared": self.compared,
            "recall": [_recall(each, values=values) for each in self.recall],
            "scores": [asdict(each) for each in self.scores],
            "notes": list(self.notes),
            "versions": dict(self.versions),
            "plan": self.plan.to_dict(),
            "derived": self.derived,
            "finished": timestamps.text(self.finished),
            "seconds": {name: round(each, 3) for name, each in self.seconds.items()},
            "commands": list(self.commands),
        }

    def to_json(self, *, values: bool = True) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(values=values), ensure_ascii=False, indent=2) + "\n"

    def to_html(self, *, values: bool = True) -> str:
        """The same as one HTML page with everything inside: no script, no file beside it, below 1 MB."""
        from vecbridge.migration.report import page

        return page(self, values=values)


def shown(value: Any) -> str:
    """A value of a row as text for a finding; long ones are cut."""
    if isinstance(value, datetime):
        return timestamps.text(timestamps.utc(value))
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, np.ndarray):
        text = f"[{', '.join(f'{number:.9g}' for number in value[:_NUMBERS])}{_more(value)}]"
    else:
        text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _more(vector: np.ndarray[Any, Any]) -> str:
    return ", …" if len(vector) > _NUMBERS else ""


def _recall(recall: Recall, *, values: bool) -> dict[str, Any]:
    found = asdict(recall)
    if not values and recall.filter is not None:
        found["filter"] = "not shown"
    return found
