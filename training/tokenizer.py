"""Train a small CLIP tokenizer: lower-cased byte-level BPE with `</w>` word ends (Radford et al. 2021).

Built from the `tokenizers` parts that transformers uses for CLIP, so that `tokenizer.json` and the files that
transformers reads (`vocab.json`, `merges.txt`) say the same thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_TOKENS = 32
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train(texts: Iterable[str], size: int = 5900) -> Tokenizer:
    """Learn merges from texts. Every byte is a token, so no text is out of reach."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    draft = _shell(models.BPE(end_of_word_suffix=WORD_END))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=letters,
        end_of_word_suffix=WORD_END,
        min_frequency=2,
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(draft.to_str())["model"]["merges"]]
    return build(*_vocabulary(letters, merges, size))


def _vocabulary(
    letters: list[str], merges: list[tuple[str, ...]], size: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's order of ids: bytes, bytes that end a word, merges, the two special tokens."""
    tokens = dict.fromkeys([*letters, *(letter + WORD_END for letter in letters)])
    kept: list[tuple[str, str]] = []
    for left, right in merges:
        if len(tokens) == size - 2:
            break
        if left in tokens and right in tokens:
            kept.append((left, right))
            tokens[left + right] = None
    tokens |= dict.fromkeys([START, END])
    return {token: number for number, token in enumerate(tokens)}, kept


def build(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    model = models.BPE(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        continuing_subword_prefix="",
        end_of_word_suffix=WORD_END,
        fuse_unk=False,
    )
    tokenizer = _shell(model)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def _shell(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that transformers 4 and 5, and `tokenizers` alone, load."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    model = json.loads(tokenizer.to_str())["model"]
    _write_json(folder / "vocab.json", model["vocab"])
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    _write_json(folder / "special_tokens_map.json", special)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", {**settings, "errors": "replace", **special})


def _write_json(file: Path, value: object) -> None:
    file.write_text(
        json.dumps(value, ensure_ascii=False, indent=None if len(str(value)) > 4000 else 2) + "\n", "utf-8"
    )


def encode(tokenizer: Tokenizer, texts: list[str], limit: int = MAX_TOKENS) -> list[list[int]]:
    """Token ids, each row cut to `limit` but ending in END."""
    end = end_id(tokenizer)
    rows = [row.ids for row in tokenizer.encode_batch(texts)]
    return [row if len(row) <= limit else [*row[: limit - 1], end] for row in rows]


def end_id(tokenizer: Tokenizer) -> int:
    """The id of END, which also pads."""
    return int(tokenizer.token_to_id(END))
