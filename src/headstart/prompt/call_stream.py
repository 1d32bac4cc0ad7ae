"""From an answer's text, as it comes, to text and calls.

    '…look.\\n<tool_call>\\n{"name": "f", "arguments": {"a"'        "…look.", CallBegun("f"), CallArguments('{"a"')
    ': 1}}\\n</tool_call>'                                         CallArguments(': 1}'), CallEnded()

What only looked like a call is given back as text. White space next to a call belongs to how it is written, and is
dropped. A call is one as soon as it names a function that may be called and its arguments begin: from there on, what it
holds are its arguments, as the model wrote them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator

from headstart.types import CallArguments, CallBegun, CallEnded, Calls, OutputPart

LONGEST_WORD = 256
"""Characters of a key or a name; what is longer isn't one."""
SEPARATORS = ",;"
"""What models write between two calls of one frame."""
ARGUMENTS = ("arguments", "parameters")
BARE_KEYS = ("type", "id", "name", *ARGUMENTS)
"""What a call without an opener may begin with: another object's text isn't held back until its end."""
_BEFORE_ARGUMENTS = re.compile(r"(\[CALL_ID\]\s*\w*\s*)?\[ARGS\]\s*")

_Reader = Generator[None, str, str]
"""Takes characters one by one; returns the first that it read and that isn't its own, or "" if it took them all."""


class _NotACall(Exception):
    """What was read since it was last certain is text."""


class CallStream:
    """Reads one answer. Its result doesn't depend on how the answer is cut, and its time is linear in it."""

    def __init__(self, calls: Calls) -> None:
        self._opener = calls.syntax.opener
        self._end = calls.syntax.after.removeprefix("}").strip()
        self._names = {function.name for function in calls.functions}
        self._required = calls.required
        self._left = math.inf if calls.several else 1
        self._parts: list[OutputPart] = []
        self._held = ""  # may begin an opener
        self._space: list[str] = []  # white space that may stand before a call
        self._beginning = calls.syntax.bare  # nothing but white space so far, where calls need no opener
        self._behind = False  # a call came last
        self._parser: Generator[None, str, None] | None = None
        self._raw: list[str] = []  # what the parser took that may still be text
        self._named: str | None = None  # a call's name is known, its arguments have not begun
        self._open = False  # within a call's arguments
        self._arguments: list[str] = []

    def push(self, text: str) -> list[OutputPart]:
        """What became certain."""
        while text:
            text = self._take_text(text) if self._parser is None else self._take_call(text)
        return self._taken()

    def finish(self) -> list[OutputPart]:
        """The rest, once no more comes. A call that isn't complete says so; what was to be one and has no name yet is
        dropped."""
        if self._parser is None:
            self._say("" if self._required else self._held)
        elif self._open:
            self._close(complete=False)
        elif self._named is not None:
            self._begin(self._named)
            self._close(complete=False)
        else:
            rest = "".join(self._raw)
            framing = self._behind and (self._end.startswith(rest.strip()) or rest.strip() in SEPARATORS)
            self._say("" if framing or self._required else rest)
        space = "".join(self._space)
        if space and not self._behind and not self._required:
            self._parts.append(space)
        return self._taken()

    def _taken(self) -> list[OutputPart]:
        self._flush()
        parts, self._parts = self._parts, []
        return parts

    # ------------------------------------------------------------------------------------------------------------- text

    def _take_text(self, text: str) -> str:
        text, self._held = self._held + text, ""
        if self._beginning:
            body = text.lstrip()
            if body:
                self._beginning = False
            if not body or body[0] == "{":
                self._space.append(text[: len(text) - len(body)])
                return self._enter("", body) if body else ""
        at = text.find(self._opener) if self._left else -1
        if at >= 0:
            self._say(text[:at])
            return self._enter(self._opener, text[at + len(self._opener) :])
        longest = min(len(text), len(self._opener) - 1) if self._left else 0
        keep = next((n for n in range(longest, 0, -1) if text.endswith(self._opener[:n])), 0)
        self._say(text[: len(text) - keep])
        self._held = text[len(text) - keep :]
        return ""

    def _say(self, text: str) -> None:
        body = text.rstrip()
        if body:
            self._parts.append(body.lstrip() if self._behind else "".join((*self._space, body)))
            self._behind = False
            self._space.clear()
        self._space.append(text[len(body) :])

    # ------------------------------------------------------------------------------------------------------------ calls

    def _enter(self, opener: str, rest: str) -> str:
        self._raw = [opener]
        self._parser = self._calls(bare=not opener)
        next(self._parser)
        return rest

    def _take_call(self, text: str) -> str:
        assert self._parser is not None
        for at, character in enumerate(text, 1):
            self._raw.append(character)
            try:
                self._parser.send(character)
            except StopIteration:
                self._parser = None
                return text[at:]
            except _NotACall:
                self._parser, self._named, raw = None, None, "".join(self._raw)
                certain = max(len(raw) - len(self._opener) + 1, 0)  # an opener may begin in the rest
                self._say(raw[:certain])
                return raw[certain:] + text[at:]
        return ""

    def _begin(self, name: str) -> None:
        self._parts.append(CallBegun(name))
        self._named, self._open, self._behind = None, True, True
        self._left -= 1
        self._raw.clear()
        self._space.clear()

    def _flush(self) -> None:
        if self._arguments:
            self._parts.append(CallArguments("".join(self._arguments)))
            self._arguments.clear()

    def _close(self, *, complete: bool = True) -> None:
        self._flush()
        self._parts.append(CallEnded(complete))
        self._open = False
        self._raw.clear()

    def _whole(self, name: str, arguments: str) -> None:
        self._begin(name)
        self._arguments.append(arguments)
        self._close()

    # ------------------------------------------------------------------------------------------ one character at a time

    def _calls(self, *, bare: bool) -> Generator[None, str, None]:
        """Everything behind an opener: calls, or a list of them, up to the end of their frame."""
        character = yield from _spaces((yield))
        listed = character == "["
        if listed:
            character = yield from _spaces((yield))
        while True:
            if not self._left:
                raise _NotACall
            if character == "{":
                ahead = yield from self._object(bare=bare)
            elif listed or bare:
                raise _NotACall
            else:
                ahead = yield from self._after_name(character)
            self._raw = [ahead]
            character = yield from _spaces(ahead or (yield))
            if listed:
                if character == "]":
                    self._raw.clear()
                    if self._end:
                        yield from self._ending((yield from _spaces((yield))))
                    return
            elif character == "{":
                continue
            elif self._end:
                yield from self._ending(character)
                return
            if character not in SEPARATORS:
                raise _NotACall
            character = yield from _spaces((yield))

    def _ending(self, character: str) -> Generator[None, str, None]:
        for expected in self._end[:-1]:
            if character != expected:
                raise _NotACall
            character = yield
        if character != self._end[-1]:
            raise _NotACall

    def _object(self, *, bare: bool) -> _Reader:
        """`{"name": …, "arguments": …}` behind its brace, in either order, whatever else is in it."""
        name: str | None = None
        early: str | None = None
        done = False
        character = yield from _spaces((yield))
        while character != "}":
            if character != '"':
                if done:  # models forget the last brace
                    return character
                raise _NotACall
            key = yield from _word()
            if bare and not done and key not in BARE_KEYS:
                raise _NotACall
            character = yield from _spaces((yield))
            if character != ":":
                raise _NotACall
            character = yield from _spaces((yield))
            ahead, value = "", list[str]()
            if key == "name" and not done:
                if character != '"':
                    raise _NotACall
                name = yield from _word()
                if name not in self._names:
                    raise _NotACall
                self._named = None if bare else name
            elif key in ARGUMENTS and name is not None and not done and character == "{":
                yield from self._streamed(name)
                done = True
            else:
                ahead = yield from _value(character, value.append)
                if key in ARGUMENTS and not done:
                    early = _arguments("".join(value))
            if name is not None and early is not None and not done:
                self._whole(name, early)
                done = True
            character = yield from _spaces(ahead or (yield))
            if character == ",":
                character = yield from _spaces((yield))
        if not done:
            if name is None or bare:
                raise _NotACall
            self._whole(name, "{}")
        return ""

    def _after_name(self, character: str) -> _Reader:
        """`name[ARGS]{…}`, from its first character on."""
        name = ""
        while character.isalnum() or character in "_-":
            name += character
            if len(name) > LONGEST_WORD:
                raise _NotACall
            character = yield
        if name not in self._names:
            raise _NotACall
        self._named = name
        character = yield from _spaces(character)
        if character == "[":
            character = yield from self._before_arguments()
        if character != "{":
            raise _NotACall
        yield from self._streamed(name)
        return ""

    def _before_arguments(self) -> _Reader:
        """`[ARGS]{` behind its first bracket, or `[CALL_ID]abc[ARGS]{`."""
        read = "["
        while (character := (yield)) != "{":
            read += character
            if len(read) > LONGEST_WORD:
                raise _NotACall
        if not _BEFORE_ARGUMENTS.fullmatch(read):
            raise _NotACall
        return character

    def _streamed(self, name: str) -> Generator[None, str, None]:
        """The arguments' object, its brace taken, as it comes."""
        self._begin(name)
        yield from _value("{", self._arguments.append)
        self._close()


def _spaces(character: str) -> _Reader:
    """The first character that isn't white space."""
    while character.isspace():
        character = yield
    return character


def _word() -> _Reader:
    """The rest of a short string, behind its first quotation mark."""
    read = ""
    while (character := (yield)) != '"':
        read += character
        if character == "\\":
            read += yield
        if len(read) > LONGEST_WORD:
            raise _NotACall
    try:
        return str(json.loads(f'"{read}"'))
    except ValueError:
        raise _NotACall from None


def _value(character: str, take: Callable[[str], None]) -> _Reader:
    """Any JSON value. Brackets and strings are followed, the rest is taken as it is."""
    depth = 0
    while True:
        take(character)
        if character == '"':
            while (character := (yield)) != '"':
                take(character)
                if character == "\\":
                    take((yield))
            take(character)
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
        elif not depth:  # a number or a word
            while (character := (yield)) not in ",}]" and not character.isspace():
                take(character)
            return character
        if depth <= 0:
            return ""
        character = yield


def _arguments(value: str) -> str:
    """A call's arguments as the API has them: some models write them as a string, or null for none."""
    try:
        read = json.loads(value)
        while isinstance(read, str):
            value, read = read, json.loads(read)
    except (ValueError, RecursionError):
        raise _NotACall from None
    if read is None:
        return "{}"
    if not isinstance(read, dict):
        raise _NotACall
    return value
