"""The rules of docs/contract.md, line by line."""

import numpy as np
import pytest

from headstart.cache.policy import IntervalRules, rules_for
from headstart.errors import InvalidRequest, StartError
from headstart.types import CacheOptions, Lifetime, Namespace, Plan, Prompt

HOME = Namespace("org", "gpt-4.1-mini", "interval", None)
RULES = IntervalRules(b"secret")


def plan_of(length: int, settings: str = "") -> Plan:
    """The plan of `length` zeros."""
    return RULES.plan(Prompt(np.zeros(length, np.int32), (), settings), HOME, CacheOptions())


@pytest.mark.parametrize("length", [0, 1, 1023])
def test_nothing_under_1024_tokens_is_read_or_written(length: int) -> None:
    """docs/contract.md, both generations; nothing is hashed for it either."""
    assert plan_of(length) == Plan(length, (), (), (), RULES.in_memory)


@pytest.mark.parametrize(
    ("length", "boundaries"),
    [(1024, [1024]), (1151, [1024]), (1152, [1024, 1152]), (1300, [1024, 1152, 1280])],
)
def test_boundaries_stand_at_1024_and_every_128_after(length: int, boundaries: list[int]) -> None:
    """docs/contract.md, interval models: 1,024, 1,152, 1,280 …; a prompt saves all of its boundaries."""
    plan = plan_of(length)
    assert list(plan.reads) == list(plan.writes) == boundaries
    assert len(plan.blocks) == length // 128


def test_the_tutorials_prompt_ends_on_4608() -> None:
    """Worked case 1: 4,616 tokens; the longest boundary is 4,608."""
    assert plan_of(4616).reads[-1] == 4608


def test_in_memory_lives_ten_minutes_idle_and_never_over_an_hour() -> None:
    """docs/contract.md: kept until 5-10 minutes idle (ours: 10), never longer than an hour."""
    assert plan_of(2048).lifetime == Lifetime(idle=600.0, total=3600.0)


def test_settings_are_part_of_the_prefix() -> None:
    """docs/contract.md: text.format, reasoning.effort … change the prefix even where a template renders none."""
    assert plan_of(1024, '{"verbosity":"low"}').blocks != plan_of(1024).blocks


def test_24h_is_refused_naming_the_parameter() -> None:
    """docs/contract.md: a model that does not support the value: 400 naming the parameter."""
    with pytest.raises(InvalidRequest) as caught:
        RULES.check(CacheOptions(retention="24h"))
    assert caught.value.param == "prompt_cache_retention"
    RULES.check(CacheOptions(retention="in_memory"))
    RULES.check(CacheOptions())


def test_the_registry_knows_what_this_version_serves() -> None:
    """A generation that is not there yet stops the start, in one sentence."""
    assert rules_for("interval", b"s", Lifetime(300.0, 3600.0)).plan(
        Prompt(np.zeros(1024, np.int32), ()), HOME, CacheOptions()
    ).lifetime == Lifetime(300.0, 3600.0)
    with pytest.raises(StartError, match="breakpoint"):
        rules_for("breakpoint", b"s", Lifetime(300.0, 3600.0))
