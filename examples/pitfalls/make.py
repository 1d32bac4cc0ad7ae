"""Writes the four logs beside this file: the four things that go wrong with prompt caching, each in a shop's requests.

python examples/pitfalls/make.py
headstart audit examples/pitfalls/2-timestamp-in-front.jsonl --fix
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
START = 1_790_000_000
RULES = (
    "Parcels are sent within two working days.",
    "Refunds are paid to the card that was charged.",
    "A return is free within thirty days of delivery.",
    "Say what you don't know, and who does.",
    "Never promise a date that the warehouse has not confirmed.",
    "Gift cards can't be returned.",
    "Answer in the customer's language.",
    "Repairs take a week, and are free within two years.",
)
TOPICS = (
    "my parcel", "a refund", "the warranty", "a gift card", "an invoice", "the size", "a repair", "the colour",
    "delivery abroad", "a late order", "an exchange", "my account",
)  # fmt: skip


def manual(lines: int) -> str:
    """A prefix of so many lines, each of its own."""
    return "\n".join(f"Rule {number}. {RULES[number % len(RULES)]}" for number in range(1, lines + 1))


def question(number: int) -> str:
    """What the customer asks."""
    return f"Case {number}: what about {TOPICS[number % len(TOPICS)]}?"


def line(number: int, body: dict[str, object], answer: str, input: int, cached: int, gap: int = 600) -> str:
    """A line of a log: the request, when it was sent, and what was answered."""
    output = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]}
    usage = {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": max(len(answer) // 4, 1),
    }
    response = {"id": f"resp_{number}", "output": [output], "usage": usage}
    return json.dumps({"timestamp": START + gap * number, "request": body, "response": response})


def counted(text: str) -> int:
    """Tokens of a prompt that is one user message."""
    from headstart.prompt.tokenizer import OpenAITokenizer

    return len(OpenAITokenizer().encode(text)) + 7


def too_short(number: int) -> str:
    """1. The prefix is under 1,024 tokens."""
    text = f"{manual(60)}\n\n{question(number)}"
    return line(number, {"model": "gpt-5.1", "input": text}, "It is on its way.", counted(text), 0)


def timestamp(number: int) -> str:
    """2. Something that varies stands in front."""
    now = f"2026-09-{21 + number // 24:02}T{number % 24:02}:{number * 7 % 60:02}:{number * 13 % 60:02}Z"
    text = f"Current time: {now}\n{manual(150)}\n\n{question(number)}"
    return line(number, {"model": "gpt-5.1", "input": text}, "It is on its way.", counted(text), 0)


def repeated(number: int) -> str:
    """3. The same question again: the prompt is cached, its long answer is computed and billed every time."""
    answer = f"Dear customer,\n{manual(40)}\nYours, the shop"
    text = f"{manual(150)}\n\n{question(number % 4)}"
    tokens = counted(text)
    cached = tokens // 128 * 128 if number else 0
    return line(number, {"model": "gpt-5.1", "input": text}, answer, tokens, cached)


def one_off(number: int) -> str:
    """4. Prompts that don't repeat."""
    dice = random.Random(number)  # noqa: S311 - made-up text
    words = [word.strip(".,'").lower() for rule in RULES for word in rule.split()]
    text = " ".join(dice.choice(words) + str(dice.randrange(1000)) for _ in range(700))
    tokens = counted(text)
    return line(number, {"model": "gpt-5.1", "input": text}, "It is on its way.", tokens, 0)


LOGS = {
    "1-prefix-too-short.jsonl": too_short,
    "2-timestamp-in-front.jsonl": timestamp,
    "3-answers-are-not-cached.jsonl": repeated,
    "4-nothing-repeats.jsonl": one_off,
}


def main() -> None:
    """Write them."""
    for name, make in LOGS.items():
        (HERE / name).write_text("".join(f"{make(number)}\n" for number in range(16)))


if __name__ == "__main__":
    main()
