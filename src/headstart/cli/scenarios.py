"""What `headstart bench` sends: four ways in which prompts share prefixes.

Every run puts a random nonce in front of its prefixes, so that the first request of a run is cold on any server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import httpx2

from headstart.cli.load import Measurement, Message, measure
from headstart.cli.tutorial import INSTRUCTIONS, LONG_PREFIX, QUESTIONS

WORDS = tuple(
    """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
    """.split()  # noqa: SIM905 - sixty quoted words are no easier to read
)
"""One token each in most vocabularies, with the space before it."""


class Phase(NamedTuple):
    """Requests of one kind. `wall`: seconds in which at least one of them ran."""

    name: str
    wall: float
    measurements: tuple[Measurement, ...]


@dataclass
class Load:
    """An endpoint under load, and what was measured on it so far."""

    client: httpx2.AsyncClient
    base_url: str
    model: str
    max_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    answered: Callable[[], None] = lambda: None
    """Called after every answer, for a progress bar."""
    phases: dict[str, Phase] = field(default_factory=dict)

    async def send(self, phase: str, *conversations: Sequence[Message]) -> list[Measurement]:
        """Send all of them at once, and count them to the phase. Raises `StartError` if one fails."""
        begun = time.perf_counter()
        tasks = [asyncio.ensure_future(self._measure(messages)) for messages in conversations]
        try:
            measured = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
        before = self.phases.get(phase, Phase(phase, 0.0, ()))
        wall = before.wall + time.perf_counter() - begun
        self.phases[phase] = Phase(phase, wall, (*before.measurements, *measured))
        return measured

    async def _measure(self, messages: Sequence[Message]) -> Measurement:
        measurement = await measure(
            self.client, self.base_url, self.model, messages, self.max_tokens, options=self.options
        )
        self.answered()
        return measurement


class Scenario(NamedTuple):
    """`run(load, n, rng)` sends `total(n)` requests; `default` is n where nobody says it."""

    about: str
    run: Callable[[Load, int, Random], Awaitable[None]]
    total: Callable[[int], int]
    default: int


def nonce(rng: Random) -> str:
    """What makes a prefix new to every server."""
    return f"[run {rng.getrandbits(64):016x}]"


def user(text: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": text}


async def tutorial(load: Load, requests: int, rng: Random) -> None:
    """The tutorial's prompt once cold, then `requests` times with other questions, one after another."""
    prefix = nonce(rng) + LONG_PREFIX
    await load.send("cold", [user(prefix + QUESTIONS[0])])
    for i in range(requests):
        await load.send("warm", [user(prefix + QUESTIONS[1 + i % (len(QUESTIONS) - 1)])])


async def burst(load: Load, requests: int, rng: Random) -> None:
    """One cold request alone; then `requests` at once on another cold prefix; then the same again, warm."""
    await load.send("one cold", [user(nonce(rng) + LONG_PREFIX + QUESTIONS[0])])
    prefix = nonce(rng) + LONG_PREFIX
    for phase in ("cold burst", "warm burst"):
        questions = (f"{phase}, reader {i}: {QUESTIONS[i % len(QUESTIONS)]}" for i in range(requests))
        await load.send(phase, *([user(prefix + question)] for question in questions))


async def users(load: Load, requests: int, rng: Random) -> None:
    """`requests` users share 4 k tokens and have 300 of their own, in two rounds: who is still warm in the second?"""
    shared: Message = {"role": "system", "content": nonce(rng) + INSTRUCTIONS * 174}
    own = [" ".join(rng.choices(WORDS, k=300)) for _ in range(requests)]
    for phase in ("first round", "second round"):
        for i, text in enumerate(own):
            await load.send(phase, [shared, user(f"{text}\n{phase}: {QUESTIONS[i % len(QUESTIONS)]}")])


async def conversation(load: Load, requests: int, rng: Random) -> None:
    """`requests` turns, each with all that was said before it."""
    messages: list[Message] = [{"role": "system", "content": nonce(rng) + INSTRUCTIONS * 60}]
    for turn in range(requests):
        messages.append(user(f"{' '.join(rng.choices(WORDS, k=150))}\n{QUESTIONS[turn % len(QUESTIONS)]}"))
        (answer,) = await load.send("first turn" if turn == 0 else "later turns", messages)
        messages.append({"role": "assistant", "content": answer.text})


SCENARIOS = {
    "tutorial": Scenario("one prefix, one question after another", tutorial, lambda n: n + 1, 5),
    "burst": Scenario("n requests at once on one prefix", burst, lambda n: 2 * n + 1, 8),
    "users": Scenario("n users on one shared prefix, two rounds", users, lambda n: 2 * n, 10),
    "conversation": Scenario("n turns, each with the whole history", conversation, lambda n: n, 8),
}
