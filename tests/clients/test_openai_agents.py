"""`openai-agents`: its agent loop on the Responses API and on Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

# The package takes two seconds to import: inside of the tests, so that collecting others doesn't wait for it.


@pytest.fixture(params=["OpenAIResponsesModel", "OpenAIChatCompletionsModel"])
async def served(request: pytest.FixtureRequest, api: dict[str, str], model: str) -> AsyncIterator[Any]:
    """A model of the package, over either API. Nothing is traced, which would send it to OpenAI."""
    import agents

    agents.set_tracing_disabled(True)
    async with openai.AsyncOpenAI(**api, max_retries=0, timeout=30) as client:
        yield getattr(agents, request.param)(model, client)


async def test_cached_tokens(served: Any, prefix: str) -> None:
    """The second run reads the instructions, by the package's own usage."""
    from agents import Agent, Runner

    agent = Agent("Fox", instructions=prefix, model=served)
    for read in (False, True):
        result = await Runner.run(agent, "What does the fox do?")
        usage = result.context_wrapper.usage
        assert result.final_output
        assert usage.requests == 1
        assert (usage.input_tokens_details.cached_tokens >= 1024) is read


async def test_streamed(served: Any, prefix: str) -> None:
    """A streamed run ends with output and usage."""
    from agents import Agent, ModelSettings, Runner

    agent = Agent("Fox", instructions=prefix, model=served, model_settings=ModelSettings(include_usage=True))
    for read in (False, True):
        result = Runner.run_streamed(agent, "What does the fox do?")
        told = "".join(
            [
                event.data.delta
                async for event in result.stream_events()
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
            ]
        )
        assert result.final_output == told != ""
        assert (result.context_wrapper.usage.input_tokens_details.cached_tokens >= 1024) is read


async def test_conversation(served: Any, prefix: str) -> None:
    """A second turn sends the first one's items back, and reads it."""
    from agents import Agent, Runner

    agent = Agent("Fox", instructions=prefix, model=served)
    first = await Runner.run(agent, "What does the fox do?")
    second = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "And the dog?"}])
    assert second.final_output
    assert second.context_wrapper.usage.input_tokens_details.cached_tokens >= 1024


async def test_writes(served: Any, breakpoints: str, prefix: str) -> None:
    """What a breakpoint model writes is in the package's usage too, and is read by the next turn."""
    from agents import Agent, Runner

    served.model = breakpoints
    agent = Agent("Fox", model=served)
    first = await Runner.run(agent, prefix)
    second = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "And the dog?"}])
    written = first.context_wrapper.usage.input_tokens_details.cache_write_tokens
    assert written >= 1024
    assert second.context_wrapper.usage.input_tokens_details.cached_tokens == written


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools(served: Any, prefix: str, streamed: bool) -> None:
    """The loop calls a function, sends back what it said and ends with text; the second request reads the first's."""
    from agents import Agent, ModelSettings, Runner, function_tool

    asked = []

    @function_tool
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        asked.append(city)
        return f"Rain in {city}."

    # The package takes the forced choice back after the first call, so that the loop can end.
    settings = ModelSettings(tool_choice="required", include_usage=True)
    agent = Agent("Weather", instructions=prefix, model=served, tools=[weather], model_settings=settings)
    if streamed:
        result: Any = Runner.run_streamed(agent, "How is the weather?")
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(agent, "How is the weather?")
    assert len(asked) == 1
    assert result.final_output
    usage = result.context_wrapper.usage
    assert usage.requests == 2
    assert usage.input_tokens_details.cached_tokens >= 1024


async def test_hosted_tool(request: pytest.FixtureRequest, served: Any) -> None:
    """A tool that OpenAI would run ends the run with the server's error."""
    from agents import Agent, Runner, WebSearchTool
    from agents.exceptions import UserError

    # The package itself knows that Chat Completions have none.
    with pytest.raises((openai.BadRequestError, UserError), match="not supported"):
        await Runner.run(Agent("Fox", model=served, tools=[WebSearchTool()]), "News?")


async def test_image(served: Any) -> None:
    """An image ends the run with the server's error."""
    from agents import Agent, Runner

    image: Any = {"type": "input_image", "image_url": "data:image/png;base64,", "detail": "auto"}
    with pytest.raises(openai.BadRequestError, match="not supported by this server"):
        await Runner.run(Agent("Fox", model=served), [{"role": "user", "content": [image]}])
