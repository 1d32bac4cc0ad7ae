"""What OpenAI's API has and this server doesn't: a clear 400 that names the parameter and what to send instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from headstart.errors import UnsupportedFeature


class Refusal(NamedTuple):
    """A parameter that may be absent, null or one of `harmless`. `instead` completes the message."""

    instead: str
    harmless: tuple[Any, ...] = ()


_SERVICE_TIER = Refusal("Every request is served alike. Use 'default' or leave it out.", ("auto", "default"))
_MODERATION = Refusal("No moderation model runs here. Moderate before you send, or after.")

PROMPT: Mapping[str, Refusal] = {
    "conversation": Refusal("Go on from a stored response with 'previous_response_id', or send the whole in 'input'."),
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
    "service_tier": _SERVICE_TIER,
    "web_search_options": Refusal("Nothing here searches the web. Put what was found into the messages."),
}


def check(body: msgspec.Struct, table: Mapping[str, Refusal]) -> None:
    """Raise `UnsupportedFeature` for the first field of `body` that says something this server can't do."""
    for name, refusal in table.items():
        value = getattr(body, name, None)
        if value is not None and value not in refusal.harmless:
            raise refused(f"'{name}'", name, refusal.instead)


def refused(what: str, param: str, instead: str) -> UnsupportedFeature:
    """The error for something that OpenAI has and this server doesn't."""
    return UnsupportedFeature(f"{what} is not supported by this server. {instead}", param=param)


def not_text(part: msgspec.Struct, at: str) -> UnsupportedFeature:
    """What to raise for a content part, at the path `at`, that no model here reads."""
    kind = str(part.__struct_config__.tag)
    return refused(f"Content of type '{kind}'", f"{at}.type", "The models here read text.")
