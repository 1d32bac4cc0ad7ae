"""From tokens' bytes to the text a client sees: whole characters only, and nothing from a stop string on."""

from __future__ import annotations

import codecs


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


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`, in characters."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
