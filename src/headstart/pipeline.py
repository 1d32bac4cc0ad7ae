"""The way through the house, in one function: `Pipeline.start`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from headstart.cache.policy import Rules
from headstart.engine.base import Engine
from headstart.errors import NotFound
from headstart.prompt.builder import PromptBuilder
from headstart.types import Event, Generation, Namespace, Prompt, Request

THREADED_CHARACTERS = 200_000
"""Prompts longer than this are rendered and tokenised off the event loop, which others are waiting for."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that clients may ask for, and what answers under it. `created`: Unix time in seconds."""

    name: str
    generation: Generation
    engine: Engine
    prompts: PromptBuilder
    rules: Rules
    created: int


class Completion(NamedTuple):
    """A request under way. Closing `events` cancels it."""

    model: ServedModel
    prompt: Prompt
    events: AsyncIterator[Event]


class Pipeline:
    """Request -> Prompt -> Plan -> engine, for every model that is served."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self.models = {model.name: model for model in models}

    def model(self, name: str) -> ServedModel:
        """Raises `NotFound`, in OpenAI's words, naming what is served."""
        try:
            return self.models[name]
        except KeyError:
            served = ", ".join(f"'{known}'" for known in self.models)
            raise NotFound(
                f"The model '{name}' does not exist or you do not have access to it. This server has {served}.",
                param="model",
                code="model_not_found",
            ) from None

    async def render(self, request: Request, organisation: str) -> Prompt:
        """The prompt as the model would read it. Raises `InvalidRequest` if the template refuses the messages."""
        build = self.model(request.model).prompts.build
        characters = sum(len(text.text) for message in request.messages for text in message.content)
        characters += sum(len(call.arguments.text) for message in request.messages for call in message.tool_calls)
        pieces = len(request.messages) + sum(len(message.tool_calls) for message in request.messages)
        if characters + 100 * pieces + 1_000 * len(request.tools) > THREADED_CHARACTERS:
            return await asyncio.to_thread(build, request, organisation)
        return build(request, organisation)

    async def start(self, request: Request, organisation: str) -> Completion:
        """Send a request on its way. Everything that is wrong with it is raised here, before a byte is answered."""
        model = self.model(request.model)
        namespace = Namespace(organisation, model.name, model.generation, request.cache.key)
        model.rules.check(request.cache)
        prompt = await self.render(request, organisation)
        plan = model.rules.plan(prompt, namespace, request.cache)
        events = model.engine.generate(prompt, plan, request.sampling)
        return Completion(model, prompt, events)
