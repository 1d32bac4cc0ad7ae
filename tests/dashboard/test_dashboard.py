"""The dashboard of a whole server in a real browser: the figures on the page are those of the ledger's rows."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Page, expect
from starlette.types import ASGIApp

from headstart import server
from headstart.accounts import Accounts
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import BreakpointRules, IntervalRules, Terms
from headstart.config import Config, ModelConfig
from headstart.engine.fake import FakeEngine
from headstart.pipeline import Pipeline, ServedModel
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer

MODEL, BREAKPOINTS, HOSTILE = "gpt-4.1-mini", "gpt-5.6", "<b>bold</b>"
SECRET = b"\0" * 32
LONG = "You are a patient tutor of machine learning. " * 300


@dataclass
class Running:
    """A server with all of its accounts, and its ledger's file."""

    url: str
    config: Config

    def ask(self, input: str, model: str = MODEL, key: str = "none") -> httpx2.Response:
        """One request."""
        body = {"model": model, "input": input, "max_output_tokens": 4}
        return httpx2.post(f"{self.url}/v1/responses", json=body, headers={"authorization": f"Bearer {key}"})

    def rows(self, columns: str, where: str = "1") -> list[tuple[float, ...]]:
        """What is in the file, past all of our own code."""
        place = self.config.ledger_place
        with sqlite3.connect(place) as connection:
            return connection.execute(f"SELECT {columns} FROM usage WHERE {where}").fetchall()


@pytest.fixture
def running(serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path: Path) -> Iterator[Running]:
    """The server; a model's name has HTML in it."""
    config = Config(data_dir=str(tmp_path), models=tuple(ModelConfig(name=n) for n in (MODEL, BREAKPOINTS, HOSTILE)))
    keys = server.prepare(config)
    engine, prompts = FakeEngine(PrefixIndex(2**20)), PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
    interval, breakpoints = IntervalRules(Terms(SECRET)), BreakpointRules(Terms(SECRET))
    pipeline = Pipeline(
        [
            ServedModel(MODEL, "interval", engine, prompts, interval, 0),
            ServedModel(BREAKPOINTS, "breakpoint", engine, prompts, breakpoints, 0),
            ServedModel(HOSTILE, "interval", engine, prompts, interval, 0),
        ],
        SECRET,
    )
    accounts, store = Accounts(config, SECRET), server.open_store(config, keys)
    with serve(server.build_app(config, pipeline, keys, store, accounts)) as url:
        yield Running(url, config)
    asyncio.run(accounts.close())
    asyncio.run(store.close())


async def test_the_figures_are_the_ledgers(page: Page, running: Running) -> None:
    """Hit rate, money, times, the first cause, models and prefixes; every request counted, none twice."""
    for number in range(4):
        assert running.ask(f"{LONG} Question {number}").status_code == 200
    for number in range(3):
        running.ask(f"2026-11-23 10:0{number}:07 {LONG}")
    for number in range(2):
        running.ask(f"{LONG} Question {number}", BREAKPOINTS)
    running.ask(LONG, HOSTILE)
    assert running.ask("x", "unknown").status_code == 404
    await page.goto(f"{running.url}/dashboard?range=1h")
    await expect(page.locator("#requests")).to_have_text("11")
    ((input, cached, cost, uncached),) = running.rows("sum(input), sum(cached), sum(cost), sum(uncached_cost)")
    assert 0.2 < cached / input < 0.9
    await expect(page.locator("#hit-rate")).to_have_text(f"{cached / input:.1%}")
    await expect(page.locator("#hit-rate-tokens")).to_have_text(f"{int(cached):,} of {int(input):,} tokens")
    saved = Decimal(int(uncached) - int(cost)) / 10**12
    shown = (await page.locator("#saved").text_content() or "").replace("$", "")
    assert abs(Decimal(shown) - saved) <= abs(saved) * Decimal("0.001")
    await expect(page.locator("#unpriced")).to_contain_text("without 1 request that has no known price")
    await expect(page.locator("#requests-failed")).to_contain_text("1 failed")
    for warmth, where in (("warm", "cached > 0"), ("cold", "cached = 0")):
        exact = statistics.median_low([time for (time,) in running.rows("ttft", f"{where} AND ttft IS NOT NULL")])
        shown = await page.locator(f"#ttft-{warmth}").text_content() or ""
        number, unit = re.fullmatch(r"([\d.]+) (ms|s)", shown).groups()  # type: ignore[union-attr]
        assert float(number) * (0.001 if unit == "ms" else 1) == pytest.approx(exact, rel=0.03, abs=0.0006)
    changed = running.rows("missed", "cause = 'prefix_changed'")
    assert len(changed) == 3
    await expect(page.locator("#top-cause")).to_have_text("The beginning of the prompt changed")
    missed = sum(int(tokens) for (tokens,) in changed)
    await expect(page.locator("#top-cause-numbers")).to_have_text(f"3 requests, {missed:,} tokens")
    await expect(page.locator("#top-remedy")).to_contain_text("Move the timestamp behind")
    (of_model,) = running.rows("count(*), sum(input)", f"model = '{MODEL}'")
    row = page.locator(f'#group-panel tr[data-key="{MODEL}"]')
    await expect(row.locator('[data-column="requests"]')).to_have_text(str(of_model[0]))
    await expect(row.locator('[data-column="input"]')).to_have_text(f"{int(of_model[1]):,}")
    await expect(page.locator("#group-panel")).to_contain_text(HOSTILE)
    assert await page.locator("#group-panel b").count() == 0
    hits = page.locator('#engines [data-column="hits"]')
    assert "3" in await hits.all_text_contents()


async def test_an_administrator_signs_in(page: Page, running: Running) -> None:
    """Once there are keys, a plain one shows nothing, and an administrator's all."""
    keys = server.prepare(running.config)
    plain, admin = keys.create("app", "acme"), keys.create("root", admin=True)
    assert running.ask("hello", key=plain).status_code == 200
    await page.goto(f"{running.url}/dashboard?range=1h")
    await page.get_by_label("Admin key").fill(plain)
    await page.get_by_role("button", name="Show the figures").click()
    await expect(page.locator("#login-error")).to_contain_text("administrator")
    await page.get_by_label("Admin key").fill(admin)
    await page.get_by_role("button", name="Show the figures").click()
    await expect(page.locator("#requests")).to_have_text("1")
    await page.locator("#tab-keys").click()
    await expect(page.locator("#group-panel")).to_contain_text("app")
    assert admin not in await page.content()
