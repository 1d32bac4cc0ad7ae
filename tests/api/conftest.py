"""A real server on a loopback port, over an engine without a model, driven by the real SDK."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import openai
import pytest
from starlette.types import ASGIApp
from tests.api.books import Books, Collected, OpenFirm, firm
from tests.api.house import House, Open, opener

from headstart.api.app import create_app
from headstart.api.auth import KeyRing
from headstart.api.meter import Meter
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import BreakpointRules, IntervalRules, Terms
from headstart.engine.fake import FakeEngine
from headstart.ledger.price_list import PriceList
from headstart.pipeline import Pipeline, ServedModel
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer
from headstart.store.database import Database
from headstart.store.responses import ResponseStore

MODEL = "gpt-4.1-mini"
BREAKPOINTS = "gpt-5.6"
SECRET = b"\0" * 32
MAX_BODY = 2_000_000


@dataclass
class Running:
    """A server under test. A test may change `engine`'s attributes; `reset` sets them back."""

    url: str
    engine: FakeEngine
    pipeline: Pipeline
    max_body: int = MAX_BODY
    model: str = MODEL

    def reset(self) -> None:
        """The engine as it was made."""
        made = FakeEngine(PrefixIndex(0))
        for option in ("delay", "capacity", "output_tokens", "fail_after", "answer"):
            setattr(self.engine, option, getattr(made, option))


@pytest.fixture(scope="session")
def prompts() -> PromptBuilder:
    """What renders the prompts."""
    return PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())


@pytest.fixture(scope="session")
def make_pipeline(prompts: PromptBuilder) -> Callable[[FakeEngine], Pipeline]:
    """A pipeline that serves one engine under three names."""

    def make(engine: FakeEngine) -> Pipeline:
        interval, breakpoints = IntervalRules(Terms(SECRET)), BreakpointRules(Terms(SECRET))
        created = 1_700_000_000
        served = [
            ServedModel(MODEL, "interval", engine, prompts, interval, created),
            ServedModel("local/llama:8b", "interval", engine, prompts, interval, created),
            ServedModel(BREAKPOINTS, "breakpoint", engine, prompts, breakpoints, created),
        ]
        return Pipeline(served, SECRET)

    return make


@pytest.fixture(scope="session")
def _running(
    make_pipeline: Callable[[FakeEngine], Pipeline],
    serve: Callable[[ASGIApp], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    engine = FakeEngine(PrefixIndex(2**20))
    pipeline = make_pipeline(engine)
    keys = KeyRing(tmp_path_factory.mktemp("data") / "keys.json")
    database = Database(tmp_path_factory.mktemp("store") / "headstart.db")
    store = ResponseStore(database, days=30, max_bytes=2**30, clock=time.time)
    with serve(create_app(pipeline, keys, max_body=MAX_BODY, store=store)) as url:
        yield Running(url, engine, pipeline)


@pytest.fixture
def server(_running: Running) -> Iterator[Running]:
    """The server, with its engine as it was made."""
    yield _running
    _running.reset()


@pytest.fixture(scope="session")
def http(_running: Running) -> Iterator[httpx2.Client]:
    """A plain HTTP client, for what the SDK would never send."""
    with httpx2.Client(base_url=_running.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def client(_running: Running) -> Iterator[openai.OpenAI]:
    """The SDK, without retries: an error is seen as it is answered."""
    with openai.OpenAI(base_url=f"{_running.url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
async def async_client(server: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous SDK."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def served(client: openai.OpenAI, server: Running) -> Iterator[None]:
    """Whatever a test did, a good request afterwards is served."""
    yield
    server.reset()
    assert client.responses.create(model=MODEL, input="Still there?", max_output_tokens=3).output_text


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition, at most 5 seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.005)

    return wait


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Where a key ring may be."""
    return tmp_path / "data" / "keys.json"


@pytest.fixture
def open_house(
    make_pipeline: Callable[[FakeEngine], Pipeline],
    serve: Callable[[ASGIApp], AbstractContextManager[str]],
    tmp_path: Path,
) -> Open:
    """What starts a server with two organisations, and one under zero data retention, on the test's own database."""
    return opener(make_pipeline, serve, tmp_path)


@pytest.fixture
def house(open_house: Open) -> Iterator[House]:
    """Such a server, which stores what is asked to be stored."""
    with open_house() as house:
        yield house


@pytest.fixture
def acme(house: House) -> openai.OpenAI:
    """The SDK of its first organisation."""
    return house.client("acme")


@pytest.fixture(scope="session")
def _books(
    make_pipeline: Callable[[FakeEngine], Pipeline],
    serve: Callable[[ASGIApp], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Books]:
    ring = KeyRing(tmp_path_factory.mktemp("keys") / "keys.json")
    key = ring.create("laptop", "acme")
    engine, sink = FakeEngine(PrefixIndex(2**20)), Collected()
    meter = Meter(PriceList({}), sinks=[sink])
    store = ResponseStore(
        Database(tmp_path_factory.mktemp("books") / "headstart.db"), days=30, max_bytes=2**30, clock=time.time
    )
    with serve(create_app(make_pipeline(engine), ring, max_body=MAX_BODY, store=store, meter=meter)) as url:
        yield Books(url, engine, meter, sink, key)


@pytest.fixture
def books(_books: Books) -> Iterator[Books]:
    """A server whose rows are collected; a test looks at every row that its requests leave."""
    yield _books
    _books.settled()
    made = FakeEngine(PrefixIndex(0))
    for option in ("delay", "capacity", "output_tokens", "fail_after", "answer"):
        setattr(_books.engine, option, getattr(made, option))


@pytest.fixture
def open_firm(
    prompts: PromptBuilder, serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path: Path
) -> OpenFirm:
    """What starts a whole server, on the test's own data directory."""
    return partial(firm, serve, prompts, tmp_path / "data")
