"""A hash of a tokenizer that follows what it does, and not how its file is written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

# They change the places of tokens in the text, or texts made from tokens, and no token
_NO_EFFECT: Final = frozenset({"trim_offsets", "special"})
# Keys that older files leave out, with the value that they then have
_DEFAULTS: Final = {"use_regex": True}


def fingerprint(tokenizer: Any, max_length: int) -> str:
    """16 hex digits that differ where the ids of a text may differ.

    Vocabulary, merges, normaliser, division into words, added tokens and the length are in it. Padding and
    decoding are not, nor what versions of the libraries write in different ways: merges, and the words that
    transformers 5 adds to CLIP's pattern of a word.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``.
        max_length: Tokens that a text is cut to.
    """
    values = json.loads(tokenizer.to_str())
    model = values["model"]
    before, after = _around(tokenizer)
    tokens = sorted((_plain(each) for each in values.get("added_tokens") or ()), key=_content)
    meaning = {
        "max_length": max_length,
        "before": before,
        "after": after,
        "normalizer": _steps(values.get("normalizer")),
        "pre_tokenizer": [
            _without_marks(each, [token["content"] for token in tokens])
            for each in _steps(values.get("pre_tokenizer"))
        ],
        "added_tokens": tokens,
        "model": _plain({key: value for key, value in model.items() if key not in ("vocab", "merges")}),
        "vocab": model.get("vocab"),
        "merges": [_pair(each) for each in model.get("merges") or ()],
    }
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids before and after each text, whichever post-processor puts them there."""
    found = tokenizer.encode("a")
    mask: list[int] = found.special_tokens_mask
    start = mask.index(0) if 0 in mask else len(mask)
    end = len(mask) - mask[::-1].index(0) if 0 in mask else len(mask)
    return found.ids[:start], found.ids[end:]


def _steps(value: Any) -> list[Any]:
    """A chain of steps, flat, whether it was written as one, as a sequence or as sequences of sequences."""
    if value is None:
        return []
    for key in ("normalizers", "pretokenizers"):
        if value.get("type") == "Sequence" and key in value:
            return [step for each in value[key] for step in _steps(each)]
    return [_plain(value)]


def _without_marks(step: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """A pattern without alternatives that spell added tokens, which are taken out of a text before."""
    if step.get("type") != "Split" or "Regex" not in step.get("pattern", {}):
        return step
    alternatives = step["pattern"]["Regex"]
    leading = re.compile("|".join(re.escape(f"{re.escape(token)}|") for token in tokens) or r"(?!)")
    while (found := leading.match(alternatives)) is not None:
        alternatives = alternatives[found.end() :]
    return {**step, "pattern": {"Regex": alternatives}}


def _plain(value: Any) -> Any:
    """Without what has no effect, and without keys that have the value of a missing one."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: _plain(each)
        for key, each in value.items()
        if key not in _NO_EFFECT and not _is_missing(key, each)
    }


def _is_missing(key: str, value: Any) -> bool:
    if key in _DEFAULTS:
        return value is _DEFAULTS[key]
    return value is None or value is False or value == ""


def _content(token: Mapping[str, Any]) -> tuple[int, str]:
    return token["id"], token["content"]


def _pair(merge: Any) -> Any:
    """Two tokens; older versions of the library write them as one text with a space between."""
    return merge.split(" ") if isinstance(merge, str) else merge
