"""The scheduler on a context that knows what every cell was computed from: whatever happens, no one gets another's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.engine.model_context import Greedy, ModelContext, expected
from tests.engine.model_disk import ModelDisk

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import BreakpointRules, IntervalRules, Rules, Terms
from headstart.cache.promises import PromiseBudget
from headstart.engine.cells import Bounds, Cells
from headstart.engine.scheduler import Budget, Scheduler
from headstart.engine.sequence import Sequence
from headstart.errors import EngineFailed, RequestError
from headstart.types import (
    CacheOptions,
    Ending,
    Event,
    Finished,
    Generation,
    Lost,
    Namespace,
    Placed,
    Prompt,
    Retention,
    Sampling,
    Started,
    Ttl,
    Written,
)

TERMS = Terms(b"secret", retention="in_memory")
RULES: dict[Generation, Rules] = {"interval": IntervalRules(TERMS), "breakpoint": BreakpointRules(TERMS)}
BLOCK_BYTES = 2000
ROOMY = Bounds(cells=16_384, max_sequences=8, hot_prefixes=4, hot_cells=8_192)
BUDGET = Budget(512, 128)


class Client:
    """A scheduler and the requests that were sent to it."""

    def __init__(
        self,
        bounds: Bounds = ROOMY,
        ram_blocks: int = 1000,
        budget: Budget = BUDGET,
        disk: ModelDisk | None = None,
        disk_blocks: int = 0,
        share: float = 1.0,
    ) -> None:
        self.bounds, self.budget, self.disk, self.ram_blocks = bounds, budget, disk, ram_blocks
        self.disk_blocks, self.share = disk_blocks, share
        self.now = 0.0
        self.sent: list[tuple[Sequence, list[Event | RequestError], int]] = []
        self.start()

    def start(self) -> None:
        """A new process: of what was, only the disk is there."""
        self.context = ModelContext(self.bounds.cells, max(self.budget) + self.bounds.max_sequences)
        ram = self.ram_blocks * BLOCK_BYTES
        promises = PromiseBudget(self.disk_blocks * BLOCK_BYTES, ram * 3 // 4, self.share)
        self.index = PrefixIndex(ram, promises)
        self.cells = Cells(self.context, self.index, self.bounds, self.disk)
        self.cells.tiers.load(self.now)
        self.scheduler = Scheduler(self.context, self.cells, self.budget, lambda: self.now)

    def send(
        self,
        prompt: np.ndarray,
        max_tokens: int = 4,
        organisation: str = "org",
        ends: tuple[int, ...] = (),
        ttl: Ttl = "30m",
        retention: Retention | None = None,
    ) -> Sequence:
        """`ends`: where user messages of a breakpoint model end; without, it is an interval model's."""
        generation: Generation = "breakpoint" if ends else "interval"
        plan = RULES[generation].plan(
            Prompt(prompt, (), "", tuple(Ending("user", end) for end in ends)),
            Namespace(organisation, "m", generation, None),
            CacheOptions(ttl=ttl, retention=retention),
        )
        events: list[Event | RequestError] = []
        greedy = Greedy()
        sequence = Sequence(prompt, plan, Sampling(), greedy, greedy, max_tokens, events.append)
        self.scheduler.waiting.append(sequence)
        self.sent.append((sequence, events, max_tokens))
        return sequence

    def step(self, tidy: int = 2) -> bool:
        worked = self.scheduler.step(self.now)
        self.cells.tidy(self.now, tidy, self.scheduler.running)
        self.cells.check_integrity(self.scheduler.running)
        return worked

    def run(self) -> None:
        for _ in range(10_000):
            if self.disk is not None:
                self.disk.settle(1)
            if not self.step() and not any(sequence.promotion for sequence in self.scheduler.running):
                break
        assert not self.scheduler.waiting
        assert not self.scheduler.running
        while self.cells.tidy(self.now, 64):
            pass
        if self.disk is not None:
            self.disk.settle()
            self.cells.tiers.tidy(self.now)
        self.cells.check_integrity([])

    def check(self, sequence: Sequence, events: list[Event | RequestError], max_tokens: int) -> None:
        prompt = sequence.tokens[: sequence.prompt_length]
        assert sequence.tokens[sequence.prompt_length : sequence.length].tolist() == expected(prompt, max_tokens)
        assert isinstance(events[0], Placed)
        assert isinstance(events[1], Started)
        assert isinstance(events[-1], Finished)

    def check_all(self) -> None:
        for sent in self.sent:
            self.check(*sent)

    def reads(self) -> list[int]:
        return [events[0].report.read for _, events, _ in self.sent if events and isinstance(events[0], Placed)]


def prompt_of(*parts: tuple[int, int]) -> np.ndarray:
    """Runs of tokens: (value, length)."""
    return np.concatenate([np.full(length, value, np.int32) for value, length in parts])


def test_a_hit_shares_the_cells_that_are_there() -> None:
    """The second request computes only what lies behind the longest boundary."""
    client = Client()
    client.send(prompt_of((1, 2000), (2, 30)))
    client.run()
    client.send(prompt_of((1, 2000), (3, 10)))
    client.run()
    client.check_all()
    assert client.reads() == [0, 1920]
    report = client.sent[1][1][0].report  # type: ignore[union-attr]
    assert (report.from_context, report.from_ram, report.prefilled) == (1920, 0, 10), "cells don't round, reports do"


@pytest.mark.parametrize("hot", [0, 4])
@pytest.mark.parametrize(("suffix", "prefilled"), [(19, 19), (20, 64), (63, 64), (64, 64), (65, 65)])
def test_a_short_rest_is_computed_with_some_before_it(hot: int, suffix: int, prefilled: int) -> None:
    """64 tokens are computed in less time than 20 to 63 are. What was read is what was there."""
    client = Client(ROOMY._replace(hot_prefixes=hot))
    client.send(prompt_of((1, 2048), (9, 3)), ends=(2048,))
    client.run()
    client.send(prompt_of((1, 2048), (2, suffix)), ends=(2048, 2048 + suffix))
    client.run()
    client.check_all()
    report = client.sent[1][1][0].report  # type: ignore[union-attr]
    assert (report.read, report.prefilled) == (2048, prefilled)


def test_a_prompt_that_is_cached_whole_computes_one_token() -> None:
    """The last token's logits are wanted, so it is computed though its boundary is read."""
    client = Client()
    for _ in range(2):
        client.send(prompt_of((1, 2048)))
        client.run()
    client.check_all()
    assert client.reads() == [0, 2048]
    assert client.sent[1][1][0].report.prefilled == 1  # type: ignore[union-attr]


def test_a_prefix_that_left_the_context_comes_back_from_ram() -> None:
    """Nothing is hot: every block is brought back."""
    client = Client(ROOMY._replace(hot_prefixes=0))
    client.send(prompt_of((1, 2000), (2, 30)))
    client.run()
    assert client.context.used() == 0
    client.send(prompt_of((1, 2000), (3, 30)))
    client.run()
    client.check_all()
    report = client.sent[1][1][0].report  # type: ignore[union-attr]
    assert (report.read, report.from_context, report.from_ram) == (1920, 0, 1920)


def test_a_prefix_can_come_from_both() -> None:
    """A short prefix is hot, and the longer prompt that extended it is in RAM."""
    client = Client(ROOMY._replace(hot_prefixes=1))
    client.send(prompt_of((1, 1024), (2, 1024), (4, 5)))
    client.run()
    client.send(prompt_of((1, 1024), (3, 1024), (4, 5)))
    client.run()
    client.send(prompt_of((1, 1024), (2, 1024), (5, 5)))
    client.run()
    client.check_all()
    report = client.sent[2][1][0].report  # type: ignore[union-attr]
    assert (report.read, report.from_context, report.from_ram) == (2048, 1024, 1024)


def test_a_burst_on_one_cold_prefix_prefills_it_once() -> None:
    """The other seven wait, share it, and compute only their own questions."""
    client = Client()
    for user in range(8):
        client.send(prompt_of((1, 4608), (10 + user, 8)))
    client.run()
    client.check_all()
    assert sorted(client.reads()) == [0] + [4608] * 7
    assert client.context.computed <= 4608 + 8 * (8 + 128)


@pytest.mark.contract("B3")
def test_an_answer_is_not_a_prefix() -> None:
    """docs/contract.md: only prompt tokens are cached; a prompt that goes on with an answer reads no more."""
    client = Client()
    talkative = next(value for value in range(1, 99) if len(expected(prompt_of((value, 2000)), 150)) == 150)
    first = client.send(prompt_of((talkative, 2000)), max_tokens=150)
    client.step()
    client.run()
    answered = first.tokens[: first.length]
    assert len(answered) == 2150, "the answer is long enough to end another block"
    client.send(np.concatenate([answered, prompt_of((2, 40))]))
    client.run()
    client.check_all()
    assert client.reads() == [0, 1920]
    assert client.sent[1][1][0].report.prefilled == 150 + 40  # type: ignore[union-attr]


def test_a_prompt_in_ram_that_is_cached_whole_computes_one_token() -> None:
    """All its blocks come back, and the last token is computed in its place."""
    client = Client(ROOMY._replace(hot_prefixes=0))
    for _ in range(2):
        client.send(prompt_of((1, 2048)))
        client.run()
    client.check_all()
    assert client.reads() == [0, 2048]
    assert client.sent[1][1][0].report[2:5] == (1, 0, 2047)  # type: ignore[union-attr]


def test_making_room_for_a_hit_does_not_drop_what_it_is_about_to_read() -> None:
    """RAM is full: the prefix to come back is older than the one that has to leave the context for it."""
    client = Client(ROOMY._replace(cells=2560, hot_prefixes=1, hot_cells=2560), ram_blocks=20)
    client.send(prompt_of((1, 1920), (2, 1)), max_tokens=1)
    client.run()
    client.send(prompt_of((3, 1920), (2, 1)), max_tokens=1)
    while client.step(tidy=0):
        pass
    client.send(prompt_of((1, 1920), (4, 1)), max_tokens=1)
    client.run()
    client.check_all()
    assert client.reads() == [0, 0, 1920]


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_if_the_owner_of_a_prefill_is_cancelled_one_of_those_who_wait_takes_over(steps: int) -> None:
    """None hangs; what the owner computed so far is not lost where it can be read."""
    client = Client()
    owner = client.send(prompt_of((1, 4608), (9, 8)))
    for user in range(5):
        client.send(prompt_of((1, 4608), (10 + user, 8)))
    for _ in range(steps):
        client.step()
    owner.cancelled = True
    client.run()
    for sent in client.sent[1:]:
        client.check(*sent)
    assert client.context.computed <= 4608 + 512 + 6 * (8 + 128)


def test_if_computing_fails_those_who_run_end_with_an_error_and_those_who_wait_are_served() -> None:
    """After a failed decode the cache starts empty, and is right."""
    client = Client()
    client.send(prompt_of((1, 2000)))
    client.run()
    client.send(prompt_of((1, 2000), (2, 9)))
    client.send(prompt_of((5, 3000), (2, 9)))
    client.send(prompt_of((5, 3000), (3, 9)))
    client.context.failures = 1
    with pytest.raises(EngineFailed):
        client.step()
    client.scheduler.fail(EngineFailed("it broke"), client.now)
    client.run()
    assert [isinstance(events[-1], EngineFailed) for _, events, _ in client.sent] == [False, True, True, False]
    client.check(*client.sent[3])


def test_a_long_prompt_never_stalls_those_who_decode() -> None:
    """While anyone decodes, a step prefills at most the smaller budget, and every decoding sequence gets its token."""
    client = Client()
    short = client.send(prompt_of((7, 10)), max_tokens=60)
    client.step()
    client.send(prompt_of((1, 4000)))
    while not short.finished:
        before, computed = short.length, client.context.computed
        client.step()
        assert short.length == before + 1
        assert client.context.computed - computed <= 128 + 1
    client.run()
    client.check_all()


def test_when_cells_run_out_the_last_to_come_starts_again_and_answers_the_same() -> None:
    """Three answers of 900 tokens in a context of 2,048 cells."""
    client = Client(ROOMY._replace(cells=2048, hot_cells=1024))
    prompts = [prompt_of((1, 100), (user, 5)) for user in (2, 3, 4)]
    lengths = [len(expected(prompt, 900)) for prompt in prompts]
    for prompt in prompts:
        client.send(prompt, max_tokens=900)
    client.run()
    client.check_all()
    if sum(lengths) > 2048:
        assert client.scheduler.counters.preemptions


def test_a_block_that_cannot_be_brought_back_is_computed() -> None:
    """What was restored up to there is still read; under the minimum nothing is."""
    for refuse_after, read in ((3, 0), (12, 1536)):
        client = Client(ROOMY._replace(hot_prefixes=0))
        client.send(prompt_of((1, 2000), (2, 30)))
        client.run()
        restore = client.context.restore
        client.context.restore = lambda *a, r=restore, n=refuse_after: a[3] <= n * 128 and r(*a)  # type: ignore
        client.send(prompt_of((1, 2000), (3, 30)))
        client.run()
        client.check_all()
        assert client.reads() == [0, read]


def test_idle_prefixes_leave_the_context_and_ram_when_their_time_is_up() -> None:
    """Ten minutes later neither cells nor bytes are held."""
    client = Client()
    client.send(prompt_of((1, 2000)))
    client.run()
    while client.cells.tidy(client.now, 4):
        pass
    assert client.index.tally().stored == 15
    client.now = 600.0
    for _ in range(3):
        client.cells.tidy(client.now, 4)
    assert client.index.tally().blocks == client.context.used() == len(client.cells.tiers.ram) == 0


def test_one_prefix_of_many_users_is_held_once() -> None:
    """Thirty users of a 4,096-token prefix with 300 tokens each: 32 blocks, and two each of their own."""
    client = Client()
    for user in range(30):
        client.send(prompt_of((1, 4096), (100 + user, 300)), max_tokens=1)
        client.run()
    while client.cells.tidy(client.now, 64):
        pass
    assert client.index.tally().stored == 32 + 30 * 2
    assert len(client.cells.tiers.ram) == 32 + 30 * 2


def test_short_requests_do_not_keep_idle_prefixes_alive() -> None:
    """A prompt under the minimum covers nothing: the prefix expires ten minutes after its own last use."""
    client = Client()
    client.send(prompt_of((1, 2000)))
    client.run()
    for _ in range(8):
        client.now += 100.0
        client.send(prompt_of((2, 10)), max_tokens=1)
        client.run()
    assert client.index.tally().blocks == client.context.used() == 0


def test_if_placing_fails_no_stale_state_is_used() -> None:
    """Saving a block raises while room is made for another request: that one ends with an error, and later ones are
    right."""
    client = Client(ROOMY._replace(cells=2560, hot_prefixes=2, hot_cells=2560))
    client.send(prompt_of((1, 1500)), max_tokens=1)
    while client.step(tidy=0):
        pass
    save = client.context.save
    client.context.save = lambda *_: 1 / 0  # type: ignore[assignment,return-value]
    client.send(prompt_of((3, 1500)), max_tokens=1)
    with pytest.raises(ZeroDivisionError):
        client.step()
    client.scheduler.fail(EngineFailed("it broke"), client.now)
    client.context.save = save  # type: ignore[method-assign]
    assert isinstance(client.sent[1][1][-1], EngineFailed)
    del client.sent[1]
    client.send(prompt_of((3, 1500)), max_tokens=3)
    client.run()
    client.check_all()


@pytest.mark.contract("W3")
def test_a_preempted_request_does_not_report_its_own_prefill_as_read() -> None:
    """It is placed twice; what it computed itself before is no hit."""
    client = Client()
    sequence = client.send(prompt_of((2, 4000)), max_tokens=3)
    for _ in range(5):
        client.step()
    client.scheduler._preempt(sequence)
    client.run()
    client.check_all()
    assert client.reads() == [0]
    assert client.scheduler.counters.read == 0
    assert client.context.computed < 4000 + 512, "but nothing is computed twice that is still there"


def test_a_long_prompt_does_not_push_every_hot_prefix_out() -> None:
    """It alone exceeds the bound, so it is the one to go."""
    client = Client(ROOMY._replace(hot_cells=4096))
    for value in (1, 2):
        client.send(prompt_of((value, 1500)))
        client.run()
    client.send(prompt_of((3, 6000)))
    client.run()
    assert [len(resident.tokens) for resident in client.cells.residents] == [1500, 1500]


def test_a_hot_prefix_that_lost_its_ram_copy_is_saved_again() -> None:
    """RAM holds one prefix: the hot one is used again and again, others take its place there."""
    client = Client(ROOMY._replace(hot_prefixes=1), ram_blocks=15)
    for value in (1, 2, 1, 1):
        client.send(prompt_of((value, 1920), (9, 1)), max_tokens=1)
        client.run()
        client.now += 1
    assert all(client.index.is_stored(digest) for digest in client.sent[-1][0].plan.blocks)


@pytest.mark.contract("B4")
def test_a_breakpoint_is_read_to_the_token_from_the_context() -> None:
    """1,100 tokens end no block; the rest of the prompt is new."""
    client = Client()
    client.send(prompt_of((1, 1100), (9, 3)), ends=(1100,))
    client.run()
    client.send(prompt_of((1, 1100), (2, 200), (9, 3)), ends=(1100, 1300))
    client.run()
    client.check_all()
    first, second = (events[0].report for _, events, _ in client.sent)  # type: ignore[union-attr]
    assert (first.read, first.written) == (0, Written(1100))
    assert (second.read, second.written, second.from_context, second.prefilled) == (1100, Written(200), 1100, 203)


def test_a_breakpoint_is_read_to_the_token_from_ram() -> None:
    """Eight whole blocks and a tail of 76 tokens come back."""
    client = Client(ROOMY._replace(hot_prefixes=0))
    for _ in range(2):
        client.send(prompt_of((1, 1100), (9, 3)), ends=(1100,))
        client.run()
    client.check_all()
    assert client.index.tally().stored == 9
    report = client.sent[1][1][0].report  # type: ignore[union-attr]
    assert (report.read, report.from_ram, report.prefilled) == (1100, 1100, 3)


def test_a_burst_on_one_cold_breakpoint_prefills_it_once() -> None:
    """They wait for the exact end of the shared message."""
    client = Client()
    for user in range(8):
        client.send(prompt_of((1, 4600), (10 + user, 50), (9, 3)), ends=(4600, 4650))
    client.run()
    client.check_all()
    assert sorted(client.reads()) == [0] * 8, "an earlier ending is looked up, and not written"
    marked = Client()
    for user in range(8):
        marked.send(prompt_of((1, 4600), (10 + user, 50)), ends=(4600,))
    marked.run()
    assert sorted(marked.reads()) == [0] + [4600] * 7
    assert marked.context.computed <= 4600 + 8 * (50 + 128)


def test_a_prewarm_prefills_and_generates_nothing() -> None:
    """The next request computes only its own end."""
    client = Client()
    client.send(prompt_of((1, 2000), (9, 3)), max_tokens=0, ends=(2000,))
    client.run()
    client.send(prompt_of((1, 2000), (2, 10), (9, 3)), ends=(2000, 2010))
    client.run()
    client.check_all()
    assert client.sent[0][1][-1] == Finished("stop", 0)
    assert client.sent[1][1][0].report.prefilled == 13  # type: ignore[union-attr]


def test_what_became_of_an_entry_is_told() -> None:
    """Its time was up; it had to go for others; it could not be promised, and went; it is there."""
    prompt, other = prompt_of((1, 2000), (9, 1)), prompt_of((2, 2000), (9, 1))
    for ram_blocks, between, seconds, lost in (
        (1000, (), 1800.0, Lost(2000, "expired")),
        (16, (other, other), 0.0, Lost(2000, "refused")),
        (3, (), 0.0, Lost(2000, "refused")),
        (1000, (other,), 0.0, None),
    ):
        client = Client(ROOMY._replace(hot_prefixes=0), ram_blocks)
        for tokens in (prompt, *between):
            client.send(tokens, ends=(2000,))
            client.run()
        client.now += seconds
        client.send(prompt, ends=(2000,))
        client.run()
        assert client.sent[-1][1][0].report.lost == lost  # type: ignore[union-attr]
    client = Client(ROOMY._replace(hot_prefixes=0), 16)
    for tokens in (prompt, other, prompt):
        client.send(tokens)
        client.run()
    assert client.sent[-1][1][0].report.lost == Lost(1920, "evicted")  # type: ignore[union-attr]


def test_a_long_life_keeps_its_blocks_when_the_shorter_ones_end() -> None:
    """A 30-minute turn behind a 12-hour one: after an hour the first is there, and the second isn't."""
    client = Client(ROOMY._replace(hot_prefixes=1))
    client.send(prompt_of((1, 2000), (9, 3)), ends=(2000,), ttl="12h")
    client.run()
    client.send(prompt_of((1, 2000), (2, 500), (9, 3)), ends=(2000, 2500))
    client.run()
    client.now = 3600.0
    client.run()
    client.send(prompt_of((1, 2000), (2, 500), (9, 3)), ends=(2000, 2500))
    client.run()
    client.check_all()
    assert client.reads() == [0, 2000, 2000]


def test_a_request_is_not_lost_when_saving_fails_while_it_is_preempted() -> None:
    """It ends with the error, or is served again; it never waits for ever."""

    def full(*_: int) -> np.ndarray:
        raise MemoryError

    client = Client()
    client.send(prompt_of((1, 2000), (9, 1)), max_tokens=1)
    sequence = client.send(prompt_of((2, 4000)), max_tokens=3)
    while not client.cells.residents:
        client.step(tidy=0)
    client.context.save = full  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        client.scheduler._preempt(sequence)
    client.scheduler.fail(EngineFailed("injected"), client.now)
    del client.context.save  # type: ignore[method-assign]
    client.run()
    assert sequence.finished


class Traffic(RuleBasedStateMachine):
    """Prompts that share and part, cancellations, failures, clocks, and budgets too small for any of it."""

    @initialize(
        cells=st.sampled_from([4096, 8192]),
        hot=st.sampled_from([(0, 0), (1, 1024), (3, 4096)]),
        ram_blocks=st.sampled_from([0, 5, 20, 1000]),
    )
    def start(self, cells: int, hot: tuple[int, int], ram_blocks: int) -> None:
        self.client = Client(Bounds(cells, 3, hot[0], hot[1]), ram_blocks, Budget(300, 70))

    @rule(
        stem=st.integers(1, 2),
        cut=st.sampled_from([0, 500, 1024, 1100, 1280, 1500]),
        branch=st.integers(3, 4),
        length=st.sampled_from([0, 28, 128, 140, 600]),
        tail=st.integers(0, 9),
        max_tokens=st.sampled_from([0, 1, 3, 200]),
        organisation=st.sampled_from(["org", "other"]),
        breakpoints=st.booleans(),
        ttl=st.sampled_from(["30m", "12h"]),
    )
    def send(
        self,
        stem: int,
        cut: int,
        branch: int,
        length: int,
        tail: int,
        max_tokens: int,
        organisation: str,
        breakpoints: bool,
        ttl: Ttl,
    ) -> None:
        if len(self.client.scheduler.waiting) < 8:
            prompt = prompt_of((stem, cut), (branch, length), (tail, min(tail, 1)), (1, int(not cut + length + tail)))
            ends = tuple(end for end in (cut, cut + length, len(prompt)) if end) if breakpoints else ()
            self.client.send(prompt, max_tokens, organisation, ends, ttl)

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.client.step()

    @precondition(lambda self: self.client.sent)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        sent = self.client.sent.pop(data.draw(st.integers(0, len(self.client.sent) - 1)))
        if sent[0].finished:
            self.client.check(*sent)
        sent[0].cancelled = not sent[0].finished

    @rule()
    def fail(self) -> None:
        self.client.scheduler.fail(EngineFailed("injected"), self.client.now)
        self.client.sent = [
            sent for sent in self.client.sent if not any(isinstance(event, EngineFailed) for event in sent[1])
        ]

    @rule(count=st.integers(1, 20))
    def refuse_restores(self, count: int) -> None:
        self.client.context.refuse = count

    @rule(seconds=st.sampled_from([1.0, 300.0, 600.0, 1800.0]))
    def wait(self, seconds: float) -> None:
        self.client.now += seconds

    @invariant()
    def is_sound(self) -> None:
        if hasattr(self, "client"):
            self.client.cells.check_integrity(self.client.scheduler.running)

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.run()
            self.client.check_all()


Traffic.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTraffic = Traffic.TestCase
