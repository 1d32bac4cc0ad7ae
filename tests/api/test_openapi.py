"""The OpenAPI document: complete, true of real answers, and what a fuzzer sends by it never breaks the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.routing import Route
from tests.api.conftest import BREAKPOINTS, MODEL, Running

from headstart.api import openapi
from headstart.api.app import create_app
from headstart.api.auth import KeyRing
from headstart.api.wire import answers
from headstart.pipeline import Pipeline

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,  # by the document, whatever isn't a 200 has OpenAI's error shape
    allow_header_conformance,
    unsupported_method,
]
EXAMPLES = 150
SECONDS = 10
"""Of one request: longer is a hang."""

FUZZED = [
    pytest.param(operation, mode, id=f"{' '.join(operation)}-{mode.value}")
    for operation, described in sorted(openapi.OPERATIONS.items(), key=lambda row: row[0][0] == "DELETE")  # goes last
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or described.body or "{" in operation[1]  # others take nothing to get wrong
]

Schema = schemathesis.BaseSchema


def test_document_has_every_route(tmp_path: Path) -> None:
    """What is routed is described, and nothing else is."""
    app = create_app(Pipeline([]), KeyRing(tmp_path / "keys.json"), max_body=1)
    routed = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (method.upper(), path)
        for path, operations in msgspec.json.decode(openapi.document())["paths"].items()
        for method in operations
    }
    assert described == routed


def test_document_is_valid(schema: Schema) -> None:
    """It is OpenAPI 3.1, and what it refers to is there."""
    schema.validate()
    whole = msgspec.json.decode(openapi.document())
    for reference in re.findall(r'"\$ref":"#/([^"]+)"', openapi.document().decode()):
        part = whole
        for step in reference.split("/"):
            part = part[step]


def test_input_items_are_described(client: Any) -> None:
    """Each kind of item that the document describes is read, and an item of another kind isn't."""
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "Hello"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ]
    assert {item.get("type") for item in items} == {*openapi.ITEMS, "reasoning", None}
    assert client.responses.create(model=MODEL, input=items).status == "completed"


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("POST", "/v1/responses", {"model": MODEL, "input": "Hello"}, answers.Response),
        ("POST", "/v1/responses", {"model": MODEL, "input": "Hello", "max_output_tokens": 2}, answers.Response),
        ("POST", "/v1/responses", {"model": "unknown", "input": "Hello"}, answers.Error),
        ("POST", "/v1/responses/input_tokens", {"model": MODEL, "input": "Hello"}, answers.InputTokens),
        (
            "POST",
            "/v1/chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
            answers.ChatCompletion,
        ),
        ("POST", "/v1/chat/completions", {"model": MODEL}, answers.Error),
        ("GET", "/v1/models", None, answers.ModelList),
        ("GET", f"/v1/models/{MODEL}", None, answers.Model),
        ("GET", "/health", None, answers.Health),
        ("GET", "/openapi.json", None, answers.Document),
        ("PUT", "/v1/models", None, answers.Error),
        ("GET", "/v1/nothing", None, answers.Error),
    ],
)
def test_answers_are_as_described(http: httpx2.Client, method: str, path: str, body: Any, kind: type) -> None:
    """Real answers have what their types say."""
    answer = http.request(method, path, json=body)
    assert answer.headers["content-type"] == "application/json"
    msgspec.json.decode(answer.content, type=kind)
    assert answer.is_success != (kind is answers.Error)


def test_stored_answers_are_as_described(http: httpx2.Client, client: openai.OpenAI) -> None:
    """The same for what is stored."""
    stored = client.responses.create(model=MODEL, input="Keep this.", store=True)
    for method, path, kind in (
        ("GET", "", answers.Response),
        ("GET", "/input_items?limit=1&include[]=message.output_text.logprobs", answers.InputItems),
        ("GET", "/cache", answers.CacheExplanation),
        ("POST", "/cancel", answers.Error),
        ("DELETE", "", answers.Deleted),
        ("GET", "", answers.Error),
    ):
        msgspec.json.decode(http.request(method, f"/v1/responses/{stored.id}{path}").content, type=kind)


@pytest.mark.parametrize(("operation", "mode"), FUZZED)
@pytest.mark.usefixtures("served")
def test_fuzzed(server: Running, schema: Schema, operation: tuple[str, str], mode: GenerationMode) -> None:
    """Requests that the document allows, and those that it doesn't: each has an answer that the document allows."""
    method, path = operation

    @settings(
        max_examples=EXAMPLES if openapi.OPERATIONS[operation].body else 15,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        response = case.call(server.url, session=session, timeout=SECONDS)
        case.validate_response(response, checks=CHECKS)
        assert b'"server_error"' not in response.content  # as a stream that breaks off has it, behind its 200

    with requests.Session() as session:
        send()


@pytest.fixture(scope="module")
def schema(client: openai.OpenAI) -> Schema:
    """The document as schemathesis reads it, a little narrower: a model's name or a response's id made up, or no
    input, would end nearly every request at once, and few would be streamed."""
    document = msgspec.json.decode(openapi.document())
    stored = {"enum": [client.responses.create(model=MODEL, input="Keep this.", store=True).id, "resp_unknown"]}
    schemas = document["components"]["schemas"]
    for name, text in (("ResponsesBody", "input"), ("InputTokensBody", "input"), ("ChatBody", "messages")):
        properties = schemas[name]["properties"]
        properties["model"] = {"enum": [MODEL, BREAKPOINTS]}
        properties[text].get("anyOf", [])[2:] = []  # null
        schemas[name]["required"] = ["model", text]
        if "previous_response_id" in properties:
            properties["previous_response_id"] = stored
        if "stream" in properties:
            properties["stream"] = {"type": "boolean"}
            schemas[name]["required"].append("stream")
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["parameters"] = [
                parameter | {"schema": stored} if parameter["name"] == "id" else parameter
                for parameter in operation["parameters"]
            ]
    return schemathesis.openapi.from_dict(document)
