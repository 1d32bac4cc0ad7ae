"""The demo model's vocabulary: OpenAI's o200k_base in the shape a GGUF stores, or its first few hundred tokens.

o200k_base is published as byte strings in the order of their ranks. llama.cpp wants the merges too; they follow from
the ranks: a token was made from the two parts that the ranks below its own leave of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import gguf

PRE_TOKENIZER = "gpt-4o"
"""llama.cpp's name for the pattern that cuts text into words before o200k_base's merges run."""

CONTROLS = {
    "<|endoftext|>": 199_999,
    "<|endofprompt|>": 200_018,
    "<|im_start|>": 200_264,
    "<|im_end|>": 200_265,
    "<|im_sep|>": 200_266,
}
"""Control tokens at the ids of OpenAI's chat models."""

PADDING = 32
"""llama.cpp computes rows of a matrix in groups; the vocabulary ends with unused tokens up to a multiple of this."""

FUNCTION_WORDS = frozenset(
    b" the a an of and to in is that for it as with on by not or are this from be at which was but can more than when "
    b"so if most all these into over because".split()
)


class Words(NamedTuple):
    """Ids of the tokens that the demo model answers with."""

    function: list[int]
    """` the`, ` of`, …"""
    lower: list[int]
    """Other English words with their leading space, without a capital."""
    capital: list[int]
    """Words with one: they begin sentences."""
    opening: list[int]
    """Words that only begin a string of JSON: without the space."""
    inner: list[int]
    """Words that only follow inside one. No other text has them, so each tells by itself where it stands."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`ordinary[i]` are the bytes of token i; `texts`, `types` and `merges` are what a GGUF stores."""

    ordinary: list[bytes]
    texts: list[str]
    types: list[int]
    merges: list[str]
    controls: Mapping[str, int]
    words: Words


def o200k_vocabulary() -> Vocabulary:
    """All of o200k_base, 200,288 tokens with the control tokens at OpenAI's ids."""
    ordinary = _ordinary()
    size = -(-(max(CONTROLS.values()) + 1) // PADDING) * PADDING
    return _vocabulary(ordinary, CONTROLS, size, _english_words(ordinary))


def small_vocabulary(size: int) -> Vocabulary:
    """The first tokens of o200k_base and the five control tokens after them, `size` in all."""
    ordinary = _ordinary()[: size - len(CONTROLS)]
    controls = {text: len(ordinary) + i for i, text in enumerate(CONTROLS)}
    return _vocabulary(ordinary, controls, size, _letters(ordinary))


def _ordinary() -> list[bytes]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "open_binary is deprecated", DeprecationWarning)  # its own, on Python 3.11
        from bpe_openai import registry  # here, since its import takes 0.7 s

        ranks: dict[bytes, int] = registry.o200k_base()["mergeable_ranks"]
    assert sorted(ranks.values()) == list(range(len(ranks))), "o200k_base has one token for every rank"
    return sorted(ranks, key=ranks.__getitem__)


def _vocabulary(ordinary: list[bytes], controls: Mapping[str, int], size: int, words: Words) -> Vocabulary:
    texts = [_spelled(token) for token in ordinary]
    types = [int(gguf.TokenType.NORMAL)] * len(ordinary)
    texts += [f"<|unused_{i}|>" for i in range(len(ordinary), size)]
    types += [int(gguf.TokenType.UNUSED)] * (size - len(ordinary))
    for text, i in controls.items():
        texts[i], types[i] = text, int(gguf.TokenType.CONTROL)
    return Vocabulary(ordinary, texts, types, _merges(ordinary), controls, words)


def _english_words(ordinary: list[bytes]) -> Words:
    """A word counts as English if the vocabulary also has it with a capital, and either with "-s" and "-ing" or with
    "-ly": no list of words is needed, and few words of other languages pass."""
    ids = {token: i for i, token in enumerate(ordinary)}
    words = Words([], [], [], [], [])
    for token, i in ids.items():
        capital = ids.get(b" " + token[1:].capitalize())
        if capital is None or not re.fullmatch(rb" [a-z]+", token):
            continue
        inflected = token + b"s" in ids and (token + b"ing" in ids or token.removesuffix(b"e") + b"ing" in ids)
        if token[1:] in FUNCTION_WORDS:
            words.function.append(i)
        elif len(token) > 3 and (inflected or token + b"ly" in ids):
            words.lower.append(i)
        else:
            continue
        words.capital.append(capital)
    plurals = {ids.get(ordinary[i] + b"s", i) for i in words.lower}
    words.inner.extend(sorted(plurals.difference(words.lower, words.function)))
    words.opening.extend(ids[ordinary[i][1:]] for i in words.lower if ordinary[i][1:] in ids)
    return words


def _letters(ordinary: list[bytes]) -> Words:
    """A small vocabulary has few whole words: shreds of them have to do."""
    lower, capital, inner = (
        [i for i, token in enumerate(ordinary) if re.fullmatch(pattern, token)]
        for pattern in (rb" [a-z]+|[a-z]{1,2}", rb" ?[A-Z][a-z]*", rb"[a-z]{3,}")
    )
    return Words([], lower, capital, inner, inner)


def _merges(ordinary: list[bytes]) -> list[str]:
    ranks = {token: rank for rank, token in enumerate(ordinary)}
    merges = []
    for rank, token in enumerate(ordinary):
        if len(token) == 1:
            continue
        cuts = [
            cut
            for cut in range(1, len(token))
            if ranks.get(token[:cut], rank) < rank and ranks.get(token[cut:], rank) < rank
        ]
        cut = cuts[0] if len(cuts) == 1 else _last_cut(token, ranks, rank)
        merges.append(f"{_spelled(token[:cut])} {_spelled(token[cut:])}")
    return merges


def _last_cut(token: bytes, ranks: Mapping[bytes, int], rank: int) -> int:
    """Where the two parts meet that byte-pair encoding by the ranks below `rank` leaves of `token`."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)]
        lowest = min(pairs)
        assert lowest < rank, f"token {rank} can't be made from tokens of lower ranks"
        i = pairs.index(lowest)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return len(parts[0])


def _byte_letters() -> dict[int, str]:
    """GPT-2's letter for every byte: printable ones stand for themselves, the others are moved up past 255."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    moved = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(moved)}


_LETTERS = _byte_letters()


def _spelled(token: bytes) -> str:
    return token.decode("latin-1").translate(_LETTERS)
