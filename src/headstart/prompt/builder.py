"""Request -> Prompt: the template's pieces become tokens, each piece on its own.

    pieces    "<|im_start|>user<|im_sep|>"   "What is overfitting?"   "<|im_end|><|im_start|>assistant<|im_sep|>"
    tokens     200264  1428  200266           4827 382 7...            200265 200264 173781 200266
    segments   [0, 3) ""                      [3, 9) "input"           [9, 13) ""

So a shared prefix has the same tokens whatever follows it, and the end of a client's value is never inside a token.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from headstart.prompt.guard import ControlGuard, control_pattern
from headstart.prompt.template import ChatTemplate
from headstart.prompt.token_cache import PieceKey, PieceTokens, TokenCache
from headstart.prompt.tokenizer import Tokenizer
from headstart.types import Ending, Mark, Prompt, Request, Segment, TokenIds


class PromptBuilder:
    """Builds the prompts of one model; callable from any thread.

    Args:
        template: renders the request.
        tokenizer: the model's own.
        cache_bytes: how much text and tokens of pieces seen before is kept. Tokenising again costs the time of the
            tokenizer (33 KB: 0.6 ms with OpenAI's, 31 ms with llama.cpp's).
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, *, cache_bytes: int = 64 * 1024 * 1024) -> None:
        self.call_syntax = template.call_syntax
        self.identity = template.source, type(tokenizer).__name__
        """What prompts depend on besides the request."""
        self._template = template
        self._tokenizer = tokenizer
        self._control = control_pattern(tokenizer.control)
        self._guard = ControlGuard.of(tokenizer.control)
        self._cache = TokenCache(cache_bytes)

    def build(self, request: Request, scope: str = "") -> Prompt:
        """The prompt that the model reads. `scope` is the organisation that asks.

        Raises `InvalidRequest` if the template refuses the messages, or transforms a client's text so that a control
        token in it could not be told from the template's own.
        """
        given = self._template.variables(request)
        pieces = self._template.render_variables(given, request)
        if self._guard is not None:
            self._guard.check(self._template, given, request)
        arrays: list[TokenIds] = []
        segments: list[Segment] = []
        at = 0
        spaced = self._tokenizer.space_prefix
        for text, path, offset in pieces:
            tokens, ends_in_control = self._tokens(PieceKey(text, not path, spaced, scope if path else ""))
            if ends_in_control is not None:
                arrays.append(tokens)
                segments.append(Segment(at, at + len(tokens), path, offset))
                at += len(tokens)
                spaced = ends_in_control and self._tokenizer.space_prefix
        tokens = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        bos = self._tokenizer.bos
        if bos is not None and not (at and tokens[0] == bos):
            tokens, segments = _begun_with(bos, tokens, segments)
        endings, marks = _places(request, segments)
        return Prompt(tokens, tuple(segments), prefix_settings(request), endings, marks)

    def locate(self, request: Request, prompt: Prompt, token: int) -> tuple[str, int] | None:
        """The JSON path and the character where a token of a request's prompt begins. A token of the template's
        own stands for the end of the value before it, if it is the first behind it, else for the beginning of the next
        value; None if none follows."""
        at = bisect_right(prompt.segments, token, key=lambda segment: segment.start) - 1
        start, _, path, offset = prompt.segments[at]
        before = prompt.segments[at - 1] if at else None
        if not path and token == start and before is not None and before.path:
            start, _, path, offset = before
        if path:
            skipped = int(self._tokenizer.token_bytes[prompt.tokens[start:token]].sum())
            data = request.text_at(path)[offset:].encode("utf-8", "replace")
            return path, offset + len(data[:skipped].decode("utf-8", "ignore"))
        following = next((segment for segment in prompt.segments[at:] if segment.path), None)
        return None if following is None else (following.path, following.offset)

    def _tokens(self, key: PieceKey) -> PieceTokens:
        found = self._cache.get(key)
        if found is None:
            found = self._tokenised(key)
            self._cache.put(key, found)
        return found

    def _tokenised(self, key: PieceKey) -> PieceTokens:
        control = self._tokenizer.control
        arrays: list[TokenIds] = []
        after_control = key.spaced
        ends_in_control: bool | None = None
        for part, is_control in _parts(key.text, self._control if key.template else None):
            prefix = " " if after_control and self._tokenizer.space_prefix else ""
            if is_control:
                arrays.append(np.array([control[part]], np.int32))
            elif key.template and part != key.text:  # between control tokens a template prints the same again and again
                arrays.append(self._tokens(PieceKey(prefix + part, template=False, spaced=False)).tokens)
            else:
                arrays.append(self._tokenizer.encode(prefix + part))
            after_control = ends_in_control = is_control
        tokens = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        tokens.flags.writeable = False  # shared by every prompt that has this piece
        return PieceTokens(tokens, ends_in_control if len(tokens) else None)


def _parts(text: str, control: re.Pattern[str] | None) -> Iterator[tuple[str, bool]]:
    """The text cut at control tokens, and whether each part is one."""
    at = 0
    for match in control.finditer(text) if control else ():
        if match.start() > at:
            yield text[at : match.start()], False
        yield match.group(), True
        at = match.end()
    if at < len(text):
        yield text[at:], False


def _begun_with(bos: int, tokens: TokenIds, segments: list[Segment]) -> tuple[TokenIds, list[Segment]]:
    """The same with `bos` in front, as the template's own token."""
    moved = [Segment(start + 1, stop + 1, path, offset) for start, stop, path, offset in segments]
    if moved and not moved[0].path:
        moved[0] = moved[0]._replace(start=0)
    else:
        moved.insert(0, Segment(0, 1, "", 0))
    return np.concatenate((np.array([bos], np.int32), tokens)), moved


def _places(request: Request, segments: list[Segment]) -> tuple[tuple[Ending, ...], tuple[Mark, ...]]:
    """Where messages and marked blocks end: with the last token of their own text, wherever the template put it. What
    the template closes a message with comes after, and is the same whatever follows."""
    printed: dict[str, Segment] = {}
    for segment in segments:
        before = printed.get(segment.path)
        if before is None or segment.offset > before.offset:  # else the template prints it a second time
            printed[segment.path] = segment
    endings, marks = [], []
    for message in request.messages:
        stop = 0
        for text in message.content:
            if text.path in printed:
                stop = max(stop, printed[text.path].stop)
            if text.breakpoint is not None and stop:  # an empty block ends where the one before it does
                marks.append(Mark(stop, text.breakpoint.ttl))
        endings.append(Ending(message.role, stop))
    return tuple(endings), tuple(marks)


def prefix_settings(request: Request) -> str:
    """The settings that are part of the prefix whether or not the template renders them; "" for the defaults.

    `parallel_tool_calls` counts only where there are tools. The keys of a schema keep the client's order, which is part
    of the prefix. `tool_choice` is not among them: it never changes a prefix (docs/contract.md, both generations).
    """
    settings = request.settings
    values: dict[str, object] = {}
    if request.tools and not settings.parallel_tool_calls:
        values["parallel_tool_calls"] = False
    if settings.format.kind != "text":
        values["format"] = [settings.format.kind, settings.format.name, settings.format.schema]
    if settings.reasoning_effort is not None:
        values["reasoning_effort"] = settings.reasoning_effort
    if settings.verbosity is not None:
        values["verbosity"] = settings.verbosity
    return json.dumps(values, separators=(",", ":")) if values else ""
