"""What can be built on stores and embedders: search across modalities, zero-shot classification.

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecbridge.apps.accuracy import ClassificationReport as ClassificationReport
    from vecbridge.apps.accuracy import evaluate as evaluate
    from vecbridge.apps.accuracy import none_threshold as none_threshold
    from vecbridge.apps.crossmodal import CrossModalHit as CrossModalHit
    from vecbridge.apps.crossmodal import CrossModalSearch as CrossModalSearch
    from vecbridge.apps.parts import Picture as Picture
    from vecbridge.apps.parts import Record as Record
    from vecbridge.apps.parts import Target as Target
    from vecbridge.apps.parts import Text as Text
    from vecbridge.apps.zeroshot import Prediction as Prediction
    from vecbridge.apps.zeroshot import ZeroShotClassifier as ZeroShotClassifier

_HOMES = {
    "ClassificationReport": "accuracy",
    "CrossModalHit": "crossmodal",
    "CrossModalSearch": "crossmodal",
    "Picture": "parts",
    "Prediction": "zeroshot",
    "Record": "parts",
    "Target": "parts",
    "Text": "parts",
    "ZeroShotClassifier": "zeroshot",
    "evaluate": "accuracy",
    "none_threshold": "accuracy",
}
__all__ = [
    "ClassificationReport",
    "CrossModalHit",
    "CrossModalSearch",
    "Picture",
    "Prediction",
    "Record",
    "Target",
    "Text",
    "ZeroShotClassifier",
    "evaluate",
    "none_threshold",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
