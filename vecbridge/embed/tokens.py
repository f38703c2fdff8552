"""Texts to token ids, as CLIP's text tower takes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecbridge.embed.architecture import Architecture
from vecbridge.embed.fingerprint import fingerprint
from vecbridge.errors import ConfigError, MissingDependencyError

log = logging.getLogger(__name__)
IntArray = NDArray[np.int64]


class Tokens:
    """A tokenizer that cuts as CLIP does: the first tokens, with the end-of-text token last.

    Args:
        tokenizer: A ``tokenizers.Tokenizer`` that adds CLIP's two special tokens.
        max_length: Tokens of a text at most, both special ones included.
        file: Where it was read from, as errors name it.

    Raises:
        ConfigError: That leaves no room for a text, or the tokenizer marks no text's end.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, file: str = "tokenizer.json") -> None:
        self._file = file
        own = tokenizer.truncation
        self.max_length = min(max_length, own["max_length"]) if own else max_length
        marks = tokenizer.num_special_tokens_to_add(False)
        if not marks:
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
    def from_file(cls, path: Path, max_length: int) -> Tokens:
        """Reads a ``tokenizer.json``.

        Raises:
            MissingDependencyError: tokenizers is not installed.
            ConfigError: Not such a file.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError as exc:
            raise MissingDependencyError("tokenizers", extra="onnx") from exc
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:  # tokenizers raises nothing narrower
            raise ConfigError(f"{path}: not a tokenizer: {exc}") from exc
        return cls(tokenizer, max_length, file=str(path))

    @property
    def hash(self) -> str:
        """16 hex digits that differ where the ids of a text may differ."""
        return fingerprint(self._tokenizer, self.max_length)

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
        last = self._tokenizer.encode("a").ids[-1]
        if config.end_token is not None and last != config.end_token:
            raise ConfigError(
                f"{self._file} ends texts with id {last}, and the model looks for {config.end_token}: "
                f"{config.file}: text_config.eos_token_id"
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
        length = max(len(each) for each in encoded)
        # padded with the end-of-text token, the last one; the tower looks at the first of them
        ids = np.full((len(encoded), length), encoded[0][-1], np.int64)
        mask = np.zeros((len(encoded), length), np.int64)
        for row, each in enumerate(encoded):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        return ids, mask

    def _tell(self, cut: int, total: int) -> None:
        if cut and not self._told:
            self._told = True
            text = "%d of %d texts cut to %d tokens: only the beginning counts (said once)"
            log.warning(text, cut, total, self.max_length)
