"""What stands between a client's JSON schema and llama.cpp's grammars, which recurse, trust their input, and ignore
what they don't know. A schema that would not be kept to the letter is refused, naming the keyword; where a client asks
for no more than an effort (a function that isn't `strict`), the keyword is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headstart.errors import InvalidRequest

MOST_REPEATS = 1_000
"""Largest `maxLength`, `minItems` …: each repeat is a nested group of the grammar, so a level of recursion."""
MOST_VALUES = 500
"""Values of all enumerations together: llama.cpp follows every one of them at every token."""
MOST_PROPERTIES = 500
MOST_BYTES = 256 * 1024
MOST_GROUPS = 2_000
LITERALS = ("enum", "const", "properties")
REPEATS = ("minLength", "maxLength", "minItems", "maxItems")
FORMATS = ("date", "time", "date-time", "uuid")
ANYTHING = ["object", "array", "string", "number", "boolean", "null"]
SCHEMAS = ("items", "additionalProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
TABLES = ("properties", "$defs", "definitions")
KEPT = {"type", "required", "enum", "const", "$ref", "format", *REPEATS, *SCHEMAS, *LISTS, *TABLES}
REMARKS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "strict"}
Convert = Callable[[str], str]
"""The JSON text of a schema to GBNF."""
_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


class SchemaReader:
    """Turns one schema into what the converter understands. Raises `InvalidRequest`, with the path in `param`, for what
    can't be kept; if not `strict`, that is left out instead."""

    def __init__(self, param: str, *, strict: bool = True) -> None:
        self._param = param
        self._strict = strict
        self._values = 0
        self._whole: Any = None
        self._circular: dict[str, bool] = {}

    def read(self, schema: Any) -> dict[str, Any]:
        """The whole schema, a root that only points to a definition resolved."""
        self._whole = schema
        root = self._node(schema, self._param)
        table, _, name = str(root.get("$ref", "")).removeprefix("#/").partition("/")
        if name and table in ("$defs", "definitions") and name in root.get(table, {}):
            root = {**{key: value for key, value in root.items() if key != "$ref"}, **root[table][name]}
        return root

    def _node(self, node: Any, path: str) -> dict[str, Any]:
        if node is True:
            return {"type": ANYTHING}
        if not isinstance(node, Mapping):
            raise self._error("A JSON schema is an object, or true.", path)
        result: dict[str, Any] = {}
        for key, value in node.items():
            if key not in REMARKS:
                try:
                    result[key] = self._value(key, value, f"{path}.{key}")
                except InvalidRequest:
                    if self._strict:
                        raise
        if {"minItems", "maxItems"} & result.keys() and not {"items", "prefixItems"} & result.keys():
            result["items"] = {"type": ANYTHING}
        for least, most in (("minLength", "maxLength"), ("minItems", "maxItems")):
            if result.get(least, 0) > result.get(most, MOST_REPEATS):
                if self._strict:
                    raise self._error(f"'{least}' is above '{most}'.", f"{path}.{least}")
                del result[least]
        return result

    def _inner(self, node: Any, path: str) -> dict[str, Any]:
        return self._node(node, path) or {"type": ANYTHING}  # the converter takes {} for an object

    def _value(self, key: str, value: Any, at: str) -> Any:
        if key not in KEPT:
            raise self._error(f"'{key}' in a JSON schema can't be enforced by this server. Leave it out.", at)
        literals = list(value) if key == "properties" and isinstance(value, Mapping) else value
        if key in LITERALS and "\\" in json.dumps(literals, ensure_ascii=False):  # the converter doesn't escape twice
            raise self._error(f"'{key}' can't hold quotes, backslashes or control characters on this server.", at)
        if key in TABLES:
            self._expect(isinstance(value, Mapping) and len(value) <= MOST_PROPERTIES, key, at)
            return {name: self._inner(inner, f"{at}.{name}") for name, inner in value.items()}
        if key in LISTS:
            self._expect(isinstance(value, list) and len(value) > 0, key, at, "a list of one schema or more")
            return [self._inner(inner, f"{at}[{n}]") for n, inner in enumerate(value)]
        if key == "items" or (key == "additionalProperties" and not isinstance(value, bool)):
            return self._inner(value, at)
        self._check_value(key, value, at)
        return value

    def _check_value(self, key: str, value: Any, at: str) -> None:
        if key in REPEATS:
            fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_REPEATS
            self._expect(fits, key, at, f"an integer from 0 to {MOST_REPEATS} on this server")
        elif key == "format":
            self._expect(value in FORMATS, key, at, f"one of {', '.join(FORMATS)} on this server")
        elif key == "$ref":
            local = isinstance(value, str) and value.startswith("#/")
            found = local and self._place(value) is not None
            self._expect(found, key, at, "a place in this schema, as '#/$defs/name'")
            if self._runs_in_a_circle(value):
                message = f"its references run in a circle: '{value[:64]}' leads from one to the next without end."
                raise self._error(message, at)
        elif key == "enum":
            self._expect(isinstance(value, list) and len(value) > 0, key, at, "a list of values")
            self._values += len(value)
            self._expect(self._values <= MOST_VALUES, key, at, f"at most {MOST_VALUES} values in all on this server")
        elif key == "required":
            self._expect(isinstance(value, list) and all(isinstance(name, str) for name in value), key, at)

    def _runs_in_a_circle(self, reference: str) -> bool:
        """Whether references, and alternatives that are references, lead back to one of them: llama.cpp's converter and
        parser fail on that without saying so."""
        stack = {} if reference in self._circular else {reference: _leads_to(self._place(reference))}
        while stack:
            last = next(reversed(stack))
            step = next(stack[last], None)
            if step is None:
                self._circular[last] = False
                del stack[last]
            elif step in stack or self._circular.get(step):
                self._circular |= dict.fromkeys(stack, True)
                break
            elif step not in self._circular:
                stack[step] = _leads_to(self._place(step))
        return self._circular[reference]

    def _place(self, reference: str) -> Any:
        place = self._whole
        for step in reference.removeprefix("#/").split("/"):
            place = place.get(step) if isinstance(place, Mapping) else None
        return place

    def _expect(self, holds: bool, key: str, at: str, what: str = "of another type or smaller") -> None:
        if not holds:
            raise self._error(f"'{key}' has to be {what}.", at)

    def _error(self, message: str, path: str) -> InvalidRequest:
        return InvalidRequest(f"Invalid JSON schema: {message}", param=path[:300], code="invalid_json_schema")


def _leads_to(node: Any) -> Iterator[str]:
    """The references that stand for a node."""
    if not isinstance(node, Mapping):
        return
    if isinstance(node.get("$ref"), str):
        yield node["$ref"]
        return
    for key in ("oneOf", "anyOf"):
        alternatives = node.get(key)
        for inner in alternatives if isinstance(alternatives, list) else ():
            yield from _leads_to(inner)


def schema_grammar(schema: Any, param: str, convert: Convert, *, strict: bool = True) -> str:
    """GBNF of a JSON schema that stands at `param`; `convert` is the converter. If not `strict`, as much of it as can
    be kept, in the worst case any object."""
    try:
        return _converted(SchemaReader(param, strict=strict).read(schema), param, convert)
    except InvalidRequest:
        if strict:
            raise
        return _converted({"type": "object"}, param, convert)


def _converted(schema: dict[str, Any], param: str, convert: Convert) -> str:
    try:
        grammar = convert(json.dumps(schema))
    except Exception as error:  # third-party converter: KeyError, ValueError, RecursionError …
        raise InvalidRequest(
            f"This JSON schema can't be turned into a grammar ({type(error).__name__}: {str(error)[:200]}).",
            param=param,
            code="invalid_json_schema",
        ) from error
    return repaired(grammar, param)


def repaired(grammar: str, param: str) -> str:
    """The converter's grammar as llama.cpp needs it. Raises `InvalidRequest` for one that is too large or deep.

    The converter lets raw control characters into strings, which JSON doesn't allow, and writes characters beyond
    U+FFFF as two escapes, which llama.cpp reads as two characters.
    """
    grammar = bounded(grammar.lstrip(), param).replace('[^"\\\\]', '[^"\\\\\\x7F\\x00-\\x1F]')
    return _SURROGATES.sub(lambda pair: f"\\U{_character(pair[1], pair[2]):08X}", grammar)


def bounded(grammar: str, param: str) -> str:
    """The same. Raises `InvalidRequest` for one that would be too much for llama.cpp."""
    depth = deepest = 0
    for bracket in re.findall(r"[()]", grammar):
        depth += 1 if bracket == "(" else -1
        deepest = max(deepest, depth)
    if len(grammar) > MOST_BYTES or deepest > MOST_GROUPS:
        raise InvalidRequest(
            "This JSON schema is too large or too deep for a grammar.", param=param, code="invalid_json_schema"
        )
    return grammar


def _character(high: str, low: str) -> int:
    return 0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00
