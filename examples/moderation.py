"""Moderation: verdicts of pictures, an audit log, figures against labels, and calibrated scores.

The pictures are the 320 emoji that vecbridge ships, the model is the bundled one, and the categories of
policy.yaml (weapons, alcohol, food) are harmless stand-ins: this shows how the parts work together, and says
nothing about how safe any model is. Runs without a network::

    python moderation.py
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from vecbridge.apps.calibration import Calibration, out_of_fold
from vecbridge.apps.evaluation import Evaluation, evaluate
from vecbridge.apps.labelled import Labelled, score_labelled
from vecbridge.apps.moderation import Moderator
from vecbridge.apps.policy import Policy
from vecbridge.apps.policy_file import load_policy
from vecbridge.apps.scorer_loading import open_scorer
from vecbridge.errors import ConfigError

GALLERY = Path(str(files("vecbridge"))) / "embed" / "bundled" / "gallery"
ALCOHOL = {"sake", "wine glass", "cocktail glass", "beer mug", "clinking beer mugs", "tumbler glass"}
WEAPONS = {"dagger"}


def labelled() -> Labelled:
    """The pictures with the categories that their names and groups say."""
    lines = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]
    labels = []
    for line in lines:
        drink, weapon = line["name"] in ALCOHOL, line["name"] in WEAPONS
        labels.append((
            *(["weapons"] if weapon else []),
            *(["alcohol"] if drink else []),
            *(["food"] if line["group"] == "food-drink" else []),
        ))  # fmt: skip
    return Labelled("image", tuple(str(GALLERY / line["file"]) for line in lines), tuple(labels))


def show(title: str, report: Evaluation) -> None:
    print(title)
    for each in report.categories:
        print(
            f"  {each.name}: {each.positives} pictures, average precision {each.average_precision:.2f}, "
            f"Brier score {each.brier:.3f}, recall at review {each.review.recall:.2f}"
        )


def main() -> None:
    policy = load_policy(Path(__file__).with_name("policy.yaml"))
    pictures = labelled()

    # Verdicts: the worst of all categories holds, and each is in the log before it is returned.
    with closing(open_scorer(policy)) as scorer:
        with Moderator(policy, scorer, audit="verdicts.log") as moderator:
            decisions = moderator.moderate_images(pictures.items)
        print("verdicts:", dict(sorted(Counter(each.verdict for each in decisions).items())))

        # The same scores against labels.
        scores = score_labelled(scorer, pictures, policy)
        model = scorer.model
    labels = pictures.table(policy)
    show("the model's own scores:", evaluate(policy, "image", scores, labels))

    # Calibration. A category with fewer than 30 labelled items is refused.
    try:
        Calibration.fit(policy, model, "image", scores, labels)
    except ConfigError as error:
        print(f"not calibrated: {error}")
    food = Policy.of(model=policy.model, categories=[policy.category("food").model_dump()])
    calibration = Calibration.fit(food, model, "image", scores[:, 2:], labels[:, 2:])
    calibration.save("calibration.json")
    calibrated = out_of_fold(scores[:, 2:], labels[:, 2:], ["food"])
    show("calibrated, in five folds:", evaluate(food, "image", calibrated, labels[:, 2:], calibrated=True))


if __name__ == "__main__":
    main()
