"""What both endpoints take of tools and of the choice among them, and what they say of the rest."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.api.conftest import MODEL

NAMES = ("get_weather", "get_time")
FLAT = [{"type": "function", "name": name} for name in NAMES]
NESTED = [{"type": "function", "function": {"name": name}} for name in NAMES]

# Each: tools, tool_choice, then the expected code, param and a part of the message.
Wrong = tuple[Any, Any, str | None, str, str]
RESPONSES: list[Wrong] = [
    (FLAT, "sometimes", "invalid_value", "tool_choice", "'auto', 'none', 'required'"),
    (FLAT, 5, "invalid_type", "tool_choice", "got an integer"),
    (FLAT, {"name": "get_time"}, "missing_required_parameter", "tool_choice.type", "tool_choice.type"),
    (FLAT, {"type": "mcp", "server_label": "x"}, "invalid_value", "tool_choice.type", "'function', 'allowed_tools'"),
    (FLAT, {"type": "function"}, "missing_required_parameter", "tool_choice.name", "tool_choice.name"),
    (FLAT, {"type": "function", "function": {"name": "f"}}, "unknown_parameter", "tool_choice.function", "function"),
    (FLAT, {"type": "function", "name": "f"}, None, "tool_choice.name", "Tool choice 'f' not found in 'tools'"),
    (None, {"type": "function", "name": "f"}, None, "tool_choice", "must be specified with 'tools' parameter"),
    ([], "required", None, "tool_choice", "Tool choice 'required' must be specified with 'tools' parameter."),
    (
        FLAT,
        {"type": "allowed_tools", "mode": "none", "tools": FLAT},
        "invalid_value",
        "tool_choice.mode",
        "'auto', 'required'",
    ),
    (FLAT, {"type": "allowed_tools", "mode": "auto", "tools": []}, "empty_array", "tool_choice.tools", "empty array"),
    (
        FLAT,
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "name": "x"}]},
        "invalid_value",
        "tool_choice.tools[0].type",
        "'function'",
    ),
    (
        FLAT,
        {"type": "allowed_tools", "mode": "auto", "tools": [*FLAT, {"type": "function", "name": "f"}]},
        None,
        "tool_choice.tools[2].name",
        "'f' not found",
    ),
    ([*FLAT, FLAT[0]], None, "invalid_value", "tools[2].name", "two functions of the name 'get_weather'"),
    (
        [{**FLAT[0], "parameters": {"type": "string"}}],
        None,
        "invalid_function_parameters",
        "tools[0].parameters",
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"string\"'",
    ),
]
CHAT: list[Wrong] = [
    (NESTED, "sometimes", "invalid_value", "tool_choice", "'auto', 'none', 'required'"),
    (NESTED, {"type": "custom"}, "invalid_value", "tool_choice.type", "'function', 'allowed_tools'"),
    (NESTED, {"type": "function", "name": "f"}, "unknown_parameter", "tool_choice.name", "tool_choice.name"),
    (
        NESTED,
        {"type": "function", "function": {"name": "f"}},
        None,
        "tool_choice.function.name",
        "Tool choice 'f' not found in 'tools'",
    ),
    (None, "required", None, "tool_choice", "Tool choice 'required' must be specified with 'tools' parameter."),
    (
        NESTED,
        {"type": "allowed_tools", "mode": "auto", "tools": NESTED},
        "unknown_parameter",
        "tool_choice.mode",
        "tool_choice.mode",
    ),
    (
        NESTED,
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        None,
        "tool_choice.allowed_tools.tools[0].function.name",
        "'f' not found",
    ),
    ([*NESTED, NESTED[1]], None, "invalid_value", "tools[2].function.name", "two functions"),
    (
        [{"type": "function", "function": {"name": "f", "parameters": {"type": ["object", "null"]}}}],
        None,
        "invalid_function_parameters",
        "tools[0].function.parameters",
        'got \'type: ["object","null"]\'',
    ),
]


@pytest.mark.parametrize(
    ("path", "said", "wrong"),
    [("responses", {"input": "Hello"}, wrong) for wrong in RESPONSES]
    + [("chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}, wrong) for wrong in CHAT],
)
def test_bad_choices(http: httpx2.Client, server: Any, path: str, said: dict[str, Any], wrong: Wrong) -> None:
    """Each names the place, in the endpoint's own shape, and what would be right."""
    tools, choice, code, param, message = wrong
    answer = http.post(f"/v1/{path}", json={"model": MODEL, **said, "tools": tools, "tool_choice": choice})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error"), error
    assert message in error["message"]


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "none",
        "required",
        {"type": "function", "name": "get_time"},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_time"}]},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]},
    ],
)
def test_choices_are_echoed(http: httpx2.Client, server: Any, choice: Any) -> None:
    """Every choice is taken, and said back as it came."""
    asked = {"model": MODEL, "input": "Hello", "tools": FLAT, "tool_choice": choice}
    answer = http.post("/v1/responses", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["tool_choice"] == choice
