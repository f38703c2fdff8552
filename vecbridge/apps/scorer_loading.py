"""Finds out which scorer the model of a policy needs, and loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from vecbridge.apps.policy import Policy
from vecbridge.apps.scorers import Scorer, ZeroShotScorer
from vecbridge.embed.factory import Runtime, embedder
from vecbridge.embed.files import locate

_SHIELDGEMMA: Final = "shieldgemma2"
_CLASSIFIER: Final = "ForImageClassification"


def open_scorer(
    policy: Policy, *, device: str = "auto", runtime: Runtime | None = None, dtype: str = "auto"
) -> Scorer:
    """Loads the scorer that a policy's model needs, as its ``config.json`` says.

    Args:
        policy: Its ``model`` is ShieldGemma 2, an image classifier of transformers, or else an embedder.
        device: As of :func:`vecbridge.embedder`.
        runtime: Of an embedder: "torch" or "onnx".
        dtype: As of :func:`vecbridge.embedder`.

    Returns:
        A scorer that fits the policy; close it.

    Raises:
        ConfigError: No such model, or one that cannot score this policy.
        MissingDependencyError: What the model needs is not installed.
        UnavailableError: The model is not here, and the hub does not answer.
    """
    config = _config(policy.model)
    architectures = [str(each) for each in config.get("architectures") or []]
    scorer: Scorer
    if config.get("model_type") == _SHIELDGEMMA:
        from vecbridge.apps.torch_scorers import ShieldGemma2Scorer

        scorer = ShieldGemma2Scorer(locate(policy.model), device=device, dtype=dtype)
    elif any(each.endswith(_CLASSIFIER) for each in architectures):
        from vecbridge.apps.torch_scorers import ClassifierScorer

        scorer = ClassifierScorer(locate(policy.model), device=device, dtype=dtype)
    else:
        model = embedder(policy.model, device=device, runtime=runtime, dtype=dtype)
        try:
            scorer = ZeroShotScorer(model, owned=True)
        except BaseException:
            model.close()
            raise
    try:
        scorer.require(policy)
    except BaseException:
        scorer.close()
        raise
    return scorer


def _config(model: str) -> dict[str, Any]:
    """The model's ``config.json``; {} where it has none that can be read, which its loader reports."""
    directory = Path(model).expanduser()
    if model == "bundled":
        return {}
    if directory.is_dir():  # locate() would read all of its weights, for their digest
        path: Path | None = directory / "config.json"
    else:
        path = locate(model).find("config.json")
    if path is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
