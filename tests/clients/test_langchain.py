"""`langchain-openai`: `ChatOpenAI` over both APIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pydantic
import pytest

# The package takes a second to import: inside of the tests, so that collecting others doesn't wait for it.

Make = Callable[..., Any]


class Weather(pydantic.BaseModel):
    """What the model shall answer with."""

    city: str
    raining: bool


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def make(request: pytest.FixtureRequest, api: dict[str, str], model: str) -> Make:
    """A model of the package, over either API."""
    from langchain_openai import ChatOpenAI

    def made(**options: Any) -> Any:
        constant = {"max_retries": 0, "timeout": 30, "use_responses_api": request.param, **api}
        return ChatOpenAI(**({"model": model} | constant | options))

    return made


def cached(message: Any) -> int:
    """Tokens read, as the package's usage has them."""
    return message.usage_metadata["input_token_details"].get("cache_read", 0)


def test_invoke(make: Make, prefix: str) -> None:
    """The second call reads the prefix."""
    for question, read in (("One?", False), ("Two?", True)):
        message = make().invoke([("system", prefix), ("human", question)])
        assert message.text
        assert (cached(message) >= 1024) is read


def test_stream(make: Make, prefix: str) -> None:
    """Chunks add up to a message with usage."""
    for read in (False, True):
        whole: Any = None
        for chunk in make(stream_usage=True).stream([("system", prefix), ("human", "One?")]):
            whole = chunk if whole is None else whole + chunk
        assert whole.text
        assert (cached(whole) >= 1024) is read


async def test_asynchronous(make: Make, prefix: str) -> None:
    """`ainvoke` and `abatch`."""
    questions = [[("system", prefix), ("human", question)] for question in ("One?", "Two?", "Three?")]
    async with openai.DefaultAsyncHttpxClient() as http:  # its own outlives the test's event loop
        model = make(http_async_client=http)
        await model.ainvoke(questions[0])
        for message in await model.abatch(questions[1:]):
            assert cached(message) >= 1024


def test_conversation(make: Make, prefix: str) -> None:
    """An answer goes back as the package keeps it, and is read as part of the prefix."""
    model = make()
    messages = [("system", prefix), ("human", "One?")]
    first = model.invoke(messages)
    second = model.invoke([*messages, first, ("human", "Two?")])
    assert cached(second) >= 1024


def test_writes(make: Make, breakpoints: str, prefix: str) -> None:
    """What a breakpoint model writes is in the package's usage too, and is read by the next turn."""
    model = make(model=breakpoints)
    first = model.invoke([("human", prefix)])
    written = first.usage_metadata["input_token_details"]["cache_creation"]
    assert written >= 1024
    assert cached(model.invoke([("human", prefix), first, ("human", "Two?")])) == written


def test_structured_output(make: Make, prefix: str) -> None:
    """`with_structured_output` gives an object of the class whose schema it sent."""
    model = make().with_structured_output(Weather, method="json_schema", include_raw=True)
    for read in (False, True):
        answer = model.invoke([("system", prefix), ("human", "Weather?")])
        assert isinstance(answer["parsed"], Weather)
        assert (cached(answer["raw"]) >= 1024) is read


@pytest.mark.parametrize("streamed", [False, True])
def test_tools(make: Make, prefix: str, streamed: bool) -> None:
    """A forced call has arguments; what the function said is answered, on a prefix read again."""
    from langchain_core.messages import ToolMessage

    def weather(city: str) -> str:
        """Tell the weather of a city."""
        return f"Rain in {city}."

    messages: list[Any] = [("system", prefix), ("human", "How is the weather?")]
    forced = make(streaming=streamed, stream_usage=True).bind_tools([weather], tool_choice="required")
    first = forced.invoke(messages)
    (call,) = first.tool_calls
    assert call["name"] == "weather"
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    second = make().bind_tools([weather]).invoke([*messages, first, result])
    assert second.text
    assert cached(second) >= 1024


@pytest.mark.parametrize(
    ("content", "tools"),
    [
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}], []),
        ("News?", [{"type": "web_search"}]),
    ],
    ids=["image", "hosted tool"],
)
def test_unsupported(make: Make, content: Any, tools: list[Any]) -> None:
    """What isn't served is an error that says so."""
    with pytest.raises(openai.BadRequestError, match="not supported by this server"):
        make().bind(tools=tools or None).invoke([("human", content)])
