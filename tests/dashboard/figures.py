"""Figures as the dashboard's server sends them, for its page's tests."""

from __future__ import annotations

import math
from typing import Any

NOW = 1_780_000_000.0
"""The 28th of May 2026, 20:26:40 UTC."""
HOUR = 3600

Json = dict[str, Any]


def line(value: str = "", *, start: float | None = None, **given: Any) -> Json:
    """A line of figures as the server sends it: three requests of the tutorial, but for what is given."""
    usual = {
        "value": value, "start": start, "requests": 3, "warm": 1, "failed": 0, "input": 13852, "cached": 4480,
        "written": 0, "output": 60, "missed": 4608, "cost": "0.004197", "uncached_cost": "0.005541",
        "saved": "0.001344", "priced": 3, "ttft": ttft((1, 0.056, 0.056), (2, 3.82, 4.59)),
    }  # fmt: skip
    whole = usual | given
    return whole | {"hit_rate": whole["cached"] / whole["input"] if whole["input"] else None}


def ttft(warm: tuple[int, float | None, float | None], cold: tuple[int, float | None, float | None]) -> Json:
    """Times to the first token, warm and cold: requests, p50, p95."""
    keys = ("requests", "p50", "p95")
    return {"warm": dict(zip(keys, warm, strict=True)), "cold": dict(zip(keys, cold, strict=True))}


def example(number: int, **given: Any) -> Json:
    """A request that missed."""
    usual = {
        "time": NOW - 60 * number, "id": f"resp_{number:04x}", "model": "gpt-4.1-mini", "organisation": "acme",
        "key": "backend", "path": "input", "kind": "timestamp", "missed": 4480, "input": 4624,
    }  # fmt: skip
    return usual | given


def prefix(name: str, parent: str | None, start: int, stop: int, **given: Any) -> Json:
    """A stretch of tokens that is cached."""
    usual = {
        "name": name, "parent": parent, "organisation": "acme", "model": "gpt-4.1-mini", "key": None, "start": start,
        "stop": stop, "hits": 12, "bytes": (stop - start) * 12_288, "tier": "context", "age": 3660.0, "left": 82_740.0,
        "promised": True,
    }  # fmt: skip
    return usual | given


def figures() -> Json:
    """`/dashboard/data` of a busy day: a night, a morning that warms up, two hours without anybody."""
    course = [_hour(hour) for hour in range(24) if hour not in (4, 5)]
    causes = [
        {
            "cause": "prefix_changed", "requests": 212, "missed": 949_760,
            "remedy": "Move the timestamp behind the part of the prompt that stays the same, or round it to the day.",
            "examples": [
                example(1),
                example(7, path="messages[0].content[0].text", kind="uuid", model="gpt-5.6", key="evaluation"),
                example(19, path="tools", kind="reordered_tools", missed=2176, input=2412),
            ],
        },
        {
            "cause": "expired", "requests": 41, "missed": 131_200,
            "remedy": "Ask for a longer life: `prompt_cache_options.ttl` of 30m, 12h or 24h.",
            "examples": [example(33, path=None, kind=None, key="evaluation", model="gpt-5.6")],
        },
        {
            "cause": "below_minimum", "requests": 388, "missed": 18_624, "remedy": None, "examples": [],
        },
    ]  # fmt: skip
    return {
        "now": NOW,
        "since": NOW - NOW % HOUR - 23 * HOUR,
        "grain": HOUR,
        "ledger": {"failing": False, "waiting": 0, "lost": 0, "message": None},
        "totals": _sum("", course),
        "course": course,
        "models": [
            line(
                "gpt-4.1-mini", requests=2204, warm=1702, input=9_402_112, cached=7_271_424, cost="1.72", saved="2.18"
            ),
            line("gpt-5.6", requests=1011, warm=702, input=3_801_000, cached=2_460_000, cost="6.41", saved="3.9"),
            line("local-llama", input=60_000, cached=12_800, priced=0, cost=None, uncached_cost=None, saved=None),
        ],
        "organisations": [line("acme"), line("default", cost="0.5", uncached_cost="0.25", saved="-0.25")],
        "keys": [line("backend"), line("evaluation"), line("")],
        "causes": causes,
    }


def _hour(hour: int) -> Json:
    requests = round(90 + 70 * math.sin(hour / 24 * 2 * math.pi - 1.2))
    rate = 0.35 + 0.5 * (1 - math.exp(-hour / 6)) + 0.04 * math.sin(hour * 2.1)
    tokens = requests * 4200
    cached = int(tokens * rate) // 128 * 128
    price = 0.4e-6
    full, saved = tokens * price, cached * price * 0.75 - (0.004 if hour == 1 else 0)
    warm = round(requests * (rate + 0.05))
    times = ttft((warm, 0.06 + 0.02 * math.sin(hour), 0.12), (requests - warm, 3.6 + 0.8 * math.sin(hour / 3), 5.2))
    return line(
        str(int(NOW - NOW % HOUR) - (23 - hour) * HOUR), start=NOW - NOW % HOUR - (23 - hour) * HOUR,
        requests=requests, warm=warm, failed=hour % 3, input=tokens, cached=cached, output=requests * 180, missed=0,
        cost=f"{full - saved:.9f}", uncached_cost=f"{full:.9f}", saved=f"{saved:.9f}", priced=requests - 1, ttft=times,
    )  # fmt: skip


def _sum(value: str, lines: list[Json]) -> Json:
    names = ("requests", "warm", "failed", "input", "cached", "output", "missed", "priced")
    dollars = {name: f"{sum(float(one[name]) for one in lines):.9f}" for name in ("cost", "uncached_cost", "saved")}
    sums = {name: sum(one[name] for one in lines) for name in names}
    return line(value, **sums, **dollars, ttft=ttft((sums["warm"], 0.061, 0.118), (612, 3.71, 5.14)))


def activity() -> Json:
    """`/dashboard/live`: a tree of prefixes, and three requests."""
    prefixes = [
        prefix("a1", None, 0, 4480, hits=1702),
        prefix("a2", "a1", 4480, 6144, hits=811, tier="ram", left=64_000.0),
        prefix("a3", "a2", 6144, 9216, hits=96, tier="disk", age=41_000.0),
        prefix("a4", "a1", 4480, 4992, hits=14, promised=False, left=540.0, age=75.0),
        prefix("b1", None, 0, 3328, model="gpt-5.6", key="5f2a9c31d0", hits=702, organisation="default"),
        prefix("c1", None, 0, 1536, hits=3, tier="ram", promised=False, left=41.0, age=260.0),
    ]
    gib = 2**30
    tiers = {
        "ram": {"bytes": int(1.4 * gib), "budget": 8 * gib},
        "disk": {"bytes": int(11.2 * gib), "budget": 64 * gib},
        "promised": {"bytes": int(9.1 * gib), "budget": 60 * gib},
    }
    one = {"model": "gpt-4.1-mini", "organisation": "acme", "key": "backend", "endpoint": "responses"}
    one |= {"cached": 0, "output": 0}
    return {
        "now": NOW,
        "engines": [
            {"models": ["gpt-4.1-mini", "gpt-5.6"], "running": 2, "waiting": 1, "prefixes": prefixes, "tiers": tiers}
        ],
        "requests": [
            one | {"id": "resp_f1", "state": "answering", "elapsed": 1.24, "input": 4616, "cached": 4480, "output": 12},
            one | {"id": "resp_f2", "state": "prefilling", "elapsed": 0.31, "input": 8212},
            one | {"id": None, "state": "waiting", "elapsed": 0.02, "input": 912},
        ],
    }  # fmt: skip
