"""What is wrong with a body, in OpenAI's words: message, `code`, and `param` as a JSON path.

msgspec says "Expected `float` <= 2.0 - at `$.temperature`". OpenAI says "Invalid 'temperature': decimal above maximum
value. Expected a value <= 2, but got 3 instead." with code `decimal_above_max_value`. The value that was got and the
values that would be right are looked up in the body and the type: slower, and only done for a request that fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from headstart.errors import InvalidRequest

ECHOED_CHARACTERS = 64
"""Of a client's value in a message: a 300 KB value isn't sent back."""

Step = str | int
Path = tuple[Step, ...]

_NOUNS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_JSON_TYPES: dict[type, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    list: "array",
    dict: "object",
    type(None): "null",
}
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")


def invalid(message: str, body: bytes | msgspec.Raw, kind: Any, at: str) -> InvalidRequest:
    """Translate a `msgspec.ValidationError`'s message about `body`, which was read as `kind` and stands at `at`."""
    found = _PLACE.fullmatch(message)
    assert found is not None  # both groups may be empty, so anything matches
    path = tuple(step[1] or int(step[2]) for step in _STEP.finditer(found["path"] or "") if step[1] or step[2])
    for pattern, translate in _TRANSLATIONS:
        if match := pattern.fullmatch(found["what"]):
            try:
                where = _Where(body, kind, path, at)
                if (found["path"] or "").endswith("[...]") and translate is _wrong_type:
                    where = where.entry(match["got"])
                return translate(match, where)
            except (LookupError, TypeError):
                break  # the body says one key twice: the first was wrong, and the last is what is found there now
    param = _join(at, path)
    return InvalidRequest(f"Invalid '{param}': {found['what']}.", param=param or None, code="invalid_value")


def malformed(message: str, body: bytes) -> InvalidRequest:
    """The body isn't JSON."""
    place = re.search(r"\(byte (\d+)\)", message)
    offset = int(place[1]) if place else len(body)
    line = body.count(b"\n", 0, offset) + 1
    column = offset - (body.rfind(b"\n", 0, offset) + 1) + 1
    what = re.sub(r"^JSON is malformed: | \(byte \d+\)$", "", message)
    what = "it ended too early, or has a broken escape" if what == "Input data was truncated" else what
    return InvalidRequest(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
        f"correctly. A JSON payload is expected, but what was sent was not valid JSON: {what}, near line {line} "
        f"column {column}, byte {offset}.)"
    )


def not_utf8(body: bytes) -> InvalidRequest:
    """The body isn't UTF-8."""
    try:
        body.decode()
        place = ""
    except UnicodeDecodeError as error:
        place = f": byte {error.start} is {body[error.start]:#04x}"
    return InvalidRequest(f"We could not parse the JSON body of your request. It must be encoded as UTF-8{place}.")


def too_deep(at: str) -> InvalidRequest:
    """The body nests deeper than any parser's stack."""
    where = f" '{at}'" if at else ""
    return InvalidRequest(
        f"We could not parse the JSON body of your request:{where} arrays or objects are nested too deeply.",
        param=at or None,
    )


def missing(param: str) -> InvalidRequest:
    """A parameter that must be there."""
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def unknown_value(param: str, value: str, supported: list[str]) -> InvalidRequest:
    """A value outside of the few that are known."""
    known = ", ".join(f"'{one}'" for one in supported)
    return InvalidRequest(
        f"Invalid value: '{_short(value)}'. Supported values are: {known}.", param=param, code="invalid_value"
    )


# ------------------------------------------------------------------------------------------------ one per msgspec error


class _Where:
    """The place of an error: its path, the value that stands there, and the types that may."""

    def __init__(self, body: bytes | msgspec.Raw, kind: Any, path: Path, at: str) -> None:
        self.body, self.kind, self.path, self.param = body, kind, path, _join(at, path)

    @property
    def value(self) -> Any:
        """What the client sent there."""
        value = msgspec.json.decode(self.body)
        for step in self.path:
            value = value[step]
        return value

    def entry(self, got: str) -> _Where:
        """The first value of a type in the table here: msgspec doesn't say which key it means."""
        keys = [key for key, value in self.value.items() if _JSON_TYPES[type(value)] == got]
        return _Where(self.body, self.kind, (_short(keys[0]),), self.param)

    def below(self, name: str) -> str:
        """The path of a field here."""
        return f"{self.param}.{name}" if self.param else name

    def supported(self) -> list[str]:
        """The strings that may stand there."""
        kinds = list(_alternatives(inspect.type_info(self.kind)))
        tags: list[str] = []
        for step in self.path:
            tags = [str(kind.tag) for kind in kinds if isinstance(kind, inspect.StructType) and kind.tag_field == step]
            kinds = [below for kind in kinds for below in _step(kind, step)]
        values = [str(one) for kind in kinds if isinstance(kind, inspect.LiteralType) for one in kind.values]
        return list(dict.fromkeys(tags or values))  # several types may share a tag: parts of every role's messages


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _alternatives(one)
    elif isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    else:
        yield kind


def _step(kind: inspect.Type, step: Step) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.ListType) and isinstance(step, int):
        yield from _alternatives(kind.item_type)
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            if field.encode_name == step:
                yield from _alternatives(field.type)


def _join(at: str, path: Path) -> str:
    for step in path:
        at += f"[{step}]" if isinstance(step, int) else f".{step}" if at else step
    return at


def _short(value: str) -> str:
    return value if len(value) <= ECHOED_CHARACTERS else f"{value[:ECHOED_CHARACTERS]}… ({len(value)} characters)"


def _wrong_type(match: re.Match[str], where: _Where) -> InvalidRequest:
    expected = [_NOUNS.get(one, one) for one in match["expected"].split(" | ") if one != "null"]
    return _invalid_type(expected, _NOUNS.get(match["got"], match["got"]), where)


def _wrong_tag(_: re.Match[str], where: _Where) -> InvalidRequest:
    value = where.value
    if isinstance(value, str):
        raise TypeError("a later value of the same key")
    return _invalid_type([_NOUNS["str"]], _NOUNS[_JSON_TYPES[type(value)]], where)


def _invalid_type(expected: list[str], got: str, where: _Where) -> InvalidRequest:
    wanted = expected[0] if len(expected) == 1 else "one of " + " or ".join(expected)
    place = f"'{where.param}'" if where.param else "the request body"
    return InvalidRequest(
        f"Invalid type for {place}: expected {wanted}, but got {got} instead.",
        param=where.param or None,
        code="invalid_type",
    )


def _out_of_range(match: re.Match[str], where: _Where) -> InvalidRequest:
    noun = "integer" if match["kind"] == "int" else "decimal"
    side, code = ("below minimum", "below_min") if ">" in match["sign"] else ("above maximum", "above_max")
    bound = match["bound"].removesuffix(".0")
    return InvalidRequest(
        f"Invalid '{where.param}': {noun} {side} value. Expected a value {match['sign']} {bound}, but got "
        f"{_short(str(where.value))} instead.",
        param=where.param,
        code=f"{noun}_{code}_value",
    )


def _wrong_length(match: re.Match[str], where: _Where) -> InvalidRequest:
    noun = {"str": "string", "array": "array"}.get(match["kind"], "object")
    bound, got = int(match["bound"]), len(where.value)
    article = "an" if noun in ("array", "object") else "a"
    too_long = match["sign"] == "<="
    if not too_long and got == 0:
        wrong, code = f"empty {noun}", f"empty_{noun}"
    else:
        wrong = f"{noun} too {'long' if too_long else 'short'}"
        code = f"{noun}_{'above_max' if too_long else 'below_min'}_length"
    return InvalidRequest(
        f"Invalid '{where.param}': {wrong}. Expected {article} {noun} with {'maximum' if too_long else 'minimum'} "
        f"length {bound}, but got {article} {noun} with length {got} instead.",
        param=where.param,
        code=code,
    )


def _wrong_pattern(match: re.Match[str], where: _Where) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{where.param}': string does not match pattern. Expected a string that matches the pattern "
        f"{match['pattern']}.",
        param=where.param,
        code="invalid_value",
    )


def _missing(match: re.Match[str], where: _Where) -> InvalidRequest:
    return missing(where.below(match["name"]))


def _unknown(match: re.Match[str], where: _Where) -> InvalidRequest:
    param = where.below(_short(match["name"]))
    return InvalidRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def _wrong_value(_: re.Match[str], where: _Where) -> InvalidRequest:
    return unknown_value(where.param, str(where.value), where.supported())


_TRANSLATIONS: list[tuple[re.Pattern[str], Callable[[re.Match[str], _Where], InvalidRequest]]] = [
    (re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`"), _wrong_type),
    (re.compile(r"Expected `str`"), _wrong_tag),
    (re.compile(r"Expected `(?P<kind>int|float)[^`]*` (?P<sign>[<>]=?) (?P<bound>\S+)"), _out_of_range),
    (re.compile(r"Expected `(?P<kind>\w+)[^`]*` of length (?P<sign>[<>]=) (?P<bound>\d+)"), _wrong_length),
    (re.compile(r"Expected `str` matching regex (?P<pattern>.+)"), _wrong_pattern),
    (re.compile(r"Object missing required field `(?P<name>.+)`"), _missing),
    (re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL), _unknown),
    (re.compile(r"Invalid (?:enum )?value .+", re.DOTALL), _wrong_value),
]
