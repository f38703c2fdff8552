"""Moderation of pictures and texts: a policy, a model's scores, and one of three verdicts an item."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vecbridge.apps.audit import AuditEntry, AuditLog
from vecbridge.apps.calibration import Calibration
from vecbridge.apps.moderated import Content, read_item, scored
from vecbridge.apps.policy import VERDICTS, Category, Kind, Policy, Verdict
from vecbridge.apps.scorer_loading import open_scorer
from vecbridge.apps.scorers import Scorer, Scores
from vecbridge.closing import Closing
from vecbridge.embed.base import ImageLike
from vecbridge.errors import ConfigError, InvalidRecordError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with an item.

    Attributes:
        verdict: "allow", "review" or "block".
        category: The category that decided: of those with the worst verdict, the one with the highest score.
            None where nothing was found, or nothing could be scored.
        scores: By category, as the thresholds met them.
        sha256: Of the item's content; None of a file that could not be read.
        error: Why there are no scores; "" where there are. The verdict is "review" then.
    """

    verdict: Verdict
    category: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    sha256: str | None = None
    error: str = ""


class Moderator(Closing):
    """Gives pictures and texts verdicts.

    The worst verdict of all categories holds. What cannot be read or scored is "review", never "allow". With
    an audit log, a verdict is on the disk before it is returned.

    Args:
        policy: What is not wanted.
        scorer: What scores; None loads the model that the policy names.
        calibration: Makes probabilities of the scores, before thresholds are applied.
        audit: A log, or the path of one.
        batch_size: Items that are in memory and scored at a time.
        max_pixels: Pictures with more pixels are not decoded.

    Raises:
        ConfigError: The scorer cannot score this policy, or the calibration is of another.
        JournalError: The audit log cannot be written.

    Example:
        >>> weapons = {"name": "weapons", "texts": ["dagger"], "negatives": ["flower", "dog"]}
        >>> policy = Policy.of(model="bundled", categories=[weapons | {"review": 0.4, "block": 0.8}])
        >>> with Moderator(policy) as moderator:
        ...     [first, second] = moderator.moderate_texts(["a dagger", "a dog"])
        >>> first.verdict, first.category, second.verdict
        ('block', 'weapons', 'allow')
    """

    def __init__(
        self,
        policy: Policy,
        scorer: Scorer | None = None,
        *,
        calibration: Calibration | None = None,
        audit: AuditLog | str | os.PathLike[str] | None = None,
        batch_size: int = 32,
        max_pixels: int | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_pixels", max_pixels)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: at least 1")
        self.policy: Final = policy
        self._batch_size = batch_size
        self._max_pixels = max_pixels
        self._calibration = calibration
        self._own_scorer = scorer is None
        self.scorer: Final[Scorer] = open_scorer(policy) if scorer is None else scorer
        self._own_log = audit is not None and not isinstance(audit, AuditLog)
        try:
            self.scorer.require(policy)
            if calibration is not None:
                calibration.require_use(policy, self.scorer.model, calibration.kind)
            self._log = AuditLog(audit) if isinstance(audit, str | os.PathLike) else audit
        except BaseException:
            if self._own_scorer:
                self.scorer.close()
            raise

    def moderate_images(self, images: Sequence[ImageLike]) -> list[Decision]:
        """Verdicts of pictures, in order.

        Args:
            images: Each a path, encoded bytes, a ``PIL.Image.Image`` or a uint8 array (height, width, 3).

        Raises:
            ConfigError: No category applies to pictures, or the calibration is of texts.
            JournalError: The audit log cannot be written.
        """
        return self._moderate("image", images)

    def moderate_texts(self, texts: Sequence[str]) -> list[Decision]:
        """Verdicts of texts, in order.

        Raises:
            ConfigError: No category applies to texts, or the calibration is of pictures.
            JournalError: The audit log cannot be written.
        """
        return self._moderate("text", texts)

    def unreadable(self, kind: Kind, reason: str) -> Decision:
        """The verdict of an item that its source could not read: "review", in the audit log too.

        Args:
            kind: What the item would be.
            reason: Why it cannot be read.
        """
        decision = Decision("review", error=reason)
        if self._log is not None:
            self._log.append([self._entry(kind, decision, InvalidRecordError.__name__)])
        return decision

    def close(self) -> None:
        """Closes the scorer and the log, as far as this moderator opened them."""
        if self._own_scorer:
            self.scorer.close()
        if self._own_log and self._log is not None:
            self._log.close()

    def _moderate(self, kind: Kind, items: Sequence[Any]) -> list[Decision]:
        if isinstance(items, str | bytes | os.PathLike):
            raise ConfigError(f"a list is wanted, not one {type(items).__name__}: […]")
        categories = self.policy.applying(kind)
        if not categories:  # to allow them unseen would be a verdict that nobody gave
            raise ConfigError(f"no category of the policy applies to {kind}s")
        if self._calibration is not None and self._calibration.kind != kind:
            raise ConfigError(f"the calibration is of {self._calibration.kind}s, not of {kind}s")
        decisions: list[Decision] = []
        for start in range(0, len(items), self._batch_size):
            decisions += self._batch(kind, items[start : start + self._batch_size], categories)
        return decisions

    def _batch(self, kind: Kind, items: Sequence[Any], categories: Sequence[Category]) -> list[Decision]:
        contents = [read_item(kind, item, self._max_pixels) for item in items]
        values = [content.value for content in contents if content.error is None]
        outcomes = iter(scored(self.scorer, kind, values, categories))
        results = [next(outcomes) if content.error is None else content.error for content in contents]
        decisions = [
            self._decision(content, result, categories)
            for content, result in zip(contents, results, strict=True)
        ]
        if self._log is not None:
            errors = [type(each).__name__ if isinstance(each, Exception) else None for each in results]
            self._log.append(
                [self._entry(kind, each, error) for each, error in zip(decisions, errors, strict=True)]
            )
        return decisions

    def _decision(
        self, content: Content, result: Scores | Exception, categories: Sequence[Category]
    ) -> Decision:
        if isinstance(result, Exception):
            if content.error is None:
                log.warning("the scorer failed: %s", type(result).__name__)
            return Decision("review", sha256=content.sha256, error=_sentence(result))
        if self._calibration is not None:
            scores: Scores = self._calibration(result[None, :], categories)[0]
        else:
            scores = result
        return decide(categories, scores, sha256=content.sha256)

    def _entry(self, kind: Kind, decision: Decision, error: str | None) -> AuditEntry:
        return AuditEntry(
            decision.sha256,
            kind,
            decision.verdict,
            decision.category,
            decision.scores,
            error,
            self.scorer.model,
            self.policy.digest,
            None if self._calibration is None else self._calibration.digest,
        )


def decide(categories: Sequence[Category], scores: Scores, *, sha256: str | None = None) -> Decision:
    """The verdict that follows from the scores of one item: the worst of all categories.

    Args:
        categories: Those that were scored.
        scores: Of each, from 0 to 1.
        sha256: Of the item.
    """
    known = {each.name: float(score) for each, score in zip(categories, scores, strict=True)}
    if not np.isfinite(scores).all():
        return Decision("review", sha256=sha256, error="a score is no number")
    ranked = [
        (VERDICTS.index(each.verdict(known[each.name])), known[each.name], each.name) for each in categories
    ]
    worst, _, name = max(ranked, key=lambda each: each[:2])
    return Decision(VERDICTS[worst], name if worst else None, known, sha256)


def _sentence(error: Exception) -> str:
    if isinstance(error, InvalidRecordError) and error.rows:
        return error.rows[0].error
    return f"{type(error).__name__}: {error}"
