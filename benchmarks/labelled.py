"""Logs whose cause is known, and what the audit names first: `python -m benchmarks.labelled [--seeds 14]`.

Each cause is written in several ways (endpoint, model, wording, place, length), by a seed. The report is the confusion
matrix's rows: of each cause how many logs were named right, and what the others were taken for.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from headstart.audit.audit import Settings, audit
from headstart.audit.call import Api, Call, Observed

START = 1_790_000_000.0
_WORDS = (
    "answer case parcel refund window paper garden river careful always never polite customer invoice warranty letter "
    "reply short table number page manual section policy return carrier label pickup amount credit order status"
)
WORDS = _WORDS.split()


class Log(NamedTuple):
    """How a cause's requests are made: `body` of a number; seconds between them; whether they have answers."""

    body: Callable[[int], dict[str, Any]]
    gap: float = 240.0
    answers: bool = False
    count: int = 10


def rules(dice: random.Random, lines: int = 0) -> str:
    """What stays the same: some 1,200 to 2,000 tokens, unless told."""
    return "".join(
        f"Rule {number}: {' '.join(dice.choices(WORDS, k=9))}.\n" for number in range(lines or dice.randint(120, 170))
    )


def asked(dice: random.Random) -> Callable[[int, str], dict[str, Any]]:
    """A way to send a stable text and a question: an endpoint, a model, who says it."""
    model = dice.choice(("gpt-4.1-mini", "gpt-5.1", "gpt-4o", "gpt-5"))
    way = dice.randrange(3)
    topic = dice.choice(WORDS)

    def body(number: int, text: str) -> dict[str, Any]:
        question = f"Case {number}: what of the {topic}?"
        if way == 0:
            return {"model": model, "input": f"{text}\n{question}"}
        if way == 1:
            return {"model": model, "instructions": text, "input": question}
        messages = [{"role": "system", "content": text}, {"role": "user", "content": question}]
        return {"model": model, "messages": messages}

    return body


def moment(dice: random.Random, number: int) -> datetime:
    """Rising."""
    return datetime.fromtimestamp(START, UTC) + timedelta(minutes=7 * number, seconds=dice.randrange(60) + number)


def in_front(write: Callable[[random.Random, int], str]) -> Callable[[random.Random], Log]:
    """A value on a line of its own, in front or a few lines on."""

    def make(dice: random.Random) -> Log:
        body, text, seed = asked(dice), rules(dice), dice.randrange(10**6)
        opening = rules(dice, dice.choice((0, 1, 3))) if dice.random() < 0.5 else ""

        def request(number: int) -> dict[str, Any]:
            return body(number, f"{opening[:200]}{write(random.Random(seed * 1000 + number), number)}\n{text}")

        return Log(request)

    return make


def stamp(dice: random.Random, number: int) -> str:
    at = moment(dice, number)
    styles = ("Current time: %Y-%m-%dT%H:%M:%SZ", "Now it is %Y-%m-%d %H:%M:%S.", "[%a, %d %b %Y %H:%M:%S GMT]")
    return at.strftime(styles[STYLE[0] % 3])


STYLE = [0]
"""Which wording a log uses; the same in all of its requests."""


def day(_: random.Random, number: int) -> str:
    at = datetime.fromtimestamp(START, UTC) + timedelta(days=number)
    return at.strftime(("Today is %Y-%m-%d.", "Date: %d %B %Y", "As of %B %d, %Y:")[STYLE[0] % 3])


def uuid(dice: random.Random, _: int) -> str:
    digits = f"{dice.getrandbits(128):032x}"
    text = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    return ("Id {}", "<{}>", "Trace {}:")[STYLE[0] % 3].format(text)


def user(dice: random.Random, _: int) -> str:
    name = f"{dice.getrandbits(40):010x}"
    return ("User ID: u{}9", "customer_id={}7x", "You serve user_{}8.")[STYLE[0] % 3].format(name)


def request_id(dice: random.Random, _: int) -> str:
    name = f"{dice.getrandbits(60):015x}"
    return ("request_id: {}7q", "session id: {}3k", "req_{}9 begins.")[STYLE[0] % 3].format(name)


def functions(dice: random.Random, count: int = 9) -> list[dict[str, Any]]:
    names = dice.sample(WORDS, count)
    return [
        {"type": "function", "name": f"find_{name}", "description": f"Finds the {name}. " * 14,
         "parameters": {"type": "object", "properties": {"id": {"type": "string"}, "limit": {"type": "integer"}}}}
        for name in names
    ]  # fmt: skip


def with_tools(change: Callable[[list[dict[str, Any]], random.Random], list[dict[str, Any]]]) -> Callable[..., Log]:
    """Tools that differ from request to request."""

    def make(dice: random.Random) -> Log:
        text, tools, seed = rules(dice), functions(dice), dice.randrange(10**6)
        return Log(
            lambda number: {
                "model": "gpt-5.1",
                "instructions": text,
                "input": f"Case {number}?",
                "tools": change(tools, random.Random(seed * 1000 + number)),
            }
        )

    return make


def keyed(dice: random.Random) -> Log:
    body, text = asked(dice), rules(dice)
    facts = [(f"{name}_{number}", dice.randrange(1000)) for number, name in enumerate(dice.sample(WORDS, 20))]
    seed, indent = dice.randrange(10**6), dice.choice((None, 2))

    def request(number: int) -> dict[str, Any]:
        order = random.Random(seed * 1000 + number).sample(facts, len(facts))
        return body(number, f"{json.dumps(dict(order), indent=indent)}\n{text}")

    return Log(request)


def spaced(dice: random.Random) -> Log:
    body, text, at = asked(dice), rules(dice), dice.randrange(3, 12)
    drift = dice.choice(("\n" + "\n", " \n", "\r\n"))
    return Log(lambda number: body(number, text.replace("\n", drift * (number % 3 + 1) + "\n", at)))


def shortened(dice: random.Random) -> Log:
    head, topic, keep = rules(dice, 8), dice.choice(WORDS), dice.choice((7, 9, 11))

    def request(number: int) -> dict[str, Any]:
        said = [
            {"role": "assistant" if turn % 2 else "user", "content": f"Turn {turn}. " + f"The {topic} of {turn}. " * 55}
            for turn in range(2 * number + 5)
        ]
        return {"model": "gpt-5.1", "messages": [{"role": "system", "content": head}, *said[-keep:]]}

    return Log(request, count=14)


def short(dice: random.Random) -> Log:
    body, text = asked(dice), rules(dice, dice.randint(35, 62))
    return Log(lambda number: body(number, text))


def fine(dice: random.Random) -> Log:
    body, text = asked(dice), rules(dice)
    return Log(lambda number: {**body(number, text), "prompt_cache_key": f"user-{number}"})


def coarse(dice: random.Random) -> Log:
    body, text = asked(dice), rules(dice)
    return Log(lambda number: {**body(number, text), "prompt_cache_key": "all"}, gap=dice.uniform(0.5, 2.0), count=50)


def gaps(dice: random.Random) -> Log:
    body, text = asked(dice), rules(dice)
    return Log(
        lambda number: {**body(number, text), "prompt_cache_retention": "in_memory"}, gap=dice.uniform(900, 3000)
    )


def misplaced(dice: random.Random) -> Log:
    """Claude's mark behind what changes, or none."""
    text, marked, tail = rules(dice), dice.random() < 0.5, dice.randint(20, 60)

    def request(number: int) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": f"{text}\nCase {number}: " + f"the {number}th. " * tail}
        if marked:
            block["cache_control"] = {"type": "ephemeral"}
        return {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": [block]}]}

    return Log(request, gap=60.0)


def once(model: str) -> Callable[[random.Random], Log]:
    """Prompts of their own."""

    def make(dice: random.Random) -> Log:
        seed, size = dice.randrange(10**6), dice.randint(500, 900)

        def request(number: int) -> dict[str, Any]:
            own = random.Random(seed * 1000 + number)
            return {
                "model": model,
                "input": " ".join(f"{own.choice(WORDS)}{own.randrange(10**4)}" for _ in range(size)),
            }

        return Log(request)

    return make


def again(dice: random.Random) -> Log:
    body, text = asked(dice), rules(dice)
    return Log(lambda number: body(number % 2, text), answers=True)


CAUSES: dict[str, Callable[[random.Random], Log]] = {
    "prefix_changed: timestamp": in_front(stamp),
    "prefix_changed: date": in_front(day),
    "prefix_changed: uuid": in_front(uuid),
    "prefix_changed: user_identifier": in_front(user),
    "prefix_changed: request_identifier": in_front(request_id),
    "prefix_changed: whitespace": spaced,
    "prefix_changed: reordered_keys": keyed,
    "prefix_changed: reordered_tools": with_tools(lambda tools, own: own.sample(tools, len(tools))),
    "prefix_changed: changed_tools": with_tools(lambda tools, own: tools[own.randrange(3) :][: own.randint(5, 6)]),
    "prefix_changed: edited_history": shortened,
    "below_minimum": short,
    "different_key": fine,
    "key_too_coarse": coarse,
    "expired": gaps,
    "boundary_not_marked": misplaced,
    "unread_writes": once("gpt-5.6"),
    "unrepeated": once("gpt-5.1"),
    "output_not_cached": again,
}


def calls(cause: str, seed: int) -> Iterator[Call]:
    """The log of a cause."""
    STYLE[0] = seed
    log = CAUSES[cause](random.Random(f"{cause} {seed}"))
    for number in range(log.count):
        body = log.body(number)
        api: Api = "messages" if body["model"].startswith("claude") else "chat" if "messages" in body else "responses"
        usage = Observed(2000, 0, 0, 0, 400) if log.answers else None
        yield Call(number + 1, api, body, START + log.gap * number, usage, "answer")


def named(cause: str, seed: int) -> str:
    """What the audit names first. Of prompts that don't repeat it says so first, and then that their writes don't pay:
    that is the cause where writes cost."""
    report, _, _ = audit(calls(cause, seed), Settings())
    names = [finding.name for finding in report.findings]
    if names[:2] == ["unrepeated", "unread_writes"]:
        return "unread_writes"
    return names[0] if names else "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12, help="logs of each cause")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    matrix: dict[str, Counter[str]] = defaultdict(Counter)
    for cause in CAUSES:
        for seed in range(options.first, options.first + options.seeds):
            matrix[cause][named(cause, seed)] += 1
        others = {name: count for name, count in matrix[cause].items() if name != cause}
        print(f"{cause:36} {matrix[cause][cause]:3} of {options.seeds:3}  {others or ''}", flush=True)
    right, all_logs = sum(matrix[cause][cause] for cause in CAUSES), options.seeds * len(CAUSES)
    print(f"{right} of {all_logs} right: {right / all_logs:.1%}")


if __name__ == "__main__":
    main()
