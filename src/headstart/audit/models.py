"""What is known of a model by its name: whose it is, under which rules it caches, and how its tokens are counted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from headstart.types import MINIMUM_PREFIX, Generation

Rule = Literal["interval", "breakpoint", "claude", "none"]


class Profile(NamedTuple):
    """A model. `rules` "none": it caches nothing. `exact`: o200k_base is its tokenizer, so counts are exact but for
    OpenAI's own template; else they are an estimate. `minimum`: tokens of the shortest prefix. `known`: whether the
    name is; one that isn't is taken for an interval model."""

    name: str
    provider: Literal["openai", "anthropic"]
    rules: Rule
    exact: bool = True
    minimum: int = MINIMUM_PREFIX
    known: bool = True

    @property
    def generation(self) -> Generation:
        """What its namespaces are called."""
        return "interval" if self.rules == "interval" else "breakpoint"


_GPT = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?![\d.])(o?)")
_UNCACHED = re.compile(r"gpt-3|gpt-4(?![\d.o])|text-|davinci|babbage|whisper|tts|dall-e|embedding|gpt-4o-(audio|tts)")
_INTERVAL = re.compile(r"o[134](?![\w.])|chatgpt-4o|codex|computer-use")
_CLAUDE_MINIMUM = (
    (re.compile(r"claude-(opus-4-[5-9]|haiku-4-[5-9])"), 4096),
    (re.compile(r"claude-(3-(5-)?haiku|haiku-3)"), 2048),
)


@lru_cache(1024)
def profile_of(name: str, generation: Generation | None = None) -> Profile:
    """A model's profile; `generation` is the rules that a log says it was served under."""
    plain = name.lower().removeprefix("ft:")
    if plain.startswith("claude"):
        minimum = next((least for pattern, least in _CLAUDE_MINIMUM if pattern.match(plain)), MINIMUM_PREFIX)
        return Profile(name, "anthropic", "claude", exact=False, minimum=minimum)
    if generation is not None:
        return Profile(name, "openai", generation)
    if _UNCACHED.match(plain):
        return Profile(name, "openai", "none")
    gpt = _GPT.match(plain)
    if gpt is not None:
        version = int(gpt[1]), int(gpt[2] or 0)
        return Profile(name, "openai", "breakpoint" if version >= (5, 6) else "interval")
    if _INTERVAL.match(plain):
        return Profile(name, "openai", "interval")
    return Profile(name, "openai", "interval", exact=False, known=False)
