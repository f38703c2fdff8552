"""Texts to token ids, as the text tower takes them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecbridge.embed.architecture import Architecture
from vecbridge.embed.fingerprint import fingerprint
from vecbridge.errors import ConfigError, MissingDependencyError

log = logging.getLogger(__name__)
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextRules:
    """What a tokenizer's file does not say.

    Attributes:
        max_length: Tokens of a text at most, special ones included.
        lower: Whether texts are in lower case first.
        pad_token: What fills each text to the full length; None pads to the longest of a batch, which
            changes no vector of a model that masks the padding or reads before it.
        pad_left: Whether it is put before the text.
    """

    max_length: int
    lower: bool = False
    pad_token: str | None = None
    pad_left: bool = False


class Tokens:
    """A tokenizer that cuts as CLIP does: the first tokens, with the end-of-text token last.

    Args:
        tokenizer: A ``tokenizers.Tokenizer`` that adds CLIP's two special tokens.
        rules: How texts are cut and padded; a number is their longest length alone.
        file: Where it was read from, as errors name it.

    Raises:
        ConfigError: That leaves no room for a text, or the tokenizer marks no text's end.
    """

    def __init__(self, tokenizer: Any, rules: TextRules | int, *, file: str = "tokenizer.json") -> None:
        self._file = file
        self._rules = TextRules(rules) if isinstance(rules, int) else rules
        max_length = self._rules.max_length
        self._pad = None if self._rules.pad_token is None else tokenizer.token_to_id(self._rules.pad_token)
        if self._rules.pad_token is not None and self._pad is None:
            raise ConfigError(f"{file} has no token {self._rules.pad_token!r}, which pads texts")
        own = tokenizer.truncation
        self.max_length = min(max_length, own["max_length"]) if own else max_length
        marks = tokenizer.num_special_tokens_to_add(False)
        if not marks and self._pad is None:
            raise ConfigError(
                f"{file}: post_processor puts no end-of-text token after a text, as CLIP's does"
            )
        if self.max_length <= marks:
            raise ConfigError(
                f"{file}: texts are cut to {self.max_length} tokens, {marks} of them special ones: see "
                "truncation there, model_max_length in tokenizer_config.json and "
                "text_config.max_position_embeddings in config.json"
            )
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        self._tokenizer = tokenizer
        self._told = False

    @classmethod
    def from_file(cls, path: Path, rules: TextRules | int) -> Tokens:
        """Reads a ``tokenizer.json``.

        Raises:
            MissingDependencyError: tokenizers is not installed.
            ConfigError: Not such a file.
        """
        try:
            from tokenizers import Tokenizer, normalizers
        except ImportError as exc:
            raise MissingDependencyError("tokenizers", extra="onnx") from exc
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:  # tokenizers raises nothing narrower
            raise ConfigError(f"{path}: not a tokenizer: {exc}") from exc
        if isinstance(rules, TextRules) and rules.lower:
            steps = [normalizers.Lowercase()]
            if tokenizer.normalizer is not None:
                steps.append(tokenizer.normalizer)
            tokenizer.normalizer = normalizers.Sequence(steps)
        return cls(tokenizer, rules, file=str(path))

    @property
    def hash(self) -> str:
        """16 hex digits that differ where the ids of a text may differ."""
        found = fingerprint(self._tokenizer, self.max_length)
        if self._pad is None:
            return found
        padding = f"{found} {self._pad} {self._rules.pad_left}"
        return hashlib.sha256(padding.encode()).hexdigest()[:16]

    def require_fit(self, config: Architecture) -> None:
        """Refuses a tokenizer that is of another model: its ids would lead to no vector, or to a wrong one.

        Raises:
            ConfigError: Ids beyond the model's vocabulary, or another end-of-text token than the model's.
        """
        highest = max(self._tokenizer.get_vocab(True).values(), default=0)
        known = config.text["vocab_size"]
        if highest >= known:
            raise ConfigError(
                f"{self._file} has ids up to {highest}, and the model knows {known}: "
                f"{config.file}: text_config.vocab_size"
            )
        ids = self._tokenizer.encode("a").ids
        first, last = ids[0], ids[-1]
        if config.end_token is not None and last != config.end_token:
            raise ConfigError(
                f"{self._file} ends texts with id {last}, and the model looks for {config.end_token}: "
                f"{config.file}: text_config.eos_token_id"
            )
        if config.start_token is not None and first != config.start_token:
            raise ConfigError(
                f"{self._file} begins texts with id {first}, and the model is read at {config.start_token}: "
                f"{config.file}: text_config.bos_token_id"
            )

    def encode(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Token ids and attention mask, padded to the longest.

        Args:
            texts: At least one.

        Returns:
            Two int64 arrays of shape (n, length).
        """
        return self.pad(self.ids(texts))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut and not padded."""
        found = self._tokenizer.encode_batch(list(texts))
        self._tell(sum(bool(each.overflowing) for each in found), len(found))
        return [each.ids for each in found]

    def pad(self, encoded: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
        """Ids of at least one text and their attention mask: int64 arrays of shape (n, length)."""
        if self._pad is not None:
            return self._fill(encoded)
        length = max(len(each) for each in encoded)
        # padded with the end-of-text token, the last one; the tower looks at the first of them
        ids = np.full((len(encoded), length), encoded[0][-1], np.int64)
        mask = np.zeros((len(encoded), length), np.int64)
        for row, each in enumerate(encoded):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        return ids, mask

    def _fill(self, encoded: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
        """Pads each text to the full length."""
        ids = np.full((len(encoded), self.max_length), self._pad, np.int64)
        mask = np.zeros(ids.shape, np.int64)
        for row, each in enumerate(encoded):
            start = self.max_length - len(each) if self._rules.pad_left else 0
            ids[row, start : start + len(each)] = each
            mask[row, start : start + len(each)] = 1
        return ids, mask

    def _tell(self, cut: int, total: int) -> None:
        if cut and not self._told:
            self._told = True
            text = "%d of %d texts cut to %d tokens: only the beginning counts (said once)"
            log.warning(text, cut, total, self.max_length)
