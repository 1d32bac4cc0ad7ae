"""Changes to a client's requests that mend a finding, each on the body as the client sends it. Pure: a body that isn't
concerned comes back as None. What the model then sees differs where `changes` says so; nothing is changed silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from headstart.audit.bodies import request_of
from headstart.audit.call import OTHER_SHAPE, Call
from headstart.audit.paths import steps, value_at, with_value
from headstart.cache.kinds import kind_of

Body = dict[str, Any]

LONGEST_LINE = 400
"""Characters of a line that is moved as a whole; of a longer one it is the sentence, or else the value alone."""


class Edit(Protocol):
    """`changes`: what becomes different for the model, in a sentence; empty: nothing."""

    @property
    def changes(self) -> str:
        """See above."""
        ...

    def apply(self, call: Call) -> Body | None:
        """The body as it should be sent."""
        ...


@dataclass(frozen=True)
class MoveValue:
    """What stands on the line around character `at` of a text goes to the end of the prompt: if `kind` is named, only
    where such a value is there. With `whole`, all of the text does."""

    path: str
    at: int
    kind: str | None = None
    whole: bool = False

    changes = "The same words, in another place: behind the rest of the prompt."

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        text = value_at(call.body, self.path)
        if not isinstance(text, str) or len(text) <= self.at:
            return None
        start, stop = (0, len(text)) if self.whole else self._span(text)
        moved = text[start:stop].strip()
        if not moved:
            return None
        rest = text[:start] + text[stop:]
        return _appended(_with_text(call.body, self.path, rest), call.api, moved)

    def _span(self, text: str) -> tuple[int, int]:
        start = stop = self.at
        if self.kind is not None:
            found = kind_of(text, self.at)
            if found is None:
                return 0, 0
            start, stop = found.start, found.stop
        line = text.rfind("\n", 0, start) + 1, text.find("\n", stop) + 1 or len(text)
        if line[1] - line[0] <= LONGEST_LINE:
            return line
        before = max(text.rfind(mark, line[0], start) + 2 for mark in (". ", "! ", "? "))
        ends = [end for mark in (". ", "! ", "? ", ".\n") if (end := text.find(mark, stop, line[1])) >= 0]
        sentence = max(before, line[0]), min(ends, default=line[1] - 1) + 1
        if sentence[1] - sentence[0] <= LONGEST_LINE:
            return sentence
        return start, stop


@dataclass(frozen=True)
class SortTools:
    """Tools by their names, and the keys of each in order."""

    changes = "The same tools, in another order."

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        tools = call.body.get("tools")
        if not isinstance(tools, list) or not tools:
            return None
        return {**call.body, "tools": [_ordered(tool) for tool in sorted(tools, key=tool_name)]}


@dataclass(frozen=True)
class KeepTools:
    """Every request has all tools, each as it was first defined; `tool_choice` limits which may be called."""

    tools: tuple[Mapping[str, Any], ...]

    changes = "It sees tools that it may not call: `allowed_tools` limits them. Each has one description for all."

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        given = call.body.get("tools")
        if not isinstance(given, list):
            return None
        body = {**call.body, "tools": [dict(tool) for tool in self.tools]}
        if len(given) < len(self.tools) and call.api != "messages" and "tool_choice" not in body:
            named: list[Body] = [{"type": "function", "name": tool_name(tool)} for tool in given]
            if call.api == "chat":
                named = [{"type": "function", "function": {"name": tool_name(tool)}} for tool in given]
                choice: Body = {"allowed_tools": {"mode": "auto", "tools": named}}
            else:
                choice = {"mode": "auto", "tools": named}
            body["tool_choice"] = {"type": "allowed_tools", **choice}
        return body


@dataclass(frozen=True)
class SortText:
    """JSON in a text with its keys in order; with `lines`, the lines of the paragraph at character `at` sorted."""

    path: str
    at: int = 0
    lines: bool = False

    @property
    def changes(self) -> str:
        """See `Edit.changes`."""
        return "The same lines, in another order." if self.lines else "The same JSON, its keys in another order."

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        text = value_at(call.body, self.path)
        if not isinstance(text, str):
            return None
        made = self._sorted_lines(text) if self.lines else "".join(_sorted_json(text))
        return None if made == text else _with_text(call.body, self.path, made)

    def _sorted_lines(self, text: str) -> str:
        start = text.rfind("\n\n", 0, self.at) + 2 if "\n\n" in text[: self.at] else 0
        stop = text.find("\n\n", self.at)
        stop = len(text) if stop < 0 else stop
        return text[:start] + "\n".join(sorted(text[start:stop].split("\n"))) + text[stop:]


@dataclass(frozen=True)
class EvenSpaces:
    """A text with one kind of line end, no spaces at the ends of lines, and no two spaces or empty lines in a row."""

    path: str

    changes = "The same words, spaced the same way every time."

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        text = value_at(call.body, self.path)
        if not isinstance(text, str):
            return None
        made = text.replace("\r\n", "\n").replace("\ufeff", "").replace("\u200b", "").replace("\u00a0", " ")
        made = re.sub(r"[ \t]+", " ", made)
        made = re.sub(r" ?\n ?", "\n", made)
        made = re.sub(r"\n{2,}", "\n\n", made).strip()
        return None if made == text else _with_text(call.body, self.path, made)


@dataclass(frozen=True)
class Pad:
    """The prefix that ends with `prefix` gets `tokens` more."""

    path: str
    prefix: str
    tokens: int

    changes = "More text in front: examples or instructions that help are better than filler."

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        text = value_at(call.body, self.path)
        if not isinstance(text, str) or not text.startswith(self.prefix):
            return None
        padding = "\n" + " note" * self.tokens + "\n"
        return _with_text(call.body, self.path, self.prefix + padding + text[len(self.prefix) :])


@dataclass(frozen=True)
class Mark:
    """A breakpoint at the end of `prefix`, with which the text at `path` begins; None: of the whole text."""

    path: str
    prefix: str | None = None

    changes = ""

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        text = value_at(call.body, self.path)
        if not isinstance(text, str) or not text:
            return None
        prefix = text if self.prefix is None else self.prefix
        if not prefix or not text.startswith(prefix):
            return None
        return _marked(call, self.path, prefix, text[len(prefix) :])


@dataclass(frozen=True)
class MarkLatest:
    """A breakpoint at the end of the latest message: for a conversation that grows."""

    changes = ""

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        texts = [
            text for message in request_of(call).messages if message.role != "assistant" for text in message.content
        ]
        return Mark(texts[-1].path).apply(call) if texts else None


@dataclass(frozen=True)
class SetOption:
    """A parameter of the request; None: without it."""

    name: str
    value: Any = None

    changes = ""

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        if call.body.get(self.name) == self.value:
            return None
        body = {name: value for name, value in call.body.items() if name != self.name}
        if self.value is not None:
            earlier = call.body.get(self.name)
            both = isinstance(self.value, dict) and isinstance(earlier, dict)
            body[self.name] = {**earlier, **self.value} if both else self.value  # type: ignore[dict-item]
        return body


@dataclass(frozen=True)
class KeepLonger:
    """Claude's marks for an hour."""

    changes = ""

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        return _with_marks(call.body, lambda mark: {**mark, "ttl": "1h"})


@dataclass(frozen=True)
class DropMarks:
    """Without Claude's marks."""

    changes = ""

    def apply(self, call: Call) -> Body | None:
        """See `Edit.apply`."""
        return _with_marks(call.body, lambda _: None)


def applied(edits: tuple[Edit, ...], call: Call) -> Call:
    """A call with all these changes, one after the other; without those that don't fit its body."""
    for edit in edits:
        try:
            body = edit.apply(call)
        except (*OTHER_SHAPE, ValueError):
            continue
        if body is not None:
            call = call._replace(body=body)
    return call


def tool_name(tool: Any) -> str:
    """What a tool is called, in either endpoint's shape."""
    if not isinstance(tool, Mapping):
        return ""
    function = tool.get("function")
    return str((function if isinstance(function, Mapping) else tool).get("name") or tool.get("type") or "")


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(each) for each in value] if isinstance(value, list) else value


def _sorted_json(text: str) -> Iterator[str]:
    """A text with every JSON object in it written anew, keys in order, spaced as it was."""
    decoder, at = json.JSONDecoder(), 0
    for match in re.finditer(r"\{\s*\"", text):
        if match.start() < at:
            continue
        try:
            value, stop = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        written = text[match.start() : stop]
        tight = (",", ":") if '":' in written and '": ' not in written else (", ", ": ")
        indent = re.match(r"\{\n( +)", written)
        yield text[at : match.start()]
        yield json.dumps(_ordered(value), ensure_ascii=False, indent=len(indent[1]) if indent else None,
                         separators=(",", ": ") if indent else tight)  # fmt: skip
        at = stop
    yield text[at:]


# ---------------------------------------------------------------------------------------------- places in a body


def _with_text(body: Body, path: str, value: Any) -> Body:
    changed: Body = with_value(body, path, value)
    return changed


def _appended(body: Body, api: str, text: str) -> Body:
    """The body with a text at its end: of the last message, if that is the user's."""
    if isinstance(body.get("input"), str):
        return {**body, "input": f"{body['input']}\n\n{text}"}
    name = "input" if api == "responses" else "messages"
    items = list(body.get(name) or ())
    last = items[-1] if items else None
    if isinstance(last, Mapping) and last.get("role") == "user":
        content = last.get("content")
        if isinstance(content, str):
            items[-1] = {**last, "content": f"{content}\n\n{text}"}
            return {**body, name: items}
        if isinstance(content, list):
            items[-1] = {**last, "content": [*content, _part(api, text)]}
            return {**body, name: items}
    return {**body, name: [*items, {"role": "user", "content": text}]}


def _part(api: str, text: str, *, mark: bool = False) -> Body:
    part: Body = {"type": "input_text" if api == "responses" else "text", "text": text}
    if mark:
        part |= _MARKS["messages" if api == "messages" else "openai"]
    return part


_MARKS: Mapping[str, Body] = {
    "openai": {"prompt_cache_breakpoint": {"mode": "explicit"}},
    "messages": {"cache_control": {"type": "ephemeral"}},
}


def _marked(call: Call, path: str, prefix: str, rest: str) -> Body | None:
    body, api = call.body, call.api
    parts = [_part(api, prefix, mark=True), *([_part(api, rest)] if rest else [])]
    if path == "input":
        return {**body, "input": [{"role": "user", "content": parts}]}
    if path == "instructions":  # which can't carry one
        made = {name: value for name, value in body.items() if name != "instructions"}
        given = body.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given or ())
        return {**made, "input": [{"role": "developer", "content": parts}, *items]}
    way = steps(path)
    if way[-1] == "text":
        inside = path.removesuffix(".text")
        content_path = inside[: inside.rindex("[")]
        content = value_at(body, content_path)
        number = int(way[-2])
        marked = {**content[number], **parts[0]}
        return _with_text(body, content_path, [*content[:number], marked, *parts[1:], *content[number + 1 :]])
    if way[-1] in ("content", "system", "output") and way[0] in ("messages", "input", "system"):
        message = value_at(body, path.removesuffix(".content")) if way[-1] == "content" else None
        if isinstance(message, Mapping) and message.get("role") == "assistant":
            return None
        return _with_text(body, path, parts)
    return None


def _with_marks(body: Body, change: Any) -> Body | None:
    """The body with each `cache_control` changed, or left out where that gives None."""
    changed = False

    def walk(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, list):
            return [walk(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        made = {}
        for name, inner in value.items():
            if name == "cache_control" and isinstance(inner, Mapping):
                new = change(inner)
                changed = changed or new != inner
                if new is not None:
                    made[name] = new
            else:
                made[name] = walk(inner)
        return made

    made: Body = walk(body)
    return made if changed else None
