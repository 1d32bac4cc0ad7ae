"""Keeps a client's text from becoming a control token.

Text that is traced to a client is encoded as ordinary text, so `<|im_end|>` in a message is nothing but characters.
That rests on the tracing, which a template can lose, for instance by `"{}".format(content)`. So when a client's text
holds the text of a control token, which is rare, the prompt is rendered once more with a *canary* in its place, as many
characters that occur nowhere else:

    content                      "a<|im_end|>b"         "a??????????b"
    rendered, traced             [content] the same     [content] the same: safe
    rendered, tracing lost       [template] the same    [template] the same: refused

A canary in untraced text means that the control token's text stood there, and would be taken for the template's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headstart.errors import InvalidRequest
from headstart.prompt.template import ChatTemplate
from headstart.prompt.tracing import Piece, Traced, pieces_of, strings
from headstart.types import Request

_FIRST_CANARY = 0x2A700
_CANARIES = 0xF00
"""Rare ideographs: without case, and printed as they are by `repr`, which private-use characters aren't. A request
that holds one itself, beside a control token's text, may be refused without need."""


class ControlGuard:
    """Checks requests against one model's control tokens."""

    def __init__(self, control: re.Pattern[str], starts: frozenset[str]) -> None:
        self._control = control
        self._starts = starts

    @classmethod
    def of(cls, control: Mapping[str, int]) -> ControlGuard | None:
        """None for a model without control tokens."""
        pattern = control_pattern(control)
        return None if pattern is None else cls(pattern, frozenset(text[:2] for text in control if text))

    def check(self, template: ChatTemplate, given: Mapping[str, Any], request: Request) -> None:
        """Raises `InvalidRequest`, naming its path, for a control token's text that would lose its provenance."""
        # `in` over a long text is some ten times faster than the pattern, and almost always enough.
        text = "\n".join([string for string in strings(given) if isinstance(string, Traced)])
        if not any(start in text for start in self._starts) or not self._control.search(text):
            return
        canaries = _Canaries(self._control)
        replaced = canaries.replaced(given)
        for text, path, _ in template.render_variables(replaced, request):
            if path:
                continue
            for character in set(text) & canaries.paths.keys():
                raise InvalidRequest(
                    "This text holds a control token of the model, and the model's chat template transforms the text "
                    "so that the two could not be told apart. Remove the control token from it.",
                    param=canaries.paths[character],
                )


def control_pattern(control: Mapping[str, int]) -> re.Pattern[str] | None:
    """Matches any control token's text, the longest first; None if there are none."""
    texts = sorted(filter(None, control), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None


class _Canaries:
    """Stand-ins handed out so far: character to the JSON path whose control token it stands for."""

    def __init__(self, control: re.Pattern[str]) -> None:
        self.paths: dict[str, str] = {}
        self._control = control

    def replaced(self, value: Any) -> Any:
        """The value, with canaries for the control tokens' texts in its traced strings."""
        if isinstance(value, Traced):
            return self._text(value)
        if isinstance(value, dict):
            return {self.replaced(key): self.replaced(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        return value

    def _text(self, value: Traced) -> Traced:
        if not self._control.search(value):
            return value
        path = next(piece.path for piece in pieces_of(value) if piece.path)
        canary = chr(_FIRST_CANARY + len(self.paths) % _CANARIES)
        self.paths[canary] = path
        text = self._control.sub(lambda match: canary * len(match.group()), value)
        return _with_text(value, text)


def _with_text(value: Traced, text: str) -> Traced:
    """`text`, as long as `value`, cut into the pieces of `value`."""
    pieces: list[Piece] = []
    at = 0
    for piece in pieces_of(value):
        pieces.append(piece._replace(text=text[at : at + len(piece.text)]))
        at += len(piece.text)
    return Traced(text, tuple(pieces))
