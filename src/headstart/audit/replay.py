"""A log's requests through the server's own rules, one after the other: what each would have read and written, and why
not more. The clock is the log's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from headstart.audit.bodies import request_of
from headstart.audit.call import OTHER_SHAPE, Call
from headstart.audit.models import Profile, profile_of
from headstart.cache.claude import ClaudeRules
from headstart.cache.diagnosis import Subject, explain
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import Rules, Terms, rules_for
from headstart.cache.records import RecordBook, Recorder
from headstart.cache.retention import LeastRecentlyUsed
from headstart.errors import InvalidRequest
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer
from headstart.types import CacheReport, Explanation, Mark, Namespace, Plan, Prompt, Request, Retention

BLOCKS = 1 << 20
"""Blocks that the replayed cache holds, unless told: 134 million tokens. A provider has more; this bounds memory."""
SECRET = b"audit"
STEP = 1e-3
"""Seconds between requests whose times nobody knows: none of them expires."""


class Served(NamedTuple):
    """What a request would have been given. Tokens; `long` of the written ones for the longer life. `text`: finds the
    client's text at a path. `now`: when, in seconds of the log's clock."""

    call: Call
    profile: Profile
    request: Request
    input: int
    read: int
    written: int
    long: int
    explanation: Explanation
    now: float


class Prompts:
    """Renders requests as OpenAI's models read them; one for all replays, since it remembers what it has seen."""

    def __init__(self) -> None:
        self._builder = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())

    def build(self, call: Call) -> tuple[Request, Prompt]:
        """A call's request and prompt. Raises `ValueError` for one without a prompt."""
        try:
            request = request_of(call)
            prompt = self._builder.build(request)
        except OTHER_SHAPE as error:
            raise ValueError(f"Its body isn't of the shape that the API takes ({type(error).__name__}).") from error
        except InvalidRequest as error:
            raise ValueError(error.message) from error
        if call.api == "messages" and (marks := self._tool_marks(call, prompt)):
            prompt = replace(prompt, marks=(*marks, *prompt.marks))
        return request, prompt

    def locate(self, request: Request, prompt: Prompt, token: int) -> tuple[str, int] | None:
        """See `PromptBuilder.locate`."""
        return self._builder.locate(request, prompt, token)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._builder.build(_plain(text)).tokens) - len(self._builder.build(_plain("")).tokens)

    @staticmethod
    def _tool_marks(call: Call, prompt: Prompt) -> list[Mark]:
        tools = call.body.get("tools")
        if not isinstance(tools, list) or not any(isinstance(tool, dict) and "cache_control" in tool for tool in tools):
            return []
        stops = [segment.stop for segment in prompt.segments if segment.path.startswith("tools[")]
        return [Mark(stops[-1])] if stops else []


def _plain(text: str) -> Request:
    from headstart.types import Message, Text

    return Request("", (Message("user", (Text(text, "text"),), "text"),))


class Replay:
    """One pass over a log.

    Args:
        prompts: shared by passes.
        retention: of interval models' requests that don't say.
        blocks: that the cache holds.
        explained: whether each request is told why no more of it was read; else only what was.
    """

    def __init__(
        self,
        prompts: Prompts,
        *,
        retention: Retention = "24h",
        blocks: int = BLOCKS,
        explained: bool = True,
    ) -> None:
        self._prompts, self._explained = prompts, explained
        self._terms = Terms(SECRET, retention=retention)
        policy = LeastRecentlyUsed() if blocks == BLOCKS else None  # a provider's isn't known, nor how much it has
        self.index = PrefixIndex(blocks, retention=policy)
        self.index.promises.budget = self.index.promises.budget._replace(ram=blocks)
        self._book, self._recorder = RecordBook(), Recorder(SECRET)
        self._rules: dict[tuple[str, int], Rules] = {}
        self._count = 0
        self.now = 0.0

    def take(self, call: Call) -> Served:
        """The next request. Raises `ValueError` for one without a prompt."""
        request, prompt = self._prompts.build(call)
        profile = profile_of(call.model, call.generation)
        self.now = self.now + STEP if call.time is None else max(call.time, self.now)
        namespace = Namespace(call.organisation, call.model, profile.generation, request.cache.key)
        plan = self._plan(profile, prompt, namespace, request)
        report = self.index.serve(plan, self.now)
        why = Explanation(None, None, report)
        if self._explained:
            why = self._explain(namespace, request, prompt, plan, report, profile)
        written, long = report.written
        if profile.rules == "interval":  # where writing is free, nobody counts it
            written = long = 0
        elif profile.rules == "claude":
            hours = [stop for stop in plan.writes if plan.life(stop).idle > 300 and stop > report.read]
            long = max(hours, default=report.read) - report.read
        return Served(call, profile, request, plan.length, report.read, written - long, long, why, self.now)

    def _explain(
        self, namespace: Namespace, request: Request, prompt: Prompt, plan: Plan, report: CacheReport, profile: Profile
    ) -> Explanation:
        record = self._recorder.record(namespace, request, prompt, plan, self.now)
        locate = partial(self._prompts.locate, request, prompt)
        subject = Subject(record, request, prompt, plan, locate, cacheable=profile.rules != "none")
        why = _by_minimum(explain(subject, report, self._book), profile, prompt)
        self._count += 1
        self._book.add(replace(record, id=str(self._count), outcome=why), self.now)
        return why

    def _plan(self, profile: Profile, prompt: Prompt, namespace: Namespace, request: Request) -> Plan:
        if profile.rules == "none":
            return Plan(len(prompt.tokens), (), (), (), self._terms.in_memory)
        rules = self._rules.get((profile.rules, profile.minimum))
        if rules is None:
            claude = profile.rules == "claude"
            rules = ClaudeRules(self._terms, profile.minimum) if claude else rules_for(profile.generation, self._terms)
            self._rules[profile.rules, profile.minimum] = rules
        return rules.plan(prompt, namespace, request.cache)


def _by_minimum(why: Explanation, profile: Profile, prompt: Prompt) -> Explanation:
    """Of a model whose minimum is higher than others': its marked prefix may be too short."""
    longest = max((mark.stop for mark in prompt.marks), default=0)
    if profile.rules == "claude" and 0 < longest < profile.minimum:
        remedy = f"{profile.name} caches from {profile.minimum} tokens on, and the longest marked prefix has {longest}."
        return why._replace(cause="below_minimum", remedy=remedy)
    return why
