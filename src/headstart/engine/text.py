"""From tokens' bytes to the text a client sees: whole characters only, and nothing from a stop string on."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping

from headstart.engine.context import Vocabulary
from headstart.types import Calls


class TextStream:
    """Takes bytes as they are generated and gives text as soon as it is certain.

    Held back are bytes of an unfinished character, and text that may turn out to begin a stop string:

        stop "END":   "the E" -> "the "   then "N" -> ""   then "T" -> "ENT"
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(filter(None, stop))
        self._held = ""
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """The text that became certain. After a stop string `stopped` is true and no more text comes."""
        text = self._decoder.decode(piece)
        if not self._stop:
            return text
        text = self._held + text
        first = min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=-1)
        if first >= 0:
            self.stopped, self._held = True, ""
            return text[:first]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        certain, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return certain

    def finish(self) -> str:
        """What was held back, once no more comes; an unfinished character becomes U+FFFD."""
        if self.stopped:
            return ""
        held, self._held = self._held, ""
        return held + self._decoder.decode(b"", final=True)


class _Shown:
    """A vocabulary some of whose control tokens have a text."""

    def __init__(self, vocabulary: Vocabulary, pieces: Mapping[int, bytes]) -> None:
        self.space_prefix = vocabulary.space_prefix
        self.ends_turn = vocabulary.ends_turn
        self._vocabulary = vocabulary
        self._pieces = pieces

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to the text."""
        return self._pieces.get(token) or self._vocabulary.piece(token)


def shown(vocabulary: Vocabulary, control: Callable[[str], int | None], calls: Calls | None) -> Vocabulary:
    """The vocabulary of an answer that may have calls: control tokens that frame them are part of its text, so that
    they are found there. Elsewhere control tokens have none. `control` finds one by its text."""
    markers = () if calls is None else calls.syntax.markers
    pieces = {token: text.encode() for text in markers if (token := control(text)) is not None}
    return _Shown(vocabulary, pieces) if pieces else vocabulary


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`, in characters."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
