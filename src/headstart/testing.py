"""For the tests of applications: a server without a model that keeps the real rules, and an assertion on what it read.

def test_the_prefix_is_reused(headstart_client):
    responses = [ask(headstart_client, question) for question in QUESTIONS]
    assert_cached(responses[1:], at_least=0.9)
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import uvicorn

    from headstart.engine.fake import FakeEngine
    from headstart.types import Generation

MODELS: Mapping[str, Generation] = {
    "gpt-4o": "interval",
    "gpt-4o-mini": "interval",
    "gpt-4.1": "interval",
    "gpt-4.1-mini": "interval",
    "gpt-4.1-nano": "interval",
    "gpt-5": "interval",
    "gpt-5-mini": "interval",
    "gpt-5.1": "interval",
    "gpt-5.6": "breakpoint",
}
"""Names that a `FakeServer` answers to, unless told."""
START = 1_790_000_000.0


class Clock:
    """Unix time in seconds, that only a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass: entries expire by it."""
        if seconds < 0:
            raise ValueError("Time doesn't go back.")
        self.now += seconds


class FakeServer:
    """OpenAI's API on a free loopback port, in a thread: the real rules and tokens, and words for answers.

    Args:
        models: names, and the generation of rules that each is under.

    `url` ends with `/v1`. `engine` is steered by its attributes, as `engine.answer`. A context; each has its own cache.
    """

    def __init__(self, models: Mapping[str, Generation] = MODELS) -> None:
        self._models, self.clock, self.url = models, Clock(), ""
        self.engine: FakeEngine
        self._server: uvicorn.Server
        self._thread: threading.Thread

    def __enter__(self) -> FakeServer:
        import uvicorn

        from headstart.api.app import create_app
        from headstart.api.auth import KeyRing
        from headstart.cache.index import PrefixIndex
        from headstart.cache.policy import Terms, rules_for
        from headstart.engine.fake import FakeEngine
        from headstart.pipeline import Pipeline, ServedModel
        from headstart.prompt.builder import PromptBuilder
        from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
        from headstart.prompt.tokenizer import OpenAITokenizer

        self.engine = FakeEngine(PrefixIndex(2**20), clock=self.clock, context_length=1_000_000)
        prompts = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
        terms = Terms(b"headstart.testing")
        served = [
            ServedModel(name, generation, self.engine, prompts, rules_for(generation, terms), int(START))
            for name, generation in self._models.items()
        ]
        self._directory = tempfile.TemporaryDirectory()
        app = create_app(
            Pipeline(served, b"headstart.testing", clock=self.clock),
            KeyRing(Path(self._directory.name) / "keys.json"),
            max_body=32 * 1024 * 1024,
            clock=self.clock,
        )
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="headstart", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The fake server did not start.")
            time.sleep(0.002)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        _running[id(self)] = self
        return self

    def __exit__(self, *_: object) -> None:
        _running.pop(id(self), None)
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self._directory.cleanup()

    def explain(self, id: str) -> dict[str, Any] | None:
        """Why a response's prompt was not read, or not all of it; None for a response of another server."""
        try:
            with urllib.request.urlopen(f"{self.url}/responses/{id}/cache", timeout=10) as answer:  # noqa: S310 - ours
                told: dict[str, Any] = json.load(answer)
                return told
        except urllib.error.HTTPError as error:
            error.close()
            return None


_running: dict[int, FakeServer] = {}
"""The servers of this process, which know why."""


class Row(NamedTuple):
    """What a response counted, in tokens."""

    id: str
    input: int
    cached: int
    written: int


def assert_cached(responses: object, at_least: float = 0.9) -> None:
    """Of all these responses' input tokens, so large a share has to be cached.

    Args:
        responses: of the `openai` SDK or as dicts, of either endpoint, or their usage; one or several. The first
            request of a prefix can't be cached: leave its response out.
        at_least: between 0 and 1.

    Raises `AssertionError` with each response's figures, and why, if a `FakeServer` of this process answered.
    """
    if not 0 <= at_least <= 1:
        raise ValueError(f"at_least is a share between 0 and 1, not {at_least}.")
    several = isinstance(responses, Iterable) and not isinstance(responses, Mapping) and not _has_usage(responses)
    rows = [_row(each) for each in (responses if several else [responses])]  # type: ignore[attr-defined]
    if not rows:
        raise ValueError("There is no response to look at.")
    input, cached = sum(row.input for row in rows), sum(row.cached for row in rows)
    share = cached / input if input else 0.0
    if share < at_least:
        raise AssertionError(_told(rows, share, at_least))


def _has_usage(value: object) -> bool:
    return hasattr(value, "usage")  # an SDK's object, which iterates over its fields


def _row(response: object) -> Row:
    usage = _get(response, "usage") or response
    input = _get(usage, "input_tokens", "prompt_tokens")
    if not isinstance(input, int):
        raise ValueError(
            f"{type(response).__name__} has no usage. Of a stream, take the response of its last event; in Chat "
            "Completions ask for stream_options={'include_usage': True}."
        )
    details = _get(usage, "input_tokens_details", "prompt_tokens_details")
    cached, written = _get(details, "cached_tokens"), _get(details, "cache_write_tokens")
    return Row(str(_get(response, "id") or ""), input, cached or 0, written or 0)


def _get(value: object, *names: str) -> Any:
    for name in names:
        found = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if found is not None:
            return found
    return None


def _told(rows: list[Row], share: float, at_least: float) -> str:
    lines = [f"{share:.1%} of the input tokens were cached; at least {at_least:.1%} was expected.", ""]
    lines.append(f"{'':>4}  {'input':>8}  {'cached':>8}  {'written':>8}  {'share':>6}")
    for number, row in enumerate(rows, 1):
        part = row.cached / row.input if row.input else 0.0
        lines.append(f"{number:>4}  {row.input:>8,}  {row.cached:>8,}  {row.written:>8,}  {part:>6.1%}")
        why = _why(row.id)
        if why and part < at_least:
            lines.append(f"      {why}")
    if rows[0].cached == 0 and all(row.cached for row in rows[1:]) and len(rows) > 1:
        lines += ["", "The first request of a prefix can't be cached: leave its response out."]
    return "\n".join(lines)


def _why(id: str) -> str:
    for server in _running.values() if id else ():
        told = server.explain(id)
        miss = told.get("miss") if told else None
        if told and miss:
            parting = told.get("parting") or {}
            place = f" at {parting['path']}" if parting.get("path") else ""
            return f"{miss['cause']}{place}: {miss.get('remedy') or ''}".rstrip(": ")
    return ""
