"""The grammar of an answer with calls: what llama.cpp lets a model write.

    calls have to be made    root ::= opener call …                    the arguments follow their functions' schemas
    calls may be made        root ::= text without the opener, and behind an opener calls, and text again
    … and a format is asked  root ::= calls | format

So a call that a model has begun is well-formed and names a function that may be called. Where it needn't call, its
arguments are any JSON object, unless the function is `strict`: schemas are only read where they have to be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from headstart.engine.grammar import MOST_BYTES, Convert, bounded, schema_grammar
from headstart.errors import InvalidRequest
from headstart.types import Calls, Function, Sampling

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[A-Za-z][\w-]*')
_WHITE = re.compile(r"(\s+)")
_OBJECT: dict[str, object] = {"type": "object"}
_EMPTY: dict[str, object] = {"type": "object", "properties": {}}


def answer_grammar(sampling: Sampling, convert: Convert, any_object: str) -> str | None:
    """GBNF of an answer; None: it may be any text. `convert` makes a grammar of a JSON schema; `any_object` is one of
    any JSON object.

    Raises `InvalidRequest`, with the path in `param`, for a schema that has to be kept and can't.
    """
    wanted, calls, param = sampling.format, sampling.calls, f"{sampling.format.path}.schema"
    if calls is None and wanted.kind == "json_object":
        return any_object.lstrip()
    if wanted.kind == "text" or (calls is not None and calls.required):
        return None if calls is None else _with_calls(calls, convert, None)
    schema = _OBJECT if wanted.schema is None else wanted.schema
    answer = schema_grammar(schema, param, convert)
    return answer if calls is None else _with_calls(calls, convert, answer)


class OpenerWatch:
    """Sees where free text is written that has nothing of an opener in it: there the grammar of an answer stays where
    it is, and needn't be asked. That is nearly every token."""

    def __init__(self, opener: str) -> None:
        self._opener = opener.encode()
        self._begun = b""
        self._found = False

    @classmethod
    def of(cls, sampling: Sampling) -> OpenerWatch | None:
        """None if the answer is never free text, or always."""
        calls = sampling.calls
        free = calls is not None and not calls.required and sampling.format.kind == "text"
        return cls(calls.syntax.opener) if calls is not None and free else None

    def passes(self, piece: bytes) -> bool:
        """Whether the grammar may be left out of it that these bytes come next."""
        if self._found or not (self._begun or self._opener[:1] in piece):
            return not self._found
        written = self._begun + piece
        self._found = self._opener in written
        lengths = range(min(len(written), len(self._opener) - 1), 0, -1)
        self._begun = next((self._opener[:n] for n in lengths if written.endswith(self._opener[:n])), b"")
        return False


def _with_calls(calls: Calls, convert: Convert, answer: str | None) -> str:
    syntax, opener = calls.syntax, _literal(calls.syntax.opener)
    rules, size = ["calls-white ::= [ \\n]{0,2}"], 0
    for rule in _frame(calls, convert):
        rules.append(rule)
        size += len(rule)
        if size > MOST_BYTES:  # `bounded` will say so: no need to convert the rest
            break
    if calls.required:
        rules.append(f"root ::= {'' if syntax.bare else opener} calls-frame")
    elif answer is not None:
        rules += [f"root ::= {opener}{'?' * syntax.bare} calls-frame | answer-root", _renamed(answer, "answer-")]
    else:
        rules.append("root ::= text")
        rules += _text(syntax.opener, "text", "calls-frame " + ("text" if calls.several else "rest"))
        if not calls.several:
            rules += _text(syntax.opener, "rest", None)
    return bounded("\n".join(rules), "tools")


def _frame(calls: Calls, convert: Convert) -> Iterator[str]:
    syntax = calls.syntax
    call = "calls-white ( " + " | ".join(f"call-{n}" for n in range(len(calls.functions))) + " )"
    more = f"( {_literal(syntax.joint or '')} {call} )*" if calls.several else ""
    yield f"calls-frame ::= {_literal(syntax.start)} {call} {more} {_literal(syntax.closer)}"
    yield _renamed(schema_grammar(_OBJECT, "tools", convert), "any-")
    for n, function in enumerate(calls.functions):
        arguments = "any-"
        if calls.required or function.strict:
            arguments = f"arguments-{n}-"
            yield _renamed(_arguments(function, convert), arguments)
        before = _literal(f"{syntax.before.lstrip()}{function.name}{syntax.middle}")
        yield f"call-{n} ::= {before} {arguments}root {_literal(syntax.after)}"


def _arguments(function: Function, convert: Convert) -> str:
    schema = _EMPTY if function.parameters is None else function.parameters
    try:
        return schema_grammar(schema, function.path, convert, strict=function.strict)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{error.message} Or send 'strict': false with the function '{function.name}': its schema is then kept as "
            "far as it can be.",
            param=error.param,
            code="invalid_function_parameters",
        ) from error


def _text(opener: str, name: str, follows: str | None) -> Iterator[str]:
    """Rules of text, one per state: how much of the opener was just written. The text may end in any of them; the whole
    opener leads to what `follows`, or isn't written if that is None."""
    letters = sorted(set(opener))
    others = "[^" + "".join(re.sub(r"[\]\[\\^-]", r"\\\g<0>", letter) for letter in letters) + "]"
    for state in range(len(opener)):
        ways = [f"{others} {name}"]
        for letter in letters:
            written = opener[:state] + letter
            reached = next(n for n in range(len(written), -1, -1) if written.endswith(opener[:n]))
            if reached < len(opener):
                ways.append(f"{_literal(letter)} {name}{f'-{reached}' if reached else ''}")
            elif follows is not None:
                ways.append(f"{_literal(letter)} {follows}")
        yield f"{name}{f'-{state}' if state else ''} ::= | {' | '.join(ways)}"


def _renamed(grammar: str, prefix: str) -> str:
    """The grammar with `prefix` before the names of its rules."""
    return _TOKEN.sub(lambda token: prefix + token[0] if token[0][0].isalpha() else token[0], grammar)


def _literal(text: str) -> str:
    """A text in quotation marks, with optional white space where it has some: models differ in theirs."""
    parts = []
    for part in filter(None, _WHITE.split(text)):
        escaped = part.replace("\\", "\\\\").replace('"', '\\"')
        parts.append("calls-white" if part.isspace() else f'"{escaped}"')
    return " ".join(parts)
