"""Servers whose requests leave rows: with a sink that collects them, and with all of a server's accounts."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from starlette.types import ASGIApp

from headstart import server
from headstart.accounts import Accounts
from headstart.api.auth import KeyRing
from headstart.api.meter import Meter
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import BreakpointRules, IntervalRules, Terms
from headstart.config import Config, ModelConfig
from headstart.engine.fake import FakeEngine
from headstart.ledger.ledger import Ledger
from headstart.pipeline import Pipeline, ServedModel
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer
from headstart.types import Endpoint, Usage

MODEL, BREAKPOINTS, UNPRICED = "gpt-4.1-mini", "gpt-5.6", "local/llama:8b"
SECRET = b"\1" * 32
PATHS: dict[Endpoint, str] = {"responses": "/v1/responses", "chat.completions": "/v1/chat/completions"}

_numbers = itertools.count()

Serve = Callable[[ASGIApp], AbstractContextManager[str]]


class Collected:
    """A sink that keeps what it takes."""

    def __init__(self) -> None:
        self.rows: list[Usage] = []
        self.gaps: list[Sequence[int]] = []
        self.traces: list[str | None] = []

    def take(self, row: Usage, gaps: Sequence[int], traceparent: str | None = None) -> None:
        """Keep a row."""
        self.rows.append(row)
        self.gaps.append(list(gaps))
        self.traces.append(traceparent)


@dataclass
class Books:
    """A server, and the rows that its requests left. `key` is sent with every request."""

    url: str
    engine: FakeEngine
    meter: Meter
    sink: Collected
    key: str = "unused"
    seen: int = 0

    def post(self, endpoint: Endpoint, content: Any = None, **more: Any) -> httpx2.Response:
        """A plain request: of `asked`'s body, or of what is given."""
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"} | more.pop("headers", {})
        body = json.dumps(asked(endpoint, **more)).encode() if content is None else content
        return httpx2.post(self.url + PATHS[endpoint], content=body, headers=headers, timeout=20)

    def get(self, path: str) -> httpx2.Response:
        """A plain request."""
        return httpx2.get(self.url + path, headers={"authorization": f"Bearer {self.key}"}, timeout=20)

    def row(self) -> Usage:
        """The next row, and no more than that."""
        wait_for(lambda: len(self.sink.rows) > self.seen)
        assert len(self.sink.rows) == self.seen + 1
        self.seen += 1
        return self.sink.rows[-1]

    def settled(self) -> None:
        """Nothing is left over: no request under way, no row that a test didn't look at."""
        wait_for(lambda: not self.meter.under_way)
        wait_for(lambda: self.engine.stats().running == 0)
        left, self.seen = self.sink.rows[self.seen :], len(self.sink.rows)
        assert left == []

    @contextmanager
    def sent(self, endpoint: Endpoint, *, cut: int = 0, **more: Any) -> Iterator[socket.socket]:
        """A request on a socket that is closed at the end; `cut`: bytes of its body that are never sent."""
        body, where = json.dumps(asked(endpoint, **more)).encode(), urlsplit(self.url)
        head = f"POST {PATHS[endpoint]} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self.key}\r\n"
        with socket.create_connection((where.hostname, where.port), timeout=10) as sock:
            sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[: len(body) - cut])
            yield sock


def asked(endpoint: Endpoint, text: Any = "Hello", *, model: str = MODEL, most: int | None = None, **more: Any) -> Any:
    """A body that asks for at most so many output tokens."""
    if endpoint == "responses":
        return {"model": model, "input": text, **({"max_output_tokens": most} if most else {}), **more}
    limit = {"max_completion_tokens": most} if most else {}
    if more.get("stream"):
        more["stream_options"] = {"include_usage": True}
    return {"model": model, "messages": [{"role": "user", "content": text}], **limit, **more}


def told(endpoint: Endpoint, answer: httpx2.Response) -> dict[str, Any]:
    """The response's object, of a stream the last one: its id and its usage."""
    if "event-stream" not in answer.headers["content-type"]:
        return dict(answer.json())
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    last = json.loads(lines[-1])
    return dict(last["response"]) if endpoint == "responses" else dict(last)


def counted(usage: Any) -> tuple[int, int, int, int]:
    """Input, cached, written and output tokens of a `usage` of either endpoint."""
    kind = "input" if "input_tokens" in usage else "prompt"
    details = usage[f"{kind}_tokens_details"]
    output = usage["output_tokens" if kind == "input" else "completion_tokens"]
    return usage[f"{kind}_tokens"], details["cached_tokens"], details["cache_write_tokens"], output


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it is true, at most 5 seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


def long_text(words: int = 1500) -> str:
    """A text of its own, of more tokens than words."""
    number = next(_numbers)
    return f"item{number} alpha beta gamma delta epsilon " * (words // 5)


def figures(row: Usage) -> tuple[int, int, int, int]:
    """Input, cached, written and output tokens of a row."""
    return row.input, row.cached, row.written, row.output


def boom(*_: Any, **__: Any) -> Any:
    """What nobody foresaw."""
    raise ZeroDivisionError("boom")


@dataclass
class Firm:
    """A whole server with the fake engine: its data on disk, its ledger on SQLite, its keys by their names."""

    url: str
    engine: FakeEngine
    accounts: Accounts
    data: Path
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        """What it writes its rows into."""
        assert self.accounts.ledger is not None
        return self.accounts.ledger

    def client(self, name: str = "", retries: int = 0) -> openai.OpenAI:
        """The SDK with a key."""
        key = self.keys.get(name, "unused")
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=retries, timeout=20)

    def get(self, path: str, name: str | None = None, **headers: str) -> httpx2.Response:
        """A plain request with a key, or without."""
        given = {} if name is None else {"authorization": f"Bearer {self.keys[name]}"}
        return httpx2.get(self.url + path, headers=given | headers, timeout=20)

    def ask(self, name: str = "", text: Any = "Hello", *, most: int = 2, **more: Any) -> Any:
        """A response, by the SDK."""
        with self.client(name) as client:
            return client.responses.create(**asked("responses", text, most=most, **more))

    def quiet(self) -> None:
        """All rows are written."""
        wait_for(lambda: not self.accounts.meter.under_way)
        assert self.ledger.flush(10)

    def rows(self) -> list[Usage]:
        """All of them, by time."""
        self.quiet()
        connection = sqlite3.connect(self.data / "usage.db")
        connection.row_factory = sqlite3.Row
        rows = [Usage(**row) for row in connection.execute("SELECT * FROM usage ORDER BY time")]
        connection.close()
        return rows


OpenFirm = Callable[..., AbstractContextManager[Firm]]


@contextmanager
def firm(
    serve: Serve,
    prompts: PromptBuilder,
    data: Path,
    keys: dict[str, dict[str, Any]] | None = None,
    models: tuple[ModelConfig, ...] = (),
    **options: Any,
) -> Iterator[Firm]:
    """Start one on a data directory. `keys`: names, and what `KeyRing.create` is told of them; `options`: of
    `Config`."""
    data.mkdir(exist_ok=True)
    ring = KeyRing(data / server.KEYS_FILE)
    known = {key.name for key in ring.list()}
    made = {name: ring.create(name, **of) for name, of in (keys or {}).items() if name not in known}
    models = models or (
        ModelConfig(name=MODEL),
        ModelConfig(name=BREAKPOINTS, generation="breakpoint"),
        ModelConfig(name=UNPRICED),
    )
    config = Config(data_dir=str(data), models=models, **options)
    ring, secret = server.prepare(config), server.load_secret(data / server.SECRET_FILE)
    private = server.private_organisations(config, ring)
    terms, engine = Terms(secret, zero_data_retention=private), FakeEngine(PrefixIndex(2**20))
    rules = {"interval": IntervalRules(terms), "breakpoint": BreakpointRules(terms)}
    served = [ServedModel(m.name, m.generation, engine, prompts, rules[m.generation], 0) for m in models]
    accounts, store = Accounts(config, secret), server.open_store(config, ring)
    app = server.build_app(config, Pipeline(served, secret, zero_data_retention=private), ring, store, accounts)
    try:
        with serve(app) as url:
            yield Firm(url, engine, accounts, data, made)
    finally:
        asyncio.run(store.close())
        asyncio.run(accounts.close())


def builder() -> PromptBuilder:
    """What renders the prompts, as the other servers of these tests do."""
    return PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
