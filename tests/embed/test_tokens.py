"""Texts become the tokens that CLIP's own tokenizer makes."""

import logging

import numpy as np
import pytest

from vecbridge.embed.tokens import Tokens
from vecbridge.errors import ConfigError

TEXTS = ["a dog", "", "Un atardecer  sobre\nmontañas", "日本 \U0001f436", "x" * 300, "it's 12 o'clock!"]


@pytest.fixture
def tokens(tiny_clip):
    return Tokens.from_file(tiny_clip / "tokenizer.json", 24)


def test_tokens_are_those_of_transformers(bundled):
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(bundled)
    wanted = reference(TEXTS, padding=True, truncation=True, max_length=32, return_tensors="np")
    ids, mask = Tokens.from_file(bundled / "tokenizer.json", 32).encode(TEXTS)
    np.testing.assert_array_equal(ids, wanted["input_ids"])
    np.testing.assert_array_equal(mask, wanted["attention_mask"])


def test_a_long_text_keeps_its_beginning_and_the_end_token(tokens):
    ids, mask = tokens.encode(["x" * 300])
    start, end = ids[0, 0], ids[0, -1]
    assert ids.shape == (1, 24)
    assert (end - start, mask.sum()) == (1, 24)
    assert len(set(ids[0, 1:-2].tolist())) == 1


def test_shorter_texts_are_padded_with_the_end_token_and_masked(tokens):
    ids, mask = tokens.encode(["", "abc"])
    assert ids.dtype == mask.dtype == np.int64
    assert mask.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert (ids[0, 1:] == ids[1, -1]).all()


def test_cutting_is_said_once(tokens, caplog):
    caplog.set_level(logging.WARNING)
    tokens.encode(["short"])
    assert not caplog.records
    tokens.encode(["x" * 300, "short"])
    tokens.encode(["x" * 300])
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 texts cut to 24 tokens: only the beginning counts (said once)"
    ]


def test_the_length_that_a_tokenizer_was_saved_with_counts_where_it_is_less(tiny_clip, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_clip / "tokenizer.json"))
    tokenizer.enable_truncation(7)
    tokenizer.save(str(tmp_path / "t.json"))
    assert Tokens.from_file(tmp_path / "t.json", 24).max_length == 7
    assert Tokens.from_file(tmp_path / "t.json", 5).max_length == 5


def test_what_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a tokenizer"):
        Tokens.from_file(tmp_path / "t.json", 24)
