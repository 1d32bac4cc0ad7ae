"""What OpenAI's API has and this server doesn't: a clear 400 that names the parameter and what to send instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from headstart.errors import InvalidRequest, UnsupportedFeature


class Refusal(NamedTuple):
    """A parameter that may be absent, null or one of `harmless`. `instead` completes the message."""

    instead: str
    harmless: tuple[Any, ...] = ()


_CACHE_OPTIONS = Refusal(
    "The models served here follow the interval rules: every prefix of 1024 tokens and more is cached without marks. "
    "Use 'prompt_cache_key' and 'prompt_cache_retention'."
)
_SERVICE_TIER = Refusal("Every request is served alike. Use 'default' or leave it out.", ("auto", "default"))
_MODERATION = Refusal("No moderation model runs here. Moderate before you send, or after.")
_STATE = "Responses are not stored. Send the whole conversation in 'input': its prefix is read from the cache."

PROMPT: Mapping[str, Refusal] = {
    "previous_response_id": Refusal(_STATE),
    "conversation": Refusal(_STATE),
    "truncation": Refusal("Nothing is dropped from an input that is too long. Use 'disabled'.", ("disabled",)),
}
"""What shapes the prompt of the Responses API."""

COUNTING: Mapping[str, Refusal] = {**PROMPT, "personality": Refusal("Describe the style in 'instructions'.")}

RESPONSES: Mapping[str, Refusal] = {
    **PROMPT,
    "access_programs": Refusal("Leave it out: there are none here."),
    "background": Refusal("Send the request with 'stream': true and keep the connection.", (False,)),
    "background_options": Refusal("Send the request with 'stream': true and keep the connection."),
    "context_management": Refusal("Shorten 'input' before you send it.", ([],)),
    "image": Refusal("No model here sees images."),
    "moderation": _MODERATION,
    "prompt": Refusal("No prompt templates are stored here. Send the text in 'instructions' and 'input'."),
    "prompt_cache_options": _CACHE_OPTIONS,
    "service_tier": _SERVICE_TIER,
}
CHAT: Mapping[str, Refusal] = {
    "audio": Refusal("No model here speaks. Leave it out for text."),
    "function_call": Refusal("It is deprecated. Use 'tool_choice'."),
    "functions": Refusal("It is deprecated. Use 'tools'."),
    "modalities": Refusal('Only text is written. Use ["text"].', (["text"], [])),
    "moderation": _MODERATION,
    "n": Refusal("One choice is generated. Use 1, and send the request again for another.", (1,)),
    "prediction": Refusal("Leave it out: the output is the same without."),
    "prompt_cache_options": _CACHE_OPTIONS,
    "service_tier": _SERVICE_TIER,
    "web_search_options": Refusal("Nothing here searches the web. Put what was found into the messages."),
}


def check(body: msgspec.Struct, table: Mapping[str, Refusal]) -> None:
    """Raise `UnsupportedFeature` for the first field of `body` that says something this server can't do."""
    for name, refusal in table.items():
        value = getattr(body, name, None)
        if value is not None and value not in refusal.harmless:
            raise refused(f"'{name}'", name, refusal.instead)


def check_breakpoint(mark: Any, at: str) -> None:
    """A content block's `prompt_cache_breakpoint`."""
    if mark is not None:
        raise refused("'prompt_cache_breakpoint'", f"{at}.prompt_cache_breakpoint", _CACHE_OPTIONS.instead)


def check_tool_choice(choice: str | dict[str, Any] | None) -> None:
    """`auto` and `none` are served; nothing forces a call yet."""
    if choice is None or choice in ("auto", "none"):
        return
    if isinstance(choice, str) and choice != "required":
        raise InvalidRequest(
            f"Invalid value: '{choice[:64]}'. Supported values are: 'none' and 'auto'.",
            param="tool_choice",
            code="invalid_value",
        )
    raise refused("A 'tool_choice' that forces or limits calls", "tool_choice", "Use 'auto' or 'none'.")


def refused(what: str, param: str, instead: str) -> UnsupportedFeature:
    """The error for something that OpenAI has and this server doesn't."""
    return UnsupportedFeature(f"{what} is not supported by this server. {instead}", param=param)


def not_text(part: msgspec.Struct, at: str) -> UnsupportedFeature:
    """What to raise for a content part, at the path `at`, that no model here reads."""
    kind = str(part.__struct_config__.tag)
    return refused(f"Content of type '{kind}'", f"{at}.type", "The models here read text.")
