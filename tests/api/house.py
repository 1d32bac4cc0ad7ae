"""A server that stores responses: its database, its organisations' keys, and a clock that tests move."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from starlette.types import ASGIApp

from headstart.api.app import create_app
from headstart.api.auth import KeyRing
from headstart.cache.index import PrefixIndex
from headstart.engine.fake import FakeEngine
from headstart.pipeline import Pipeline
from headstart.store.database import Database
from headstart.store.responses import ResponseStore
from headstart.types import Event, Plan, Prompt, Sampling

MODEL = "gpt-4.1-mini"
DAYS = 30
PATIENCE = 1.0
"""Seconds that a write waits for another process."""


class Recorder(FakeEngine):
    """The fake engine, which also remembers the prompts that it got."""

    def __init__(self, index: PrefixIndex) -> None:
        super().__init__(index)
        self.prompts: list[Prompt] = []

    def generate(self, prompt: Prompt, plan: Plan, sampling: Sampling) -> AsyncIterator[Event]:
        self.prompts.append(prompt)
        return super().generate(prompt, plan, sampling)


@dataclass
class House:
    """A server with two organisations and one under zero data retention, and a clock that tests move."""

    url: str
    engine: Recorder
    path: Path
    keys: dict[str, str]
    now: float = 1_700_000_000.0
    clients: list[openai.OpenAI] = field(default_factory=list)

    def clock(self) -> float:
        """Unix time in seconds."""
        return self.now

    def client(self, organisation: str = "acme") -> openai.OpenAI:
        """The SDK with an organisation's key."""
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[organisation], max_retries=0, timeout=30)
        self.clients.append(client)
        return client

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another process is writing."""
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("COMMIT")
            connection.close()

    def get(self, path: str, method: str = "GET") -> httpx2.Response:
        """A plain request with the first organisation's key."""
        return httpx2.request(method, self.url + path, headers={"authorization": f"Bearer {self.keys['acme']}"})

    def count(self, table: str) -> int:
        """Rows of a table."""
        connection = sqlite3.connect(self.path)
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        connection.close()
        return int(rows)


Open = Callable[..., AbstractContextManager[House]]


def opener(
    make_pipeline: Callable[[FakeEngine], Pipeline],
    serve: Callable[[ASGIApp], AbstractContextManager[str]],
    directory: Path,
) -> Open:
    """What starts a server on the database in `directory`; options go to `create_app`."""
    ring = KeyRing(directory / "keys.json")
    keys = {organisation: ring.create(organisation, organisation) for organisation in ("acme", "other", "private")}
    path = directory / "headstart.db"

    @contextmanager
    def start(**options: Any) -> Iterator[House]:
        engine = Recorder(PrefixIndex(2**20))
        house = House("", engine, path, keys)
        database = Database(path, patience=PATIENCE)
        store = ResponseStore(database, days=DAYS, max_bytes=2**30, clock=house.clock)
        app = create_app(
            make_pipeline(engine),
            ring,
            max_body=2_000_000,
            zero_data_retention=frozenset({"private"}),
            clock=house.clock,
            **{"store": store, **options},
        )
        with serve(app) as house.url:
            yield house
        for client in house.clients:
            client.close()
        asyncio.run(store.close())

    return start


def assert_unknown(client: openai.OpenAI, id: str) -> None:
    """No endpoint knows a response."""
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{id}' not found"):
            call(id)
    for create in (client.responses.create, client.responses.input_tokens.count):
        with pytest.raises(openai.NotFoundError, match=f"Previous response with id '{id}' not found") as caught:
            create(model=MODEL, input="More", previous_response_id=id)  # type: ignore[operator]
        assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")
