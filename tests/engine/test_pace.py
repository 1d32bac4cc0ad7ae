"""Whose time it is that a context computes, to the last digit: its clock goes on by so much per batch and per token."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.model_context import expected
from tests.engine.test_scheduler import ROOMY, Client, prompt_of

from headstart.engine.pace import Pace
from headstart.engine.scheduler import Budget
from headstart.engine.sequence import Sequence
from headstart.errors import EngineFailed
from headstart.types import Finished

PER_BATCH, PER_TOKEN = 0.25, 0.125
"""Seconds; powers of two, so that sums are exact where a batch's tokens are, too."""


class Timed(Client):
    """Batches take time; `busy` is the sum, and `batches` has the tokens of each."""

    def start(self) -> None:
        super().start()
        self.batches: list[int] = []
        decode = self.context.decode

        def timed(count: int) -> int:
            self.batches.append(count)
            self.now += PER_BATCH + PER_TOKEN * count
            return decode(count)

        self.context.decode = timed  # type: ignore[method-assign]

    @property
    def busy(self) -> float:
        return sum(PER_BATCH + PER_TOKEN * count for count in self.batches)

    def last(self, which: int = -1) -> Finished:
        event = self.sent[which][1][-1]
        assert isinstance(event, Finished)
        return event


def test_alone() -> None:
    """All of its batches: a prompt of 600 tokens in two, and each token but the last."""
    client = Timed()
    client.send(prompt_of((1, 600)), max_tokens=3)
    client.run()
    assert client.batches[:2] == [512, 88]
    assert client.last().seconds == pytest.approx(client.busy)
    assert client.last().saved_seconds == 0.0


def test_a_batch_is_shared_by_tokens() -> None:
    """One token decodes while 127 of another's prompt are computed: it has one part in 128 of that batch."""
    client = Timed(budget=Budget(512, 127))
    first = client.send(prompt_of((1, 256)), max_tokens=8)
    client.step()
    alone = first.seconds
    assert alone == PER_BATCH + 256 * PER_TOKEN
    second = client.send(prompt_of((2, 127)), max_tokens=8)
    client.step()
    assert client.batches == [256, 128]
    assert first.seconds - alone == (PER_BATCH + 128 * PER_TOKEN) / 128
    assert second.seconds == (PER_BATCH + 128 * PER_TOKEN) / 128 * 127


def test_what_was_read_saved_time_at_the_pace_of_prefill() -> None:
    """2,010 tokens took five batches; the next request reads 1,920 of as many and computes 10."""
    client = Timed()
    client.send(prompt_of((1, 2000), (2, 10)), max_tokens=0)
    client.run()
    client.send(prompt_of((1, 2000), (3, 10)), max_tokens=0)
    client.run()
    assert client.reads() == [0, 1920]
    assert client.batches == [512, 512, 512, 474, 10]
    pace = Fraction(client.busy) / 2020
    assert client.last().seconds == PER_BATCH + 10 * PER_TOKEN
    assert client.last().saved_seconds == pytest.approx(float(1920 * pace), rel=1e-12)


def test_decoding_is_no_prefill() -> None:
    """Output tokens, which take longer, don't change the pace."""
    client = Timed()
    client.send(prompt_of((1, 2000)), max_tokens=20)
    client.run()
    assert client.scheduler.pace.of_prefill == pytest.approx((4 * PER_BATCH + 2000 * PER_TOKEN) / 2000)


def test_tokens_that_are_computed_again_saved_nothing() -> None:
    """A short rest is computed with some before it: of 2,048 tokens read, 44."""
    client = Timed(ROOMY._replace(hot_prefixes=0))
    client.send(prompt_of((1, 2048), (9, 3)), ends=(2048,), max_tokens=0)
    client.run()
    client.send(prompt_of((1, 2048), (2, 20)), ends=(2048, 2068), max_tokens=0)
    client.run()
    assert client.reads() == [0, 2048]
    pace = client.scheduler.pace.of_prefill
    assert client.last().saved_seconds == pytest.approx((2048 - 44) * pace)


def test_a_preempted_prompt_is_paid_for_twice() -> None:
    """Whoever had to give up its cells took the engine's time again."""
    client = Timed(ROOMY._replace(cells=1024, hot_cells=512))
    prompts = [prompt_of((1, 100), (user, 5)) for user in range(2, 10)]
    for prompt in prompts:
        client.send(prompt, max_tokens=400)
    client.run()
    client.check_all()
    assert client.scheduler.counters.preemptions
    assert client.context.computed > sum(len(p) + len(expected(p, 400)) for p in prompts), "some of it twice"
    assert sum(client.last(which).seconds for which in range(8)) == pytest.approx(client.busy)


def test_idle_time_is_nobodys() -> None:
    """Nor is that after a failure."""
    client = Timed()
    client.send(prompt_of((1, 300)), max_tokens=0)
    client.run()
    client.now += 1000
    client.send(prompt_of((2, 300)), max_tokens=0)
    client.run()
    assert client.last().seconds == PER_BATCH + 300 * PER_TOKEN
    client.send(prompt_of((3, 300)))
    client.context.failures = 1
    with pytest.raises(EngineFailed):
        client.step()
    client.scheduler.fail(EngineFailed("it broke"), client.now)
    client.now += 1000
    client.send(prompt_of((4, 300)), max_tokens=0)
    client.run()
    assert client.last().seconds == PER_BATCH + 300 * PER_TOKEN


def test_the_time_between_batches_belongs_to_the_later_one() -> None:
    """Tokens are chosen there; only what follows the last batch is nobody's."""
    ticks = iter([0.0, 1.0, 5.0, 20.0, 22.0])
    pace = Pace(lambda: next(ticks))
    pace.begin()
    assert pace.lap(2) == 0.5
    pace.begin()
    assert pace.lap(2) == 2.0
    pace.pause()
    pace.begin()
    assert pace.lap(1) == 2.0
    assert pace.of_prefill == 0.0


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 1500), st.integers(0, 12)), min_size=1, max_size=6),
    between=st.integers(0, 3),
)
def test_shares_add_up(requests: list[tuple[int, int, int]], between: int) -> None:
    """Whatever is computed together: all of the time is somebody's, and none twice."""
    client = Timed()
    sent: list[Sequence] = []
    for value, length, max_tokens in requests:
        sent.append(client.send(prompt_of((value, length), (value + 3, 1)), max_tokens=max_tokens))
        for _ in range(between):
            client.step()
    client.run()
    client.check_all()
    assert sum(sequence.seconds for sequence in sent) == pytest.approx(client.busy)
    assert all(client.last(which).seconds == sequence.seconds for which, sequence in enumerate(sent))
