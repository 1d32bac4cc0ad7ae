"""Every cause, in a small log of its own: it is named first, its remedy saves what a replay says."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from headstart.audit.audit import Settings, audit
from headstart.audit.call import Api, Call, Observed
from headstart.audit.edits import applied
from headstart.audit.replay import Prompts, Replay
from headstart.audit.report import Report

START = 1_790_000_000.0
RULES = "".join(
    f"Rule {number}: answer case {number * 37 % 101} in {number % 7 + 2} sentences.\n" for number in range(120)
)
FACTS = {f"field_{name}": f"Of {name} there are {number * 7}." for number, name in enumerate("abcdefghijklmnop")}


def tools(names: str) -> list[dict[str, Any]]:
    """Functions, each of some 100 tokens."""
    return [
        {"type": "function", "name": f"look_up_{name}", "description": f"Looks up the {name} of a case. " * 12,
         "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}
        for name in names
    ]  # fmt: skip


def shuffled(items: list[Any], seed: int) -> list[Any]:
    """In another order for every seed."""
    return random.Random(seed).sample(items, len(items))


def chat(number: int, first: str, model: str = "gpt-5.1", **more: Any) -> dict[str, Any]:
    """A system message and a question."""
    question = {"role": "user", "content": f"Case {number}: what now?"}
    return {"model": model, "messages": [{"role": "system", "content": first}, question], **more}


def conversation(number: int) -> dict[str, Any]:
    """It grows, and what was said first is shortened away."""
    said = [
        {"role": "assistant" if at % 2 else "user", "content": f"Turn {at}. " + f"It was about case {at}. " * 40}
        for at in range(2 * number + 1)
    ]
    return {"model": "gpt-5.1", "messages": [{"role": "system", "content": RULES[:200]}, *said[-9:]]}


def claude(number: int, marked: bool) -> dict[str, Any]:
    """Rules in a block of their own, with or without a mark; the question after it."""
    block: dict[str, Any] = {"type": "text", "text": RULES}
    if marked:
        block["cache_control"] = {"type": "ephemeral"}
    return {
        "model": "claude-sonnet-4-5",
        "system": [block],
        "messages": [{"role": "user", "content": f"Case {number}: " + f"what of {number}? " * 30}],
    }


BODIES: dict[str, Any] = {
    "prefix_changed: timestamp": lambda n: chat(n, f"Now: 2026-09-21T{n:02}:07:13Z\n{RULES}"),
    "prefix_changed: date": lambda n: chat(n, f"Today is 2026-09-{n + 1:02}.\n{RULES}"),
    "prefix_changed: uuid": lambda n: chat(n, f"Id: {n:08x}-7c1b-4ab2-8f00-0123456789ab\n{RULES}"),
    "prefix_changed: user_identifier": lambda n: chat(n, f"You serve user_{n}9a7f{n}x.\n{RULES}"),
    "prefix_changed: request_identifier": lambda n: chat(n, f"request_id: req_{n}8c4f1{n}zq\n{RULES}"),
    "prefix_changed: whitespace": lambda n: chat(n, RULES.replace("\n", "\n" + " " * (n % 5) + "\n", 1)),
    "prefix_changed: reordered_keys": lambda n: chat(
        n, json.dumps(dict(shuffled(list(FACTS.items()), n))) + "\n" + RULES
    ),
    "prefix_changed: reordered_tools": lambda n: {
        "model": "gpt-5.1", "input": f"Case {n}: what now?", "instructions": RULES,
        "tools": shuffled(tools("abcdefghij"), n)},
    "prefix_changed: changed_tools": lambda n: {
        "model": "gpt-5.1", "input": f"Case {n}: what now?", "instructions": RULES,
        "tools": tools("abcdefghijklmnop"[n % 5 : n % 5 + 9])},
    "prefix_changed: edited_history": conversation,
    "below_minimum": lambda n: chat(n, RULES[:2600]),
    "different_key": lambda n: chat(n, RULES, prompt_cache_key=f"user-{n}"),
    "boundary_not_marked": lambda n: claude(n, marked=False),
    "unread_writes": lambda n: {"model": "gpt-5.6", "input": " ".join(
        f"{random.Random(n * 1000 + at).randrange(10**6)}" for at in range(900))},
    "output_not_cached": lambda n: chat(0, RULES),
    "unrepeated": lambda n: {"model": "gpt-5.1", "input": " ".join(
        f"{random.Random(n * 1000 + at).randrange(10**6)}" for at in range(900))},
    "expired": lambda n: chat(n, RULES, prompt_cache_retention="in_memory"),
    "key_too_coarse": lambda n: chat(n, RULES, prompt_cache_key="all"),
}  # fmt: skip
GAPS = {"expired": 2_000.0, "key_too_coarse": 0.5}
COUNTS = {"key_too_coarse": 60}


def calls(name: str) -> Iterator[Call]:
    """The log of a cause."""
    for number in range(COUNTS.get(name, 12)):
        body = BODIES[name](number)
        api: Api = "messages" if body["model"].startswith("claude") else "chat" if "messages" in body else "responses"
        usage = Observed(2000, 0, 0, 0, 50) if name == "output_not_cached" else None
        yield Call(number + 1, api, body, START + GAPS.get(name, 600.0) * number, usage, "answer")


def audited(name: str) -> Report:
    """The report."""
    return audit(calls(name), Settings())[0]


@pytest.mark.parametrize("name", [name for name in BODIES if name != "key_too_coarse"])
def test_a_cause_is_named_first(name: str) -> None:
    """With a remedy; what is mended by rule saves something."""
    report = audited(name)
    assert report.findings, report
    found = report.findings[0]
    if name == "unread_writes":  # which is said with it
        assert [each.cause for each in report.findings] == ["unrepeated", "unread_writes"]
        found = report.findings[1]
    assert found.name == name
    assert found.remedy
    if found.edits:
        assert found.saved is not None
        assert found.saved > 0
    assert bool(found.edits) == (name not in ("prefix_changed: edited_history", "output_not_cached", "unrepeated"))


def test_more_requests_than_a_machine_takes() -> None:
    """Of one prefix and key, more than 15 a minute; and how many keys would do."""
    found = {finding.cause: finding for finding in audited("key_too_coarse").findings}["key_too_coarse"]
    assert found.requests == 60 - 2 * 15 or found.requests > 20
    assert "keys would do" in found.note


@pytest.mark.parametrize("name", [name for name in BODIES if name.startswith("prefix_changed")])
def test_edits_lose_no_words(name: str) -> None:
    """But those that say so: every word of a text is still in the request, the tools are all there."""
    report = audited(name)
    edits = report.findings[0].edits
    for call in calls(name):
        before, after = (json.dumps(body).replace("\\n", " ") for body in (call.body, applied(edits, call).body))
        words = Counter(re.findall(r"\w+", before))
        if name != "prefix_changed: changed_tools":
            assert Counter(re.findall(r"\w+", after)) == words
    assert bool(edits) == any(edit.changes for edit in edits)


def test_marks_that_are_right_are_left_alone() -> None:
    """A marked prefix that is read needs nothing."""
    log = (
        Call(number + 1, "messages", claude(number, marked=True), START + 60.0 * number, None) for number in range(12)
    )
    report, _, _ = audit(log, Settings())
    assert report.findings == []
    assert report.total("predicted").rate > 0.7


def test_two_requests_are_enough_for_a_breakpoint() -> None:
    """The second parts from the first, and a mark in front of that place pays at once."""
    log = (
        Call(n + 1, "responses", {"model": "gpt-5.6", "input": f"{RULES}{question}"}, START + n)
        for n, question in enumerate(("What is overfitting?", "Why regularize?"))
    )
    report, _, _ = audit(log, Settings())
    assert [(found.name, bool(found.edits)) for found in report.findings] == [("boundary_not_marked", True)]
    assert report.total("attainable").cached > 1500


def test_savings_add_up() -> None:
    """Of several findings, to the difference of the replays."""
    log = [
        Call(n + 1, "chat", chat(n, f"Now: 2026-09-21T{n:02}:07:13Z\n{RULES}\nUser: user_{n}8f{n}\n{RULES}"), START + n)
        for n in range(12)
    ]
    report, _, _ = audit(log, Settings())
    ours = [finding.saved or 0 for finding in report.findings if finding.edits]
    costs = [report.total(which).cost or 0 for which in ("predicted", "attainable")]
    assert len(ours) >= 1
    assert sum(ours) == costs[0] - costs[1]
    replay = Replay(Prompts())
    edits = tuple(edit for finding in report.findings for edit in finding.edits)
    assert sum(replay.take(applied(edits, call)).read for call in log) == report.total("attainable").cached
