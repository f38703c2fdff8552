"""Do searches find at the target what they should? Both sides are asked, and an exact search decides."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge import records
from vecbridge.bulk.delivery import Backoff
from vecbridge.errors import BackendError, DeadlineError
from vecbridge.migration import drawing, judging
from vecbridge.migration.drawing import Drawn
from vecbridge.migration.judging import Answers, Judged
from vecbridge.migration.oracle import Best, Mask, Oracle
from vecbridge.migration.proof import Finding, Recall, Scores
from vecbridge.migration.scope import Scope
from vecbridge.query import FloatArray, Hits, Query

K: Final = 10
MOST_QUERIES: Final = 1_000
LEAST_QUERIES: Final = 100
_FULL_EFFORT_ROWS: Final = 1_000_000  # up to which so many queries are asked
_LEAST_OF_A_NAMESPACE: Final = 10
_LEAST_OF_A_FILTER: Final = 100
_MOST_OF_GIVEN: Final = 10_000  # pairs of a query of the user and a namespace
_SAMPLE: Final = 2_000
_MERGED: Final = 8  # namespaces of the source whose hits are merged
_SEED: Final = 14


@dataclass(slots=True, eq=False)
class _Asked:
    """What is asked in one namespace of the target.

    Attributes:
        queries: By vector field.
        groups: Queries under each filter, the first of them without one.
        oracles: By vector field.
    """

    queries: dict[str, FloatArray]
    groups: list[int]
    oracles: dict[str, Oracle] = field(default_factory=dict)


class SearchLevel:
    """The level "search": draws queries, takes in the rows of the source as they are read, asks and judges.

    Args:
        scope: Both sides.
        rows: Rows of the source by namespace of the target.
        vectors: The vector fields that can be searched on both sides.
        queries: The user's own, float32, shape (n, dim); None draws them.

    Attributes:
        recall: What was found.
        scores: Scores of the same hits on both sides.
        notes: What else there is to say.
    """

    def __init__(
        self, scope: Scope, rows: Mapping[str, int], vectors: Sequence[str], queries: FloatArray | None
    ) -> None:
        self._scope, self._given = scope, queries
        self._random = np.random.default_rng(_SEED)
        self._mutex = threading.Lock()
        spec = scope.plan.spec
        self._vectors = [each for each in spec.vectors if each.name in set(vectors)]
        if queries is not None:
            self._vectors = [each for each in self._vectors if each.dim == queries.shape[1]]
        self._filters: list[Drawn] = []
        self._asked: dict[str, _Asked] = {}
        self.recall: list[Recall] = []
        self.scores: list[Scores] = []
        self.notes: list[str] = []
        if self._vectors:
            self._draw({name: rows.get(name, 0) for name in scope.targets})

    def add(self, namespace: str, batch: Any) -> None:
        """Compares rows of the source with the queries of their namespace.

        Args:
            namespace: At the target.
            batch: In the schema of the target.
        """
        asked = self._asked.get(namespace)
        if asked is None:
            return
        masks: list[Mask | None] = [None, *(each.mask(batch) for each in self._filters)]
        with self._mutex:  # several namespaces of the source may go to this one
            for name, oracle in asked.oracles.items():
                if not batch.column(name).null_count:
                    oracle.add(batch.column("id"), records.vectors(batch, name), masks)

    def judge(self, min_recall: float | None) -> list[Finding]:
        """Asks both sides, and compares their answers with the exact ones."""
        findings = [
            Finding("queries", "its searches were not compared", column=each.name)
            for each in self._scope.plan.spec.vectors
            if each not in self._vectors
        ]
        if not any(len(each) for asked in self._asked.values() for each in asked.queries.values()):
            findings.append(Finding("queries", "there was nothing to search for"))
            return findings
        for vector in self._vectors:
            declared = self._scope.target.collection(self._scope.targets[0]).spec.vector_field(vector.name)
            exact = self._scope.target.store.capabilities.exact_scores or not declared.index.quantized
            judged = self._judged(vector.name)
            found, recall, scores = judging.verdict(
                vector.name, judged, self._filters, declared.index, min_recall, exact_scores=exact
            )
            findings += found
            self.recall += recall
            self.scores.append(scores)
        return findings

    # ------------------------------------------------------------------------------------------ drawing

    def _draw(self, rows: Mapping[str, int]) -> None:
        """Queries for each namespace, and filters for all of them."""
        all_rows = sum(rows.values())
        budget = MOST_QUERIES
        if all_rows > _FULL_EFFORT_ROWS:
            budget = max(LEAST_QUERIES, MOST_QUERIES * _FULL_EFFORT_ROWS // all_rows)
        names = [name for name, count in rows.items() if count]
        if len(names) > budget // _LEAST_OF_A_NAMESPACE:
            most = budget // _LEAST_OF_A_NAMESPACE
            self.notes.append(f"searches are compared in {most} of {len(names)} namespaces, chosen by chance")
            names = sorted(self._random.choice(names, most, replace=False).tolist())
        counts = drawing.shares(budget, [rows[name] for name in names], _LEAST_OF_A_NAMESPACE)
        samples = {}
        for name, count in zip(names, counts, strict=True):
            wanted = max(count, _SAMPLE * rows[name] // max(all_rows, 1))
            if (batch := drawing.sample(self._scope, name, wanted, self._random)) is not None:
                samples[name] = batch, count
        if samples:
            together = pa.concat_batches([batch for batch, _ in samples.values()])
            self._filters = drawing.filters_of(together, self._scope)
        drawn = {each.near for each in self._filters}
        missing = [f"{near:.0%}" for near in drawing.SHARES if near not in drawn]
        if missing:
            self.notes.append(f"no filter of the data matches about {' or '.join(missing)} of the rows")
        for name, (batch, count) in samples.items():
            queries = {each.name: self._queries(batch, each.name, count) for each in self._vectors}
            filtered = min(count, max(count // 4, _LEAST_OF_A_FILTER * count // budget))
            groups = [count, *[filtered] * len(self._filters)]
            self._ask(name, queries, groups)

    def _queries(self, batch: Any, name: str, count: int) -> FloatArray:
        if self._given is not None:
            return self._given[: max(1, _MOST_OF_GIVEN // max(len(self._scope.targets), 1))]
        if batch.column(name).null_count:
            batch = batch.filter(batch.column(name).is_valid())
        return drawing.mixtures(records.vectors(batch, name), count, self._random)

    def _ask(self, namespace: str, queries: dict[str, FloatArray], groups: list[int]) -> None:
        asked = _Asked(queries, groups)
        for vector in self._vectors:
            count = len(queries[vector.name])
            if count:
                sizes = [count if not place else min(size, count) for place, size in enumerate(groups)]
                asked.oracles[vector.name] = Oracle(queries[vector.name], vector.metric, K, sizes)
        self._asked[namespace] = asked

    # ------------------------------------------------------------------------------------------ asking

    def _judged(self, vector: str) -> list[Judged]:
        """The answers of both sides, which are asked at the same time, to every search of a vector field."""
        judged: list[Judged] = []
        with ThreadPoolExecutor(2, thread_name_prefix="vecbridge-search") as pool:
            for namespace, asked in self._asked.items():
                oracle = asked.oracles.get(vector)
                if oracle is None:
                    continue
                for group, best in enumerate(oracle.best):
                    filter = None if group == 0 else self._filters[group - 1]
                    queries = asked.queries[vector][: len(best.scores)]
                    what = (namespace, vector, queries, filter, oracle, best)
                    target = pool.submit(self._of_target, *what)
                    source = pool.submit(self._of_source, *what)
                    judged.append(
                        Judged(namespace, group, oracle.metric, best, target.result(), source.result())
                    )
        return judged

    def _of_target(
        self,
        namespace: str,
        vector: str,
        queries: FloatArray,
        drawn: Drawn | None,
        oracle: Oracle,
        best: Best,
    ) -> Answers:
        hits = self._search(self._scope.target, namespace, vector, queries, drawn and drawn.filter)
        found = [judging.Line(list(each.ids), each.scores) for each in hits]

        def rows(ids: list[Any]) -> Any:
            return self._scope.fetch_target(namespace, ids)[0]

        return judging.answers(found, oracle, best, vector, drawn, rows)

    def _of_source(
        self,
        namespace: str,
        vector: str,
        queries: FloatArray,
        drawn: Drawn | None,
        oracle: Oracle,
        best: Best,
    ) -> Answers | None:
        """The answers of the source with the ids of the target; None where they cannot be had."""
        sources = self._scope.sources(namespace)
        if len(sources) > _MERGED or (drawn is not None and drawn.source is None):
            return None
        name = next(each.source for each in self._scope.plan.columns if each.name == vector)
        condition = self._scope.filter if drawn is None else drawn.source
        homes: dict[Any, tuple[str, Any]] = {}
        lines: list[judging.Line] = [judging.Line([], np.empty(0, np.float32)) for _ in queries]
        for source in sources:
            hits = self._search(self._scope.source, source, name, queries, condition)
            own = list(dict.fromkeys(id for each in hits for id in each.ids))
            renamed = dict(zip(own, self._scope.target_ids(source, own), strict=True)) if own else {}
            homes |= {renamed[id]: (source, id) for id in own}
            lines = [
                judging.merged(
                    line, judging.Line([renamed[id] for id in each.ids], each.scores), oracle.metric, K
                )
                for line, each in zip(lines, hits, strict=True)
            ]

        def rows(ids: list[Any]) -> Any:
            grouped: dict[str, list[Any]] = {}
            for id in ids:
                source, own = homes[id]
                grouped.setdefault(source, []).append(own)
            return pa.concat_batches(
                [self._scope.fetch_source(source, own)[0] for source, own in grouped.items()]
            )

        return judging.answers(lines, oracle, best, vector, drawn, rows)

    def _search(self, side: Any, namespace: str, vector: str, queries: FloatArray, filter: Any) -> list[Hits]:
        """The hits of each query; transient errors are retried.

        As many queries as can be stand in one call, since some databases read all rows for a call; fewer,
        where they take longer than a call may.
        """
        collection = side.collection(namespace)
        hits: list[Hits] = []
        size, backoff = MOST_QUERIES, Backoff(self._scope.stop)
        while len(hits) < len(queries):
            part = queries[len(hits) : len(hits) + size]
            try:
                hits += collection.search(Query(part, K, filter=filter, using=vector))
                backoff = Backoff(self._scope.stop)
            except DeadlineError as exc:
                if len(part) == 1:
                    backoff.wait(exc)
                size = max(1, len(part) // 4)
            except BackendError as exc:
                if not exc.retryable:
                    raise
                backoff.wait(exc)
        return hits
