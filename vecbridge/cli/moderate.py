"""``moderate`` and ``calibrate``: verdicts of pictures and texts, and what their scores are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecbridge.cli import common, output, reading
from vecbridge.errors import ConfigError

if TYPE_CHECKING:
    from vecbridge.apps.evaluation import Evaluation
    from vecbridge.apps.moderation import Decision, Moderator
    from vecbridge.apps.policy import Kind, Policy
    from vecbridge.apps.scorers import Scorer
    from vecbridge.settings import Settings
    from vecbridge.sources.deadletters import DeadLetter
    from vecbridge.sources.images import ImageSource, Item

_BATCH: Final = 32
_FAILING: Final = ("review", "block")

PolicyOption = Annotated[
    Path,
    typer.Option("--policy", "-p", metavar="FILE", help="The policy, a YAML file.", show_default=False),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option("--calibration", "-c", metavar="FILE", help="What vecbridge calibrate wrote."),
]


def moderate(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Folders, files, globs: pictures and .txt.", show_default=False),
    ],
    policy: PolicyOption,
    calibration: CalibrationOption = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit", metavar="FILE", help="Append each verdict to this log, with digests instead of items."
        ),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", metavar="VERDICT", help="review or block: exit with 1 where there is one."),
    ] = None,
    all_items: Annotated[bool, typer.Option("--all", help="List what is allowed, too.")] = False,
    max_pixels: reading.MaxPixelsOption = None,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Give pictures and texts a verdict: allow, review or block.

    The worst verdict of all categories of the policy holds. What cannot be read or
    scored is for review, and the exit status is 1.
    """
    if fail_on is not None and fail_on not in _FAILING:
        raise ConfigError(f"--fail-on {fail_on}: review or block")
    settings = common.load_settings()
    from vecbridge.apps.calibration import Calibration
    from vecbridge.apps.moderation import Moderator
    from vecbridge.apps.policy_file import load_policy
    from vecbridge.sources.images import ImageSource

    reading.ignore_pillow_warnings()
    rules = load_policy(policy)
    fitted = None if calibration is None else Calibration.load(calibration)
    source, left_out = ImageSource(paths, texts=True), Counter[str]()
    scorer = _scorer(rules, settings, runtime, device, dtype)
    try:
        with Moderator(rules, scorer, calibration=fitted, audit=audit, max_pixels=max_pixels) as moderator:
            found = list(_decisions(moderator, source, left_out))  # and all of them are in the log
    finally:
        scorer.close()
    for kind, count in left_out.items():
        output.note(f"Left out: {output.number(count, kind)}, which no category applies to.")
    if not found:
        raise ConfigError("there are no pictures and no texts that the policy applies to")
    counts = _counts(found)
    if as_json:
        about = {"policy": {"file": str(policy), "sha256": rules.digest}, "model": scorer.model}
        output.document(about | {"counts": counts, "items": [_item(id, each) for id, each in found]})
    else:
        _print(found, counts, all_items=all_items)
    failed = any(each.error for _, each in found)
    if failed or (fail_on is not None and any(counts[each] for each in _FAILING[_FAILING.index(fail_on) :])):
        raise typer.Exit(1)


def calibrate(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help='JSON lines such as {"file": "a.png", "labels": ["weapons"]}, or with "text".',
            show_default=False,
        ),
    ],
    policy: PolicyOption,
    to: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Calibrate the scores, and write this file."),
    ] = None,
    calibration: CalibrationOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write the figures as an HTML page with curves."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the folds.")] = 0,
    runtime: common.RuntimeOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Compare a model's scores with labels, and calibrate them.

    Without --output and --calibration the scores are the model's own. With --output
    they are calibrated by Platt's method, and the figures come from five folds: each is
    calibrated by the other four. That needs 30 items with and 30 without each category.
    """
    if to is not None and calibration is not None:
        raise ConfigError("--output makes a calibration, and --calibration uses one: give one of the two")
    settings = common.load_settings()
    from vecbridge.apps.calibration import Calibration, out_of_fold
    from vecbridge.apps.evaluation import evaluate
    from vecbridge.apps.labelled import read_labelled, score_labelled
    from vecbridge.apps.policy_file import load_policy

    reading.ignore_pillow_warnings()
    rules = load_policy(policy)
    labelled = read_labelled(labels, rules)
    used = None if calibration is None else Calibration.load(calibration)
    categories = rules.applying(labelled.kind)
    scorer = _scorer(rules, settings, runtime, device, dtype)
    try:
        if used is not None:
            used.require_use(rules, scorer.model, labelled.kind)
        with output.busy("Scoring"):
            scores = score_labelled(scorer, labelled, rules)
    finally:
        scorer.close()
    table = labelled.table(rules)
    fitted = None if to is None else Calibration.fit(rules, scorer.model, labelled.kind, scores, table)
    if fitted is not None:
        scores = out_of_fold(scores, table, [each.name for each in categories], seed=seed)
    elif used is not None:
        scores = used(scores, categories)
    calibrated = fitted is not None or used is not None
    report = evaluate(rules, labelled.kind, scores, table, calibrated=calibrated)
    if fitted is not None and to is not None:
        fitted.save(to)
    _report(report, scorer.model, to, html, as_json=as_json)


def _scorer(
    policy: Policy, settings: Settings, runtime: str | None, device: str | None, dtype: str | None
) -> Scorer:
    from vecbridge.apps.scorer_loading import open_scorer

    chosen: Any = runtime or settings.runtime
    with output.busy(f"Loading {policy.model}"):
        return open_scorer(
            policy, runtime=chosen, device=device or settings.device, dtype=dtype or settings.dtype
        )


def _decisions(
    moderator: Moderator, source: ImageSource, left_out: Counter[str]
) -> Iterator[tuple[str, Decision]]:
    """Each item's id with its verdict; neighbours of one kind are scored together.

    Args:
        moderator: Gives the verdicts.
        source: The items.
        left_out: Counts those that the policy does not apply to, by kind.
    """
    from vecbridge.sources.images import PictureItem
    from vecbridge.sources.texts import TextItem

    for (form, kind), group in groupby(source, lambda item: (type(item), _kind(item))):
        while part := list(islice(group, _BATCH)):
            if not moderator.policy.applying(kind):
                left_out[kind] += len(part)
                continue
            with output.busy("Scoring"):
                if form is PictureItem:
                    paths = [each.path for each in part if isinstance(each, PictureItem)]
                    found = moderator.moderate_images(paths)
                elif form is TextItem:
                    texts = [each.text for each in part if isinstance(each, TextItem)]
                    found = moderator.moderate_texts(texts)
                else:
                    found = [moderator.unreadable(kind, getattr(each, "error", "")) for each in part]
            yield from zip(map(_id, part), found, strict=True)


def _kind(item: Item | DeadLetter) -> Kind:
    """What an item is, or would be if it could be read."""
    from vecbridge.sources.deadletters import DeadLetter
    from vecbridge.sources.texts import TextItem

    if not isinstance(item, DeadLetter):
        return "text" if isinstance(item, TextItem) else "image"
    source = item.source or ""
    file, _, line = source.rpartition(":")  # a line of a text is named by the file and its number
    return "text" if Path(file if line.isdecimal() else source).suffix.lower() == ".txt" else "image"


def _id(item: Item | DeadLetter) -> str:
    return str(item.id or getattr(item, "source", None) or "")


def _counts(found: list[tuple[str, Decision]]) -> dict[str, int]:
    from vecbridge.apps.policy import VERDICTS

    return {verdict: sum(each.verdict == verdict for _, each in found) for verdict in VERDICTS}


def _item(id: str, decision: Decision) -> dict[str, Any]:
    return {
        "id": id,
        "verdict": decision.verdict,
        "category": decision.category,
        "scores": decision.scores,
        "sha256": decision.sha256,
        "error": decision.error or None,
    }


def _print(found: list[tuple[str, Decision]], counts: dict[str, int], *, all_items: bool) -> None:
    from vecbridge.apps.evaluation_page import verdicts

    rows = [(each.verdict, _why(each), id) for id, each in found if all_items or each.verdict != "allow"]
    if rows:
        output.show(output.table(("verdict", "why", "item"), rows))
    output.note(f"{output.number(len(found), 'item')}: {verdicts(counts)}.")


def _why(decision: Decision) -> str:
    if decision.error:
        return decision.error
    if decision.category is not None:
        return f"{decision.category} {decision.scores[decision.category]:.2f}"
    highest = max(decision.scores, key=lambda name: decision.scores[name])
    return f"{highest} {decision.scores[highest]:.2f}"


def _report(
    report: Evaluation, model: str, written: Path | None, html: Path | None, *, as_json: bool
) -> None:
    from vecbridge.apps.evaluation_page import HEADINGS, rows, verdicts, write_evaluation

    if html is not None:
        write_evaluation(html, report, model=model)
    if as_json:
        output.document({"model": model, "calibration": written and str(written)} | report.to_dict())
    else:
        lines = [row for each in report.categories for row in rows(each)]
        output.show(output.table(HEADINGS, lines, right=set(HEADINGS) - {"category", "at"}))
        output.show("")
        output.show(
            output.pairs(
                [("with a label", verdicts(report.unwanted)), ("without one", verdicts(report.wanted))]
            )
        )
    for each in report.warnings:
        output.warn(each)
    for path, what in ((written, "Calibration"), (html, "Page")):
        if path is not None:
            output.note(f"{what}: {path}")
