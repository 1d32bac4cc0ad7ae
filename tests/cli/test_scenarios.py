"""What the scenarios send."""

from __future__ import annotations

from random import Random

import pytest
from tests.cli.conftest import Endpoint

from headstart.cli.load import connect
from headstart.cli.scenarios import SCENARIOS, Load
from headstart.errors import StartError

PHASES = {
    "tutorial": {"cold": 1, "warm": 3},
    "burst": {"one cold": 1, "cold burst": 3, "warm burst": 3},
    "users": {"first round": 3, "second round": 3},
    "conversation": {"first turn": 1, "later turns": 2},
}


async def run(endpoint: Endpoint, name: str, seed: int) -> Load:
    """A scenario with n = 3."""
    async with connect(None) as client:
        load = Load(client, endpoint.base_url, "stub", 8)
        await SCENARIOS[name].run(load, 3, Random(seed))
    return load


@pytest.mark.parametrize("name", SCENARIOS)
async def test_sends_what_it_says(endpoint: Endpoint, name: str) -> None:
    """Phases and their sizes; as many requests as announced, and the first is cold."""
    load = await run(endpoint, name, 1)
    assert {phase.name: len(phase.measurements) for phase in load.phases.values()} == PHASES[name]
    assert len(endpoint.bodies) == SCENARIOS[name].total(3)
    assert next(iter(load.phases.values())).measurements[0].cached_tokens == 0


async def test_runs_are_cold_unless_seeded(endpoint: Endpoint) -> None:
    """Another seed sends other prefixes; the same seed repeats them."""
    for seed in (1, 2, 1):
        await run(endpoint, "tutorial", seed)
    first = [endpoint.bodies[i]["messages"][0]["content"] for i in (0, 4, 8)]
    assert first[0] != first[1]
    assert first[0] == first[2]


async def test_conversation_carries_its_history(endpoint: Endpoint) -> None:
    """Every turn begins with all of the turn before it, and the answer to it."""
    await run(endpoint, "conversation", 1)
    turns = [body["messages"] for body in endpoint.bodies]
    assert [len(turn) for turn in turns] == [2, 4, 6]
    assert turns[1][:2] == turns[0]
    assert turns[1][2] == {"role": "assistant", "content": "one two three"}


async def test_a_failure_ends_the_burst(endpoint: Endpoint) -> None:
    """One failed request ends the run at once, with its reason."""
    endpoint.broken = "500"
    with pytest.raises(StartError, match="500"):
        await run(endpoint, "burst", 1)
