"""Rules and index of breakpoint models together, against a dictionary of token tuples; no blocks, digests or tails."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.cache.serving import Cache, Said, prompt_of
from tests.cache.test_breakpoints import ROLES, naive

from headstart.cache.policy import BreakpointRules, Terms
from headstart.types import CacheOptions, Mode, Ttl, Written

LENGTHS = [900, 252, 77, 51, 640, 300]
"""Ends at 900, 1,152 (the end of a block), 1,229, 1,280 (another), 1,920 (another), 2,220."""
SECONDS: dict[Ttl, int] = {"30m": 1800, "12h": 43_200}
Name = tuple[str | None, bytes]


@dataclass
class Entry:
    """`life` in seconds from the last write or reuse."""

    used: float
    life: int

    def lives(self, now: float) -> bool:
        """Whether it can be read."""
        return now < self.used + self.life


class AgainstNaive(RuleBasedStateMachine):
    """Conversations that go on, part, are marked and come back after any time, under two keys."""

    @initialize()
    def start(self) -> None:
        self.cache = Cache(BreakpointRules(Terms(b"secret")))
        self.entries: dict[Name, Entry] = {}

    @rule(
        roles=st.sampled_from(["sduaua", "uauaua", "uttuau"]),
        count=st.integers(2, 6),
        other_end=st.booleans(),
        marked=st.sets(st.integers(0, 5), max_size=5),
        mode=st.sampled_from(["implicit", "explicit"]),
        ttl=st.sampled_from(["30m", "12h"]),
        own=st.sampled_from([None, "30m", "12h"]),
        key=st.sampled_from([None, "k"]),
    )
    def request(
        self,
        roles: str,
        count: int,
        other_end: bool,
        marked: set[int],
        mode: Mode,
        ttl: Ttl,
        own: Ttl | None,
        key: str | None,
    ) -> None:
        roles, lengths = roles[:count], LENGTHS[:count]
        said = [
            Said(ROLES[role], number, length, ((length, own),) if number in marked else ())
            for number, (role, length) in enumerate(zip(roles, lengths, strict=True))
        ]
        if other_end:
            said[-1] = said[-1]._replace(value=99)
        prompt = prompt_of(said)
        ends = [sum(lengths[: number + 1]) for number in range(count)]
        marks = [ends[number] for number in sorted(marked) if number < count]
        write, look = naive(roles, ends, marks, mode)
        served = self.cache.serve(prompt, CacheOptions(mode=mode, ttl=ttl), key)
        now = self.cache.now

        def name(place: int) -> Name:
            return key, prompt.tokens[:place].tobytes()

        def living(place: int) -> Entry | None:
            entry = self.entries.get(name(place))
            return entry if entry is not None and entry.lives(now) else None

        read = max((place for place in look if living(place)), default=0)
        if entry := living(read) if read else None:
            entry.used = now
        lives = {place: SECONDS[own or ttl if place in marks else ttl] for place in write}
        new = {place: life for place, life in lives.items() if not living(place)}
        for place, life in lives.items():
            entry = living(place)
            self.entries[name(place)] = Entry(now, max(life, entry.life if entry else 0))
        longest = max((*new, read), default=0)
        long = max((place for place, life in new.items() if life == SECONDS["12h"]), default=read)
        assert served == (read, Written(longest - read, max(long - read, 0)))

    @rule(seconds=st.sampled_from([1000.0, 1000.0, 1800.0, 42_000.0]))
    def wait(self, seconds: float) -> None:
        self.cache.now += seconds


AgainstNaive.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestAgainstNaive = AgainstNaive.TestCase
