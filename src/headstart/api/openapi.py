"""`GET /openapi.json`: the API as this server has it, from the very types that read its requests.

A parameter that is refused keeps only its harmless values, and its description says what to send instead.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headstart import __version__
from headstart.api import refusals
from headstart.api.usage import CACHE_HEADER
from headstart.api.wire import answers, chat, fields, responses, stored

REF = "#/components/schemas/{name}"


EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "One server-sent event. Its data is JSON; the last of Chat Completions is [DONE].",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
"""As OpenAI's own document does, the stream is described by one of its events."""


class Operation(NamedTuple):
    """What a route takes and gives. `streams`: it may also answer with server-sent events; `public`: without a key."""

    summary: str
    answer: type
    body: type | None = None
    query: type | None = None
    streams: bool = False
    public: bool = False


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/responses"): Operation(
        "Answer, with the input's longest known prefix read from the cache",
        answers.Response,
        responses.ResponsesBody,
        streams=True,
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        "Count the input tokens of a request", answers.InputTokens, responses.InputTokensBody
    ),
    ("GET", "/v1/responses/{id}"): Operation("Get a stored response", answers.Response, query=stored.RetrieveQuery),
    ("DELETE", "/v1/responses/{id}"): Operation("Forget a stored response", answers.Deleted),
    ("GET", "/v1/responses/{id}/input_items"): Operation(
        "List what a stored response was given", answers.InputItems, query=stored.InputItemsQuery
    ),
    ("GET", "/v1/responses/{id}/cache"): Operation(
        "Explain what the cache did for a recent response", answers.CacheExplanation
    ),
    ("GET", "/v1/chat/completions/{id}/cache"): Operation(
        "Explain what the cache did for a recent completion", answers.CacheExplanation
    ),
    ("POST", "/v1/responses/{id}/cancel"): Operation(
        "Refused: no response is made in the background", answers.Response
    ),
    ("POST", "/v1/chat/completions"): Operation(
        "Answer a conversation, with its longest known prefix read from the cache",
        answers.ChatCompletion,
        chat.ChatBody,
        streams=True,
    ),
    ("GET", "/v1/models"): Operation("List the models served", answers.ModelList),
    ("GET", "/v1/models/{model}"): Operation("Describe a model", answers.Model),
    ("GET", "/health"): Operation("Say that the server answers", answers.Health, public=True),
    ("GET", "/openapi.json"): Operation("Describe this API", answers.Document, public=True),
}
"""By method and path; `tests/api/test_openapi.py` holds it against the routes of `api.app`."""

REFUSED: Mapping[type, Mapping[str, refusals.Refusal]] = {
    responses.ResponsesBody: refusals.RESPONSES,
    responses.InputTokensBody: refusals.COUNTING,
    chat.ChatBody: refusals.CHAT,
}

ITEMS: Mapping[str, type] = {
    "message": responses.MessageItem,
    "function_call": responses.FunctionCallItem,
    "function_call_output": responses.FunctionCallOutputItem,
}
"""What `api.responses_input` reads of a Responses body's raw `input`, by `type`."""


CACHED = "What the cache did, as `read=4608; write=0`, and why not more: `; miss=prefix_changed`."


async def serve(_: Request) -> Response:
    """`GET /openapi.json`."""
    return Response(document(), media_type="application/json")


@functools.cache
def document() -> bytes:
    """The document, OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Headstart",
            "version": __version__,
            "description": "OpenAI's API over a prefix cache. A server without keys asks for none.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {"Error": {"description": "What was wrong, and where", "content": _json(answers.Error)}},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    # Where two structs share a name, msgspec puts their module before it.
    return msgspec.json.encode(whole).replace(b"headstart.api.wire.", b"")


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    content = _json(operation.answer)
    if operation.streams:
        content["text/event-stream"] = {"schema": EVENT}
    error = {"$ref": "#/components/responses/Error"}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ]
        + _query(operation.query),
        "responses": {"200": {"description": operation.summary, "content": content}, "4XX": error, "5XX": error},
    }
    if operation.streams:
        described["responses"]["200"]["headers"] = {CACHE_HEADER: {"description": CACHED, "schema": {"type": "string"}}}
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _json(operation.body)}
    if operation.public:
        described["security"] = []
    return described


def _query(struct: type | None) -> list[dict[str, Any]]:
    """Parameters of a query string, as `decoding.query` reads them: there is no null, and lists are `name[]`."""
    if struct is None:
        return []
    _, schemas = msgspec.json.schema_components([struct], ref_template=REF)
    parameters = []
    for name, schema in schemas[struct.__name__]["properties"].items():
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        many = "[]" if schema.get("type") == "array" else ""
        parameters.append({"name": name + many, "in": "query", "schema": schema})
    return parameters


def _schemas() -> dict[str, Any]:
    """Every type of a body or an answer, by name; what the types leave raw or refuse is filled in."""
    operations = OPERATIONS.values()
    bodies = [operation.body for operation in operations if operation.body is not None]
    kinds = {*bodies, *ITEMS.values(), fields.FunctionTool, chat.Tool, answers.Error}
    kinds |= {operation.answer for operation in operations}
    _, schemas = msgspec.json.schema_components(sorted(kinds, key=lambda kind: kind.__qualname__), ref_template=REF)
    for body, refused in REFUSED.items():
        properties = schemas[body.__name__]["properties"]
        for name, refusal in refused.items():
            properties[name] = {"enum": [None, *refusal.harmless], "description": refusal.instead}
    schemas[responses.ResponsesBody.__name__]["required"] = ["model"]  # may be absent only where tokens are counted
    items = [_item(kind, _ref(struct)) for kind, struct in ITEMS.items()]
    items.append(_item("reasoning", {"type": "object", "description": "Ignored."}))
    for body, tool in (
        (responses.ResponsesBody, fields.FunctionTool),
        (responses.InputTokensBody, fields.FunctionTool),
        (chat.ChatBody, chat.Tool),
    ):
        properties = schemas[body.__name__]["properties"]
        _array(properties["tools"])["items"] = _ref(tool)
        if "input" in properties:
            _array(properties["input"])["items"] = {"anyOf": items}
    return schemas


def _item(kind: str, schema: dict[str, str]) -> dict[str, Any]:
    """An input item: its struct is chosen by its `type`, which only a message may leave out."""
    required = [] if kind == "message" else ["type"]
    return {"allOf": [schema, {"properties": {"type": {"const": kind}}, "required": required}]}


def _array(choices: dict[str, Any]) -> dict[str, Any]:
    """The array among the schemas that a property may have."""
    found: dict[str, Any] = next(choice for choice in choices["anyOf"] if choice.get("type") == "array")
    return found


def _ref(struct: type) -> dict[str, str]:
    return {"$ref": REF.format(name=struct.__name__)}


def _json(struct: type) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(struct)}}
