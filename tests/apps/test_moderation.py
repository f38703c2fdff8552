"""Moderation: verdicts, errors that never allow, the audit log, and zero-shot scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vecbridge.apps.audit import AuditLog
from vecbridge.apps.calibration import Calibration
from vecbridge.apps.moderation import Moderator, decide
from vecbridge.apps.policy import VERDICTS, Policy
from vecbridge.apps.scorers import ZeroShotScorer
from vecbridge.errors import ConfigError, JournalError
from vecbridge.identity import EmbedderIdentity

SECRET = "the secret text of a user"


def policy(*categories: dict[str, Any]) -> Policy:
    """A policy; a category needs only what a test is about."""
    plain = {"texts": ["bad"], "negatives": ["good"], "review": 0.4, "block": 0.8}
    named = [{"name": f"c{row}"} | plain | each for row, each in enumerate(categories)]
    return Policy.of(model="fake", categories=named)


class Fixed:
    """Scores texts by numbers that they begin with, and fails as a test asks."""

    model = "fixed@1"

    def __init__(self, fail: dict[str, Any] | None = None) -> None:
        self.fail = fail or {}
        self.calls: list[int] = []

    def require(self, policy: Policy) -> None:
        pass

    def close(self) -> None:
        pass

    def score(self, kind: str, items: Sequence[Any], categories: Sequence[Any]) -> Any:
        self.calls.append(len(items))
        for item in items:
            outcome = self.fail.get(item) if isinstance(item, str) else None
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                return outcome
        if kind == "image":
            return np.full((len(items), len(categories)), 0.5)
        return np.array([[float(each) for each in item.split()[: len(categories)]] for item in items])


# ------------------------------------------------------------------------------------------- verdicts


def test_the_worst_verdict_of_all_categories_holds_and_names_the_category() -> None:
    rules = policy({}, {"review": 0.1, "block": 0.3}, {})
    with Moderator(rules, Fixed()) as moderator:
        found = moderator.moderate_texts(["0.1 0.05 0.2", "0.5 0.05 0.7", "0.7 0.35 0.1", "0.9 0.9 0.95"])
    assert [(each.verdict, each.category) for each in found] == [
        ("allow", None),
        ("review", "c2"),
        ("block", "c1"),  # whose threshold is lower, and so is its score
        ("block", "c2"),
    ]
    assert found[1].scores == {"c0": 0.5, "c1": 0.05, "c2": 0.7}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_no_category_has_a_worse_verdict_than_the_whole(rows: list[tuple[float, float, float]]) -> None:
    rules = policy(*({"review": min(a, b), "block": max(a, b)} for a, b, _ in rows))
    decision = decide(rules.categories, np.array([score for *_, score in rows]))
    own = [each.verdict(score) for each, (*_, score) in zip(rules.categories, rows, strict=True)]
    assert decision.verdict == max(own, key=VERDICTS.index)
    assert (decision.category is None) == (decision.verdict == "allow")


def test_categories_apply_to_what_they_say() -> None:
    rules = policy({"applies_to": ["image"]}, {"applies_to": ["text"]}, {})
    with Moderator(rules, Fixed()) as moderator:
        [text] = moderator.moderate_texts(["0.1 0.2"])
        [picture] = moderator.moderate_images([Image.new("RGB", (4, 4))])
    assert set(text.scores) == {"c1", "c2"}
    assert set(picture.scores) == {"c0", "c2"}


def test_items_of_a_kind_that_no_category_applies_to_are_refused_and_not_allowed() -> None:
    moderator = Moderator(policy({"applies_to": ["image"]}), Fixed())
    with pytest.raises(ConfigError, match="no category of the policy applies to texts"):
        moderator.moderate_texts(["0.1"])


# --------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "outcome",
    [
        RuntimeError("out of memory"),
        ConfigError("closed"),
        np.array([[np.nan]]),
        np.array([[1.5]]),
        np.array([[-0.1]]),
        np.array([[np.inf]]),
        np.array([0.1]),
        np.empty((0, 1)),
        "no numbers",
    ],
    ids=["error", "vecbridge", "nan", "above", "below", "infinite", "shape", "empty", "text"],
)
def test_whatever_goes_wrong_in_the_scorer_is_review_and_never_allow(outcome: Any) -> None:
    with Moderator(policy({}), Fixed({SECRET: outcome})) as moderator:
        [decision] = moderator.moderate_texts([SECRET])
    assert decision.verdict == "review"
    assert decision.error
    assert decision.scores == {}


def test_one_item_that_fails_spoils_no_other() -> None:
    scorer = Fixed({SECRET: RuntimeError("no")})
    with Moderator(policy({}), scorer) as moderator:
        found = moderator.moderate_texts(["0.1", SECRET, "0.9"])
    assert [each.verdict for each in found] == ["allow", "review", "block"]
    assert [bool(each.error) for each in found] == [False, True, False]


def test_what_cannot_be_read_is_review(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with Moderator(policy({}), Fixed()) as moderator:
        pictures = moderator.moderate_images([broken, tmp_path / "none.png", b"x", b"", 3, np.zeros(4)])
        texts = moderator.moderate_texts([3, "\ud800"])
        unread = moderator.unreadable("image", "not supported")
    assert {each.verdict for each in [*pictures, *texts, unread]} == {"review"}
    assert all(each.error for each in [*pictures, *texts, unread])
    assert pictures[0].sha256 == hashlib.sha256(b"no picture").hexdigest()
    assert pictures[1].sha256 is None


def test_a_stop_from_the_keyboard_is_no_verdict() -> None:
    class Interrupted(Fixed):
        def score(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    with Moderator(policy({}), Interrupted()) as moderator, pytest.raises(KeyboardInterrupt):
        moderator.moderate_texts(["0.1"])


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with Moderator(policy({}), Fixed()) as moderator, pytest.raises(ConfigError, match="a list is wanted"):
        moderator.moderate_texts("0.1")


def test_items_are_scored_batch_by_batch() -> None:
    scorer = Fixed()
    with Moderator(policy({}), scorer, batch_size=3) as moderator:
        assert len(moderator.moderate_texts(["0.1"] * 7)) == 7
    assert scorer.calls == [3, 3, 1]


# ----------------------------------------------------------------------------------------- calibration


def test_thresholds_meet_calibrated_scores() -> None:
    rules = policy({})
    scores = np.linspace(0.05, 0.95, 200)[:, None]
    calibration = Calibration.fit(rules, "fixed@1", "text", scores, scores > 0.2)
    with Moderator(rules, Fixed(), calibration=calibration) as moderator:
        [decision] = moderator.moderate_texts(["0.35"])
        with pytest.raises(ConfigError, match="the calibration is of texts, not of images"):
            moderator.moderate_images([Image.new("RGB", (4, 4))])
    assert decision.verdict == "block"
    assert decision.scores["c0"] == pytest.approx(float(calibration.categories["c0"](0.35)))


def test_a_calibration_of_another_model_is_refused() -> None:
    rules = policy({})
    scores = np.linspace(0.05, 0.95, 200)[:, None]
    calibration = Calibration.fit(rules, "other@1", "text", scores, scores > 0.2)
    with pytest.raises(ConfigError, match=r"of other@1, not of fixed@1"):
        Moderator(rules, Fixed(), calibration=calibration)


# ------------------------------------------------------------------------------------------- audit log


def entries(path: Path) -> list[dict[str, Any]]:
    with AuditLog(path) as log:
        return list(log.entries())


def test_the_log_has_digests_model_and_policy_and_never_the_item(tmp_path: Path) -> None:
    path, rules = tmp_path / "verdicts.log", policy({})
    picture = tmp_path / "private holiday.png"
    Image.new("RGB", (4, 4)).save(picture)
    scorer = Fixed({SECRET: RuntimeError(f"cannot score {SECRET}")})
    with Moderator(rules, scorer, audit=path) as moderator:
        decisions = moderator.moderate_texts(["0.9", SECRET])
        decisions += moderator.moderate_images([picture, tmp_path / "private missing.png"])
        decisions.append(moderator.unreadable("image", "private.heic is not read"))
    found = entries(path)
    assert [each["sha256"] for each in found] == [
        hashlib.sha256(b"0.9").hexdigest(),
        hashlib.sha256(SECRET.encode()).hexdigest(),
        hashlib.sha256(picture.read_bytes()).hexdigest(),
        None,
        None,
    ]
    assert [each["verdict"] for each in found] == [each.verdict for each in decisions]
    assert {each["model"] for each in found} == {"fixed@1"}
    assert {each["policy"] for each in found} == {rules.digest}
    assert found[0]["scores"] == {"c0": 0.9}
    assert [each["error"] for each in found] == [None, "RuntimeError", None, *["InvalidRecordError"] * 2]
    text = path.read_text("utf-8")
    assert "secret" not in text
    assert "private" not in text
    assert str(tmp_path) not in text


def test_a_verdict_is_on_the_disk_before_it_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    path = tmp_path / "verdicts.log"
    monkeypatch.setattr("os.fsync", lambda _: synced.append(path.read_bytes()))
    with Moderator(policy({}), Fixed(), audit=path) as moderator:
        moderator.moderate_texts(["0.9"])
    assert synced[-1] == path.read_bytes()
    assert synced[-1].count(b"\n") == 2


def test_a_log_that_cannot_be_written_lets_no_verdict_out(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "verdicts.log") as log:
        moderator = Moderator(policy({}), Fixed(), audit=log)
    with pytest.raises(JournalError, match="is closed"):
        moderator.moderate_texts(["0.1"])


def test_the_log_goes_on_and_one_writer_has_it_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.log"
    for _ in range(2):
        with Moderator(policy({}), Fixed(), audit=path) as moderator:
            moderator.moderate_texts(["0.1"])
            with pytest.raises(JournalError, match="another run is writing to it"):
                AuditLog(path)
    assert len(entries(path)) == 2


@pytest.mark.parametrize("content", [b"a diary\n", b"a diary", b'{"a": 1}\n', b'{"vecbridge_audit": 2}\n'])
def test_a_file_of_another_kind_is_not_touched(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="is no audit log"):
        AuditLog(path)
    assert path.read_bytes() == content


def test_a_log_that_a_crash_cut_short_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.log"
    path.write_bytes(b'{"vec')
    with Moderator(policy({}), Fixed(), audit=path) as moderator:
        moderator.moderate_texts(["0.1"])
    assert len(entries(path)) == 1


def test_what_a_crash_cut_short_is_removed_by_the_next_entry(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.log"
    with Moderator(policy({}), Fixed(), audit=path) as moderator:
        moderator.moderate_texts(["0.1"])
    with path.open("ab") as file:
        file.write(b'{"time": "20')
    with Moderator(policy({}), Fixed(), audit=path) as moderator:
        moderator.moderate_texts(["0.2"])
    assert [each["scores"]["c0"] for each in entries(path)] == [0.1, 0.2]
    assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())


# ------------------------------------------------------------------------------------------- zero-shot


class Angles:
    """An embedder whose texts are angles in degrees."""

    dim, note = 2, ""

    def __init__(self, scale: float | None = 10.0, bias: float | None = None) -> None:
        self.identity = EmbedderIdentity("angles", "1", 2, "x")
        self.logit_scale, self.logit_bias = scale, bias
        self.closed = False

    def embed_texts(self, texts: Sequence[str]) -> Any:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def close(self) -> None:
        self.closed = True


def test_a_softmax_adds_up_the_shares_of_the_texts() -> None:
    rules = policy({"texts": ["0", "10"], "negatives": ["90"]})
    [[score]] = ZeroShotScorer(Angles()).score("text", ["20"], rules.categories)
    logits = np.exp(10 * np.cos(np.radians([20, 10, 70])))
    assert score == pytest.approx(logits[:2].sum() / logits.sum(), abs=1e-5)


def test_a_model_with_a_bias_takes_the_sigmoid_of_the_nearest_text() -> None:
    rules = policy({"texts": ["0", "10"], "negatives": []})
    scorer = ZeroShotScorer(Angles(bias=-5.0))
    scorer.require(rules)
    [[score]] = scorer.score("text", ["20"], rules.categories)
    assert score == pytest.approx(1 / (1 + np.exp(5 - 10 * np.cos(np.radians(10)))), abs=1e-5)


def test_an_embedder_without_a_logit_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="angles does not tell its logit scale"):
        ZeroShotScorer(Angles(scale=None))
    bare = SimpleNamespace(
        identity=EmbedderIdentity("bare", "1", 2, "x")
    )  # as an embedder of your own may be
    with pytest.raises(ConfigError, match="bare does not tell its logit scale"):
        ZeroShotScorer(bare)


@pytest.mark.parametrize("part", ["texts", "negatives"])
def test_a_category_without_texts_or_negatives_is_refused(part: str) -> None:
    with pytest.raises(ConfigError, match=f"category 'c0' has no {part}"):
        ZeroShotScorer(Angles()).require(policy({part: []}))


@pytest.mark.parametrize("owned", [True, False])
def test_an_embedder_is_closed_by_its_owner(owned: bool) -> None:
    embedder = Angles()
    ZeroShotScorer(embedder, owned=owned).close()
    assert embedder.closed is owned


def test_a_moderator_loads_the_model_of_its_policy_and_tells_pictures_apart() -> None:
    pytest.importorskip("onnxruntime")
    gallery = Path(__file__).parents[2] / "vecbridge" / "embed" / "bundled" / "gallery"
    rest = ["animal", "plant", "building", "vehicle", "sport", "clothing"]
    weapons = {"name": "weapons", "texts": ["dagger"], "negatives": rest, "review": 0.5, "block": 0.9}
    rules = Policy.of(model="bundled", categories=[weapons])
    with Moderator(rules) as moderator:
        dagger, dog = moderator.moderate_images([gallery / "1f5e1.png", gallery / "1f415.png"])
    assert moderator.scorer.model.startswith("bundled@")
    assert (dagger.verdict, dog.verdict) == ("block", "allow")
