"""The rules of docs/contract.md, line by line, and its worked cases, literally."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cache.serving import Cache, Said, prompt_of

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import EXTENDED, BreakpointRules, IntervalRules, Terms, rules_for
from headstart.errors import InvalidRequest
from headstart.types import (
    Breakpoint,
    CacheOptions,
    Lifetime,
    Message,
    Namespace,
    Plan,
    Prompt,
    Request,
    Text,
    Ttl,
    Written,
)

HOME = Namespace("org", "gpt-4.1-mini", "interval", None)
TERMS = Terms(b"secret")
INTERVAL, BREAKPOINT = IntervalRules(TERMS), BreakpointRules(TERMS)
EXPLICIT = CacheOptions(mode="explicit", path="prompt_cache_options")
MINUTE = 60.0


def plan_of(length: int, settings: str = "", options: CacheOptions = CacheOptions()) -> Plan:  # noqa: B008
    """An interval model's plan of `length` zeros."""
    return INTERVAL.plan(Prompt(np.zeros(length, np.int32), (), settings), HOME, options)


def request_of(options: CacheOptions = CacheOptions(), mark: Breakpoint | None = None) -> Request:  # noqa: B008
    """A request whose text may carry a mark."""
    text = Text("hello", "input[0].content[0].text", mark)
    return Request("a-model", (Message("user", (text,), "input[0]"),), cache=options)


# ------------------------------------------------------------------------------------------------ interval models


@pytest.mark.contract("B2")
@pytest.mark.parametrize("length", [0, 1, 1023])
def test_nothing_under_1024_tokens_is_read_or_written(length: int) -> None:
    """Nothing is hashed for it either."""
    assert plan_of(length) == Plan(length, (), (), (), EXTENDED)


@pytest.mark.contract("I1")
@pytest.mark.contract("I2")
@pytest.mark.parametrize(
    ("length", "boundaries"),
    [(1024, [1024]), (1151, [1024]), (1152, [1024, 1152]), (1300, [1024, 1152, 1280])],
)
def test_boundaries_stand_at_1024_and_every_128_after(length: int, boundaries: list[int]) -> None:
    """1,024, 1,152, 1,280 …; a prompt saves all of its boundaries."""
    plan = plan_of(length)
    assert list(plan.reads) == list(plan.writes) == boundaries
    assert len(plan.blocks) == length // 128


@pytest.mark.contract("E1")
@pytest.mark.contract("I3")
@pytest.mark.contract("I4")
def test_the_tutorials_two_calls() -> None:
    """Worked case 1: 4,616 tokens, then another question: 0, then what the divergence leaves, by 128."""
    cache = Cache(INTERVAL, "interval")
    prefix = np.zeros(4608, np.int32)
    first, second = (np.concatenate((prefix, np.full(8, question, np.int32))) for question in (1, 2))
    assert cache.serve(Prompt(first, ())).read == 0
    assert cache.serve(Prompt(second, ())).read == 4608
    earlier = np.concatenate((prefix[:4603], np.full(9, 3, np.int32)))
    assert cache.serve(Prompt(earlier, ())).read == 4480


@pytest.mark.contract("I6")
@pytest.mark.contract("I7")
def test_in_memory_lives_ten_minutes_idle_and_never_over_an_hour() -> None:
    """Ours: 10 of the 5 to 10 minutes."""
    options = CacheOptions(retention="in_memory")
    assert plan_of(2048, options=options).lifetime == Lifetime(idle=600.0, total=3600.0)
    short = Lifetime(300.0, 1800.0)
    configured = IntervalRules(Terms(b"s", short))
    assert configured.plan(Prompt(np.zeros(1024, np.int32), ()), HOME, options).lifetime == short


@pytest.mark.contract("I9")
def test_24h_is_kept_24_hours_from_the_last_use() -> None:
    """Written at 09:00 and read at 20:00, it is there at 19:59 on the next day and gone at 20:01."""
    options = CacheOptions(retention="24h")
    assert plan_of(2048, options=options).lifetime == EXTENDED
    cache, prompt = Cache(INTERVAL, "interval"), Prompt(np.zeros(2048, np.int32), ())
    for hours, read in ((0, 0), (11, 2048), (34.98, 2048), (59, 0)):
        cache.now = hours * 3600
        assert cache.serve(prompt, options).read == read


@pytest.mark.contract("I12")
def test_the_default_retention_is_the_operators_except_under_zero_data_retention() -> None:
    """`24h` by configuration, `in_memory` for an organisation under zero data retention."""
    rules = IntervalRules(Terms(b"s", zero_data_retention=frozenset({"secretive"})))
    assert rules.applied(CacheOptions(), "acme").retention == "24h"
    assert rules.applied(CacheOptions(), "secretive").retention == "in_memory"
    plan = rules.plan(Prompt(np.zeros(1024, np.int32), ()), HOME._replace(organisation="secretive"), CacheOptions())
    assert plan.lifetime.total == 3600.0
    asked = rules.plan(Prompt(np.zeros(1024, np.int32), ()), plan.owner, CacheOptions(retention="24h"))
    assert asked.lifetime == EXTENDED
    assert not asked.durable, "what is asked for is kept, and in memory alone"


@pytest.mark.contract("B5")
def test_settings_are_part_of_the_prefix() -> None:
    """Even where a template renders none."""
    assert plan_of(1024, '{"verbosity":"low"}').blocks != plan_of(1024).blocks


@pytest.mark.contract("I14")
@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (request_of(CacheOptions(path="prompt_cache_options")), "prompt_cache_options"),
        (request_of(mark=Breakpoint()), "input[0].content[0].prompt_cache_breakpoint"),
    ],
)
def test_interval_models_refuse_breakpoints(request_: Request, param: str) -> None:
    """400 naming what was sent."""
    with pytest.raises(InvalidRequest) as caught:
        INTERVAL.check(request_)
    assert caught.value.param == param
    INTERVAL.check(request_of(CacheOptions("key", "24h")))


# ------------------------------------------------------------------------------------------------ breakpoint models


@pytest.mark.contract("E2")
@pytest.mark.contract("W4")
@pytest.mark.contract("P1")
@pytest.mark.contract("P13")
@pytest.mark.contract("P15")
def test_a_conversation_reads_what_it_wrote_before() -> None:
    """Worked case 2, and again with an answer in between and lengths that end no block."""
    cache = Cache(BREAKPOINT)
    turns = [Said("user", 1, 12_000)]
    assert cache.serve(prompt_of(turns)) == (0, Written(12_000))
    turns.append(Said("user", 2, 3_000))
    assert cache.serve(prompt_of(turns)) == (12_000, Written(3_000))
    turns += [Said("assistant", 3, 77), Said("user", 4, 1_000)]
    assert cache.serve(prompt_of(turns)) == (15_000, Written(1_077)), "what opens the answer is ordinary input"


@pytest.mark.contract("E3")
@pytest.mark.contract("P11")
def test_an_implicit_entry_is_not_found_by_an_explicit_request() -> None:
    """Worked case 3; with a mark at the same place it is."""
    cache = Cache(BREAKPOINT)
    cache.serve(prompt_of([Said("user", 1, 5000)]))
    more = Said("user", 2, 500, ((500, None),))
    assert cache.serve(prompt_of([Said("user", 1, 5000), more]), EXPLICIT).read == 0
    marked = Said("user", 1, 5000, ((5000, None),))
    assert cache.serve(prompt_of([marked, Said("user", 3, 500)]), EXPLICIT) == (5000, Written(0))


@pytest.mark.contract("E4")
@pytest.mark.contract("P12")
def test_an_implicit_entry_is_not_found_after_its_message_was_extended() -> None:
    """Worked case 4: `A` becomes `A + B`."""
    cache = Cache(BREAKPOINT)
    cache.serve(prompt_of([Said("user", 1, 5000)]))
    assert cache.serve(prompt_of([Said("user", 1, 5200)])) == (0, Written(5200))


@pytest.mark.contract("E5")
@pytest.mark.contract("P4")
@pytest.mark.parametrize("mode", ["implicit", "explicit"])
def test_a_marked_rubric_is_written_once(mode: str) -> None:
    """Worked case 5: R tokens once, then read, and nothing written behind it when only marks count."""
    cache, rubric = Cache(BREAKPOINT), 3_333
    options = CacheOptions(mode=mode)  # type: ignore[arg-type]
    for number, length in enumerate((40, 900, 2_000, 1)):
        said = [Said("user", 1, rubric, ((rubric, None),)), Said("user", 10 + number, length)]
        served = cache.serve(prompt_of(said), options)
        assert served.read == (rubric if number else 0)
        new = length if mode == "implicit" else 0
        assert served.written == Written(new + (0 if number else rubric))


@pytest.mark.contract("P8")
def test_lookup_takes_the_longest_first() -> None:
    """Both marks have entries: the longer is read."""
    cache = Cache(BREAKPOINT)
    prompt = prompt_of([Said("user", 1, 4000, ((2000, None), (3000, None)))])
    assert cache.serve(prompt, EXPLICIT) == (0, Written(3000))
    assert cache.serve(prompt, EXPLICIT) == (3000, Written(0))


@pytest.mark.contract("P14")
@pytest.mark.contract("P18")
def test_writes_are_split_by_ttl() -> None:
    """A token that several entries hold counts for the longest of their lives."""
    for own, options, expected in (
        (("12h", "30m"), CacheOptions(), Written(3000, 2000)),
        (("30m", "12h"), CacheOptions(), Written(3000, 3000)),
        ((None, "30m"), CacheOptions(ttl="12h"), Written(3000, 2000)),
        ((None, None), CacheOptions(ttl="12h"), Written(3000, 3000)),
        ((None, None), CacheOptions(), Written(3000, 0)),
    ):
        ttls: tuple[Ttl | None, ...] = own
        marks = tuple(zip((2000, 3000), ttls, strict=True))
        prompt = prompt_of([Said("user", 1, 4000, marks)])
        assert Cache(BREAKPOINT).serve(prompt, CacheOptions(mode="explicit", ttl=options.ttl)).written == expected


@pytest.mark.contract("P16")
@pytest.mark.contract("P17")
@pytest.mark.parametrize(("ttl", "minutes"), [("30m", 30), ("12h", 720)])
def test_reuse_refreshes_an_entry_and_is_no_write(ttl: Ttl, minutes: int) -> None:
    """The life counts from the last write or reuse, without an upper bound."""
    cache, prompt, options = Cache(BREAKPOINT), prompt_of([Said("user", 1, 5000)]), CacheOptions(ttl=ttl)
    cache.serve(prompt, options)
    for _ in range(5):
        cache.now += minutes * MINUTE - 1
        assert cache.serve(prompt, options) == (5000, Written(0))
    cache.now += minutes * MINUTE
    served = cache.serve(prompt, options)
    assert (served.read, served.written.tokens) == (0, 5000)


@pytest.mark.contract("P16")
def test_only_the_entry_that_was_read_is_refreshed() -> None:
    """A shorter one on the way to it, that this request doesn't mark, runs out."""
    cache = Cache(BREAKPOINT)
    short = [Said("user", 1, 2000)]
    long = [*short, Said("assistant", 2, 100), Said("user", 3, 500)]
    cache.serve(prompt_of(short))
    cache.serve(prompt_of(long))
    cache.now = 29 * MINUTE
    assert cache.serve(prompt_of(long)).read == 2600
    cache.now = 31 * MINUTE
    assert cache.serve(prompt_of(short)).read == 0
    assert cache.serve(prompt_of(long)).read == 2600


@pytest.mark.contract("P17")
def test_an_entry_that_is_marked_again_keeps_the_longer_life() -> None:
    """Asked for 12 hours on its second use: it is no write, and then lives as long."""
    cache, prompt = Cache(BREAKPOINT), prompt_of([Said("user", 1, 5000)])
    cache.serve(prompt)
    assert cache.serve(prompt, CacheOptions(ttl="12h")) == (5000, Written(0))
    cache.now = 11 * 3600.0
    assert cache.serve(prompt).read == 5000


@pytest.mark.contract("I13")
@pytest.mark.contract("P19")
@pytest.mark.contract("P20")
def test_retention_is_independent_of_ttl_and_only_24h_is_taken() -> None:
    """`24h` changes nothing; `in_memory` is a 400 that names the parameter."""
    options = CacheOptions(retention="24h", ttl="12h")
    BREAKPOINT.check(request_of(options))
    prompt = prompt_of([Said("user", 1, 5000)])
    lives = [BREAKPOINT.plan(prompt, HOME, CacheOptions(retention=r, ttl="12h")).lifetime for r in (None, "24h")]
    assert lives == [Lifetime(12 * 3600.0, promised=True)] * 2
    applied = BREAKPOINT.applied(options, "org")
    assert (applied.mode, applied.ttl, applied.retention) == ("implicit", "12h", "24h")
    with pytest.raises(InvalidRequest) as caught:
        BREAKPOINT.check(request_of(CacheOptions(retention="in_memory")))
    assert caught.value.param == "prompt_cache_retention"


@pytest.mark.contract("B11")
def test_read_and_written_are_parts_of_the_input() -> None:
    """Neither overlaps the other: what is written begins where the read ends."""
    cache, turns = Cache(BREAKPOINT), [Said("system", 1, 1500)]
    for number in range(2, 12):
        turns += [Said("user", number, 10 * number), Said("assistant", number, 5)]
        prompt = prompt_of(turns)
        served = cache.serve(prompt)
        assert served.read + served.written.tokens <= len(prompt.tokens)


@pytest.mark.contract("W2")
def test_keys_models_and_organisations_are_namespaces() -> None:
    """Not a digest is common to two of them, at whole blocks and at tails."""
    prompt = prompt_of([Said("user", 1, 2000)])
    spaces = [HOME, *(HOME._replace(**{name: "other"}) for name in ("organisation", "model", "key"))]
    plans = [BREAKPOINT.plan(prompt, space, CacheOptions()) for space in spaces]
    digests = [digest for plan in plans for digest in (*plan.blocks, *plan.tails.values())]
    assert len(set(digests)) == len(digests) == 4 * 16


def test_nothing_behind_the_last_breakpoint_is_named() -> None:
    """It is not cached, so it needs no digest."""
    plan = BREAKPOINT.plan(prompt_of([Said("user", 1, 2000), Said("assistant", 2, 9000)]), HOME, CacheOptions())
    assert (len(plan.blocks), list(plan.tails), plan.end) == (15, [2000], 2000)


def test_both_generations_are_in_the_registry() -> None:
    """Any model can be served as either."""
    assert isinstance(rules_for("interval", TERMS), IntervalRules)
    assert isinstance(rules_for("breakpoint", TERMS), BreakpointRules)


def test_a_rubric_that_is_used_again_outlives_what_follows_it() -> None:
    """Two prompts behind one marked rubric, which ends with a block or within one: when room is short, what only one of
    them needs goes first."""
    for rubric in (1024, 1100):
        first, second = (
            BREAKPOINT.plan(
                prompt_of([Said("user", 1, rubric, ((rubric, None),)), Said("user", value, 900)]), HOME, CacheOptions()
            )
            for value in (2, 3)
        )
        index = PrefixIndex(26)
        index.write(first._replace(granted=0), 0.0)
        index.write(second._replace(granted=0), 1.0)
        other = BREAKPOINT.plan(prompt_of([Said("user", 4, 1024)]), HOME, CacheOptions())
        index.write(other._replace(granted=0), 2.0)
        index.check_integrity()
        assert index.match(first, 3.0) == rubric
        assert index.tally().evicted
