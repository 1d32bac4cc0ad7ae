"""Text that remembers which client's value each of its characters came from, while a template works on it.

    "<|im_start|>" + Traced("Hello") + "<|im_end|>"   ->   "<|im_start|>", "", 0
                                                            "Hello", "messages[0].content", 0
                                                            "<|im_end|>", "", 0

`Traced` is a `str`, and every operation gives exactly the characters `str` would give: provenance may be coarse or
lost, the text is never changed. Operations that cut and join keep exact offsets; those that rewrite (`upper`, `%`)
give one piece that belongs to the first client's value in it; anything that isn't overridden gives a plain `str`.
`prompt.guard` sees to it that lost provenance can't be used to forge a control token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, SupportsIndex, cast


class Piece(NamedTuple):
    """Text that came from the value at `path`, from its character `offset` on. Path "": the template's own text."""

    text: str
    path: str
    offset: int


class Traced(str):
    """Text with provenance: `pieces_of(traced)`, whose texts joined are the text itself.

    The attribute begins with an underscore so that a template can't see it: the sandbox hides such names.
    """

    __slots__ = ("_pieces",)
    _pieces: tuple[Piece, ...]

    def __new__(cls, text: str = "", pieces: tuple[Piece, ...] | None = None) -> Traced:
        """`text`, whose pieces default to those it has."""
        traced = super().__new__(cls, text)
        traced._pieces = pieces_of(text) if pieces is None else pieces
        return traced

    @classmethod
    def whole(cls, text: str, path: str) -> Traced:
        """All of the client's value at `path`."""
        assert path, "without a path it would pass for the template's own text, where control tokens are looked for"
        return cls(text, (Piece(text, path, 0),))

    def __str__(self) -> str:  # keeps the subclass through `str(x)`, which Jinja calls on all it prints
        return self

    # ---------------------------------------------------------------------------------------------- joining

    def __add__(self, other: str) -> Traced:
        if not isinstance(other, str):
            return NotImplemented
        return Traced(str.__add__(self, other), (*self._pieces, *pieces_of(other)))

    def __radd__(self, other: str) -> Traced:
        if not isinstance(other, str):
            return NotImplemented
        return Traced(str.__add__(other, self), (*pieces_of(other), *self._pieces))

    def join(self, parts: Iterable[str]) -> str:
        """As `str.join`."""
        return joined(parts, self)

    # ---------------------------------------------------------------------------------------------- cutting

    def __getitem__(self, key: SupportsIndex | slice) -> Traced:
        if not isinstance(key, slice):
            text = str.__getitem__(self, key)
            start = range(len(self))[key]
            return self._cut(start, start + len(text))
        start, stop, step = key.indices(len(self))
        if step != 1:
            return derived(str.__getitem__(self, key), self)
        return self._cut(start, max(start, stop))

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            for index, character in enumerate(piece.text):
                yield Traced(character, (Piece(character, piece.path, piece.offset + index),))

    def _cut(self, start: int, stop: int) -> Traced:
        """Characters [start, stop), both within the text."""
        if start == 0 and stop == len(self):
            return self
        pieces: list[Piece] = []
        at = 0
        for text, path, offset in self._pieces:
            low, high = max(start - at, 0), min(stop - at, len(text))
            if low < high:
                pieces.append(Piece(text[low:high], path, offset + low if path else 0))
            at += len(text)
            if at >= stop:
                break
        return Traced(str.__getitem__(self, slice(start, stop)), tuple(pieces))

    def strip(self, chars: str | None = None, /) -> Traced:
        """As `str.strip`."""
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> Traced:
        """As `str.lstrip`."""
        return self._cut(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> Traced:
        """As `str.rstrip`."""
        return self._cut(0, len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str, /) -> Traced:
        """As `str.removeprefix`."""
        return self._cut(len(self) - len(str.removeprefix(self, prefix)), len(self))

    def removesuffix(self, suffix: str, /) -> Traced:
        """As `str.removesuffix`."""
        return self._cut(0, len(str.removesuffix(self, suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As `str.split`."""
        return self._found(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """As `str.rsplit`."""
        return self._found(str.rsplit(self, sep, maxsplit), sep)

    def _found(self, texts: list[str], separator: str | None) -> list[str]:
        """`texts` with provenance: found in this text in order, with the separator or any white space between."""
        parts: list[str] = []
        at = 0
        for text in texts:
            if separator is None:  # each begins with the first character after `at` that isn't white space
                at = self.find(text, at)
            parts.append(self._cut(at, at + len(text)))
            at += len(text) + len(separator or "")
        return parts

    def splitlines(self, keepends: bool = False) -> list[str]:
        """As `str.splitlines`."""
        lines: list[str] = []
        at = 0
        for line, full in zip(str.splitlines(self, keepends), str.splitlines(self, True), strict=True):
            lines.append(self._cut(at, at + len(line)))
            at += len(full)
        return lines

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        """As `str.partition`."""
        return self._in_three(str.partition(self, sep))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        """As `str.rpartition`."""
        return self._in_three(str.rpartition(self, sep))

    def _in_three(self, texts: tuple[str, str, str]) -> tuple[str, str, str]:
        first, second = len(texts[0]), len(texts[0]) + len(texts[1])
        return self._cut(0, first), self._cut(first, second), self._cut(second, len(self))

    # ---------------------------------------------------------------------------------------------- rewriting

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> Traced:
        """As `str.replace`: what is put in keeps the provenance of `new`."""
        if not old:
            return derived(str.replace(self, old, new, count), self, new)
        if old not in self:
            return self
        parts = self.split(old, count)
        return cast(Traced, joined(parts, new))


def _rewriting(name: str) -> Callable[..., Traced]:
    operation = getattr(str, name)

    def method(self: Traced, *args: Any, **kwargs: Any) -> Traced:
        result = operation(self, *args, **kwargs)
        return result if result is NotImplemented else derived(result, self)

    method.__name__ = name
    method.__doc__ = f"As `str.{name}`; one piece."
    return method


for _name in (
    *("capitalize", "casefold", "lower", "swapcase", "title", "translate", "upper"),
    *("center", "expandtabs", "ljust", "rjust", "zfill", "__mul__", "__rmul__", "__mod__"),
):
    setattr(Traced, _name, _rewriting(_name))


def pieces_of(text: str) -> tuple[Piece, ...]:
    """The pieces of any text. A plain `str` is the template's own."""
    if isinstance(text, Traced):
        return text._pieces
    return (Piece(text, "", 0),) if text else ()


def joined(parts: Iterable[str], separator: str = "") -> str:
    """As `separator.join(parts)`, with provenance if any of them has some."""
    texts = list(parts)
    plain = str.join(separator, texts)
    if not any(isinstance(text, Traced) for text in (separator, *texts)):
        return plain
    pieces: list[Piece] = []
    between = pieces_of(separator)
    for index, text in enumerate(texts):
        if index:
            pieces.extend(between)
        pieces.extend(pieces_of(text))
    return Traced(plain, tuple(pieces))


def derived(text: str, *sources: str) -> Traced:
    """A rewritten text: one piece, which belongs to the first client's value among its sources."""
    for source in sources:
        for piece in pieces_of(source):
            if piece.path:
                return Traced(text, (Piece(str.__str__(text), piece.path, piece.offset),))
    return Traced(text)


def strings(value: Any) -> list[str]:
    """All strings in a JSON value, the keys of its mappings included, in no particular order."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    return found


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours that continue each other made one; empty pieces dropped."""
    runs: list[tuple[list[str], str, int]] = []
    end = 0
    for text, path, offset in pieces:
        if not text:
            continue
        if runs and runs[-1][1] == path and (not path or end == offset):
            runs[-1][0].append(text)
        else:
            runs.append(([text], path, offset))
        end = offset + len(text)
    return [Piece(texts[0] if len(texts) == 1 else "".join(texts), path, offset) for texts, path, offset in runs]
