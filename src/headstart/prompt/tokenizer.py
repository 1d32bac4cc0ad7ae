"""What turns text into token ids: the Protocol, and OpenAI's own o200k tokenizer. An engine brings its model's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from headstart.types import TokenIds

O200K_CONTROL: Mapping[str, int] = {
    "<|endoftext|>": 199999,
    "<|endofprompt|>": 200018,
    "<|im_start|>": 200264,
    "<|im_end|>": 200265,
    "<|im_sep|>": 200266,
}
"""The control tokens of OpenAI's o200k models that a chat template uses."""

CHUNK_CHARACTERS = 50_000
"""`bpe_openai` refuses a million characters, and more than 200,000 tokens, at once. Such a text is encoded in chunks; a
character is at most four bytes, so at most four tokens, so a chunk of this size is never refused."""


class Tokenizer(Protocol):
    """Text to ids. Control tokens are never made from text: the builder inserts their ids where a template has them."""

    @property
    def control(self) -> Mapping[str, int]:
        """Control tokens, by the text that stands for them in a template."""

    @property
    def bos(self) -> int | None:
        """The id that every prompt begins with, or None if the model wants none."""

    @property
    def space_prefix(self) -> bool:
        """Whether ordinary text that begins the prompt or follows a control token gets one space before it
        (SentencePiece models)."""

    def encode(self, text: str) -> TokenIds:
        """The tokens of ordinary text: never a control token, whatever the text contains. Callable from any thread."""

    @property
    def token_bytes(self) -> npt.NDArray[np.int32]:
        """How many bytes of text each token stands for, shape (vocabulary,)."""


@cache
def o200k() -> Any:
    """The o200k_base encoding of `bpe_openai`. Its import and this take 0.7 s, so only who needs it pays for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "open_binary is deprecated", DeprecationWarning)  # its own, on Python 3.11
        import bpe_openai

        return bpe_openai.get_encoding("o200k_base")


class OpenAITokenizer:
    """o200k_base, as OpenAI's models since gpt-4o have it: same tokens, offline.

    A lone surrogate, which JSON can carry as `"\\ud800"`, is no character and has no UTF-8: it is replaced by U+FFFD,
    as OpenAI's own `tiktoken` does. Two surrogates that make a pair become their character.
    """

    bos: int | None = None
    space_prefix = False

    def __init__(self, control: Mapping[str, int] = O200K_CONTROL) -> None:
        self.control = control
        self._encoding = o200k()
        self.token_bytes = np.array([len(text) for text in self._encoding.token_byte_values()], np.int32)

    def encode(self, text: str) -> TokenIds:
        """The tokens of ordinary text; `<|endoftext|>` in it is thirteen ordinary characters."""
        if not text.isascii():
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        with suppress(ValueError):  # too long for it
            return np.array(self._encoding.encode_ordinary(text), dtype=np.int32)
        ids = chain.from_iterable(self._encoding.encode_ordinary(chunk) for chunk in chunks(text))
        return np.fromiter(ids, dtype=np.int32)


def chunks(text: str, size: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """`text` in pieces of at most `size` characters, cut where the o200k pre-tokenizer always splits.

    So the pieces have together the tokens of the whole. Where there is no such place within `size` characters (neither
    a space nor a line break) the cut is at `size`, and the tokens there may differ from OpenAI's.
    """
    start = 0
    while len(text) - start > size:
        stop = start + size
        stop = next((at for at in range(stop, start, -1) if _splits(text[at - 1], text[at])), stop)
        yield text[start:stop]
        start = stop
    yield text[start:]


def _splits(before: str, after: str) -> bool:
    """Whether the pre-tokenizer splits between these two characters whatever stands around them.

    Its pattern: a space is the first character of a pre-token or follows white space. A line break is followed within
    its pre-token only by white space or, in the tail `[\\r\\n/]*` of punctuation, by a slash; and its only look-ahead,
    `\\s+(?!\\S)`, is tried after `\\s*[\\r\\n]+`, which has taken the line break already.
    """
    if after == " ":
        return not before.isspace()
    return before == "\n" and after != "/" and not after.isspace()
