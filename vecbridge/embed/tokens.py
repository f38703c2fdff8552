"""Texts to token ids, as CLIP's text tower takes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecbridge.errors import ConfigError, MissingDependencyError

log = logging.getLogger(__name__)
IntArray = NDArray[np.int64]


class Tokens:
    """A tokenizer that cuts as CLIP does: the first tokens, with the end-of-text token last.

    Args:
        tokenizer: A ``tokenizers.Tokenizer`` that adds CLIP's two special tokens.
        max_length: Tokens of a text at most, both special ones included.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        own = tokenizer.truncation
        self.max_length = min(max_length, own["max_length"]) if own else max_length
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
            return cls(Tokenizer.from_file(str(path)), max_length)
        except Exception as exc:  # tokenizers raises nothing narrower
            raise ConfigError(f"{path}: not a tokenizer: {exc}") from exc

    def encode(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Token ids and attention mask, padded to the longest.

        Args:
            texts: At least one.

        Returns:
            Two int64 arrays of shape (n, length).
        """
        found = self._tokenizer.encode_batch(list(texts))
        self._tell(sum(bool(each.overflowing) for each in found), len(found))
        length = max(len(each.ids) for each in found)
        # padded with the end-of-text token, the last one; the tower looks at the first of them
        ids = np.full((len(found), length), found[0].ids[-1], np.int64)
        mask = np.zeros((len(found), length), np.int64)
        for row, each in enumerate(found):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
        return ids, mask

    def _tell(self, cut: int, total: int) -> None:
        if cut and not self._told:
            self._told = True
            text = "%d of %d texts cut to %d tokens: only the beginning counts (said once)"
            log.warning(text, cut, total, self.max_length)
