"""Ask a server through LlamaIndex's `OpenAILike` and print what came, as JSON. Run by `test_llama_index.py`.

python llama_index_client.py BASE_URL MODEL PREFIX
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Weather(BaseModel):
    """What the model shall answer with."""

    city: str
    raining: bool


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Rain in {city}."


def main(base_url: str, model: str, prefix: str) -> dict[str, Any]:
    """What every kind of call gave: its text, and the usage of the raw answer."""
    llm = OpenAILike(
        model=model,
        api_base=base_url,
        api_key="unused",
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        context_window=32_768,
        max_retries=0,
    )
    messages = [
        ChatMessage(role=MessageRole.SYSTEM, content=prefix),
        ChatMessage(role=MessageRole.USER, content="What does the fox do?"),
    ]
    usage = {"stream_options": {"include_usage": True}}
    image = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text="What is this?"), ImageBlock(url="data:,")])
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "chat_first": lambda: answer(llm.chat(messages)),
        "chat": lambda: answer(llm.chat(messages)),
        "stream_chat": lambda: answer(list(llm.stream_chat(messages, **usage))[-1]),
        "complete_first": lambda: answer(llm.complete(f"Complete. {prefix}")),
        "complete": lambda: answer(llm.complete(f"Complete. {prefix}")),
        "stream_complete": lambda: answer(list(llm.stream_complete(f"Complete. {prefix}", **usage))[-1]),
        "structured": lambda: llm.as_structured_llm(Weather).chat(messages).raw.model_dump(),
        "tools": lambda: run_tool(llm, messages),
        "image": lambda: answer(llm.chat([image])),
    }
    return {name: attempt(call) for name, call in calls.items()}


def run_tool(llm: OpenAILike, messages: list[ChatMessage]) -> dict[str, Any]:
    """A call that was forced, what the function said to it, and the answer to that."""
    tool = FunctionTool.from_defaults(weather)
    forced = llm.chat_with_tools([tool], chat_history=messages, tool_required=True)
    (wanted,) = llm.get_tool_calls_from_response(forced)
    said = tool(**wanted.tool_kwargs).content
    result = ChatMessage(role=MessageRole.TOOL, content=said, additional_kwargs={"tool_call_id": wanted.tool_id})
    ending = llm.chat_with_tools([tool], chat_history=[*messages, forced.message, result])
    return {"name": wanted.tool_name, "said": said, **answer(ending)}


def answer(given: Any) -> dict[str, Any]:
    """The text, and the tokens read by the raw answer's usage."""
    text = given.message.content if hasattr(given, "message") else given.text
    return {"text": text, "cached": given.raw.usage.prompt_tokens_details.cached_tokens}


def attempt(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a call gives, or what it fails with."""
    try:
        return call()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
