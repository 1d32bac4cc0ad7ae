"""Accounts of a whole server: its rows in the ledger, `/metrics`, and what happens when the ledger can't be written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp
from tests.api.books import BREAKPOINTS, MODEL, UNPRICED, Firm, OpenFirm, asked, builder, firm, wait_for

from headstart.accounts import Accounts
from headstart.cache.hashing import key_label
from headstart.config import Config, LedgerConfig, ModelConfig, PriceConfig
from headstart.errors import StartError
from headstart.prompt.builder import PromptBuilder
from headstart.types import PICO

LONG = "alpha beta gamma delta epsilon " * 300
FOR_ADMINISTRATORS = ("/metrics", "/dashboard/data", "/dashboard/live")
ADMIN: dict[str, dict[str, Any]] = {"boss": {"admin": True}, "ci": {"organisation": "acme"}}


@pytest.fixture(scope="module")
def prompts() -> PromptBuilder:
    """What renders the prompts."""
    return builder()


@pytest.fixture
def open_firm(
    prompts: PromptBuilder, serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path: Path
) -> OpenFirm:
    """What starts a whole server, on the test's own data directory."""
    return partial(firm, serve, prompts, tmp_path / "data")


def metrics(house: Firm, name: str | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    """What Prometheus would read: numbers by their names, and the values of their labels in these' order."""
    answer = house.get("/metrics", name)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {
        (s.name, tuple(value for _, value in sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


def busy(house: Firm, name: str = "") -> None:
    """Requests of all sorts."""
    for model in (MODEL, BREAKPOINTS, UNPRICED):
        for _ in range(2):
            house.ask(name, f"{model} {LONG}", model=model)
    with house.client(name) as client:
        for _ in client.responses.create(model=MODEL, input="Hello", stream=True):
            pass
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model=UNPRICED, input="word " * 40_000)
        house.engine.fail_after = 1
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=UNPRICED, messages=[{"role": "user", "content": "Hello"}])
        house.engine.fail_after = None


def test_administrators_alone(open_firm: OpenFirm) -> None:
    """With keys: 401 without one, 403 with a plain one, both in OpenAI's shape."""
    with open_firm(ADMIN) as house:
        for path in FOR_ADMINISTRATORS:
            answers = [house.get(path), house.get(path, authorization="Bearer sk-wrong"), house.get(path, "ci")]
            codes = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
            assert codes == [(401, "invalid_api_key"), (401, "invalid_api_key"), (403, "insufficient_permissions")]
            assert "headstart keys create NAME --admin" in answers[2].json()["error"]["message"]
            assert house.get(path, "boss").status_code == 200


def test_without_keys_this_machine_alone(open_firm: OpenFirm) -> None:
    """No page of another host that a browser here has open, nor a name that was made to lead here."""
    with open_firm() as house:
        for path in FOR_ADMINISTRATORS:
            assert house.get(path).status_code == 200
            assert house.get(path, origin="http://localhost:3000").status_code == 200
            assert house.get(path, origin="https://evil.example").status_code == 401
            assert house.get(path, host="evil.example").status_code == 401


def test_metrics_and_ledger_agree(open_firm: OpenFirm) -> None:
    """Both are the sums of the same rows."""
    with open_firm(ADMIN) as house:
        busy(house, "ci")
        rows, numbers = house.rows(), metrics(house, "boss")
        assert len(rows) == 9
        for model in (MODEL, BREAKPOINTS, UNPRICED):
            of_model = [row for row in rows if row.model == model]
            for name, figure in {
                "headstart_input_tokens_total": sum(row.input for row in of_model),
                "headstart_cached_tokens_total": sum(row.cached for row in of_model),
                "headstart_output_tokens_total": sum(row.output for row in of_model),
            }.items():
                assert numbers[name, (model,)] == figure, (name, model)
        for row in rows:
            alike = [r for r in rows if (r.model, r.endpoint, r.status) == (row.model, row.endpoint, row.status)]
            assert numbers["headstart_requests_total", (row.endpoint, row.model, row.status)] == len(alike)
        assert sorted({row.status for row in rows}) == ["completed", "failed", "incomplete", "refused"]
        assert numbers["headstart_requests_under_way", ()] == 0
        assert {(row.organisation, row.key) for row in rows} == {("acme", "ci")}


def test_the_format_that_is_asked_for(open_firm: OpenFirm) -> None:
    """Prometheus' text, and OpenMetrics for who accepts it."""
    with open_firm() as house:
        assert house.get("/metrics").headers["content-type"].startswith("text/plain")
        answer = house.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("kept", ["hashed", "plain"])
def test_cache_keys(open_firm: OpenFirm, kept: Any) -> None:
    """A client's key is hashed with the deployment's secret, and nowhere in the files; unless told otherwise."""
    with open_firm(ledger=LedgerConfig(cache_keys=kept)) as house:
        house.ask(prompt_cache_key="user-tangerine")
        house.ask(prompt_cache_key="user-tangerine")
        house.ask(prompt_cache_key="user-clementine")
        house.ask()
        one, same, other, none = [row.cache_key for row in house.rows()]
        assert none is None
        assert one == same != other
        label = key_label((house.data / "secret").read_bytes(), "user-tangerine")
        assert one == ("user-tangerine" if kept == "plain" else label)
    files = b"".join(path.read_bytes() for path in (house.data).glob("usage.db*"))
    assert (b"tangerine" in files) == (kept == "plain")


def test_nothing_of_a_prompt_is_in_the_ledger(open_firm: OpenFirm) -> None:
    """Nor of an answer: counts, times and costs."""
    with open_firm() as house:
        house.engine.answer = "mandarin mandarin"
        for place in "ab":
            house.ask(text=f"{place} tangerine {LONG}", instructions="clementine")
        assert house.rows()[-1].cause == "prefix_changed"
    files = b"".join(path.read_bytes() for path in house.data.iterdir() if path.is_file())
    for word in (b"tangerine", b"clementine", b"mandarin", b"alpha"):
        assert word not in files


def test_without_a_ledger(open_firm: OpenFirm) -> None:
    """Metrics go on, and nothing is written."""
    with open_firm(ledger=LedgerConfig(enabled=False)) as house:
        assert house.accounts.ledger is None
        house.ask()
        numbers = metrics(house)
        assert numbers["headstart_requests_total", ("responses", MODEL, "incomplete")] == 1
        assert not [name for name, _ in numbers if "ledger" in name]
    assert not list(house.data.glob("usage.db*"))


def test_the_end_writes_what_waits(open_firm: OpenFirm) -> None:
    """The rows of the last moment are there after a restart."""
    with open_firm() as house:
        for _ in range(3):
            house.ask()
    with open_firm() as again:
        assert len(again.rows()) == 3


def test_two_servers_on_one_ledger_add_up(open_firm: OpenFirm) -> None:
    """The rows of both, and their sums."""
    with open_firm(ADMIN) as one, open_firm(ADMIN) as two:
        two.keys.update(one.keys)

        async def all_of_them() -> None:
            async def send(house: Firm) -> None:
                headers = {"authorization": f"Bearer {house.keys['ci']}"}
                async with httpx2.AsyncClient(base_url=house.url, headers=headers, timeout=20) as http:
                    for _ in range(10):
                        assert (await http.post("/v1/responses", json=asked("responses", most=2))).status_code == 200

            await asyncio.gather(*(send(house) for house in (one, two, one, two)))

        asyncio.run(all_of_them())
        one.quiet()
        rows = two.rows()
        assert len(rows) == len({row.id for row in rows}) == 40
        totals = [house.get("/dashboard/data?range=1h", "boss").json()["totals"] for house in (one, two)]
        assert totals[0] == totals[1]
        assert (totals[0]["requests"], totals[0]["input"]) == (40, sum(row.input for row in rows))
        counts = [
            metrics(h, "boss")["headstart_requests_total", ("responses", MODEL, "incomplete")] for h in (one, two)
        ]
        assert counts == [20, 20], "each server's metrics are its own"


def test_a_ledger_that_goes_away_and_returns(open_firm: OpenFirm) -> None:
    """Answers are given all the same; `/metrics` says that it fails, and what waited is written in the end."""
    with open_firm() as house:
        house.ask()
        house.quiet()
        aside = house.data / "aside.db"
        (house.data / "usage.db").rename(aside)
        for _ in range(3):
            assert house.ask().output_text
        wait_for(lambda: house.ledger.state().failing is not None)
        numbers = metrics(house)
        assert numbers["headstart_ledger_waiting_rows", ()] == 3
        assert numbers["headstart_ledger_failing", ()] == 1
        aside.rename(house.data / "usage.db")
        assert len(house.rows()) == 4
        numbers = metrics(house)
        assert numbers["headstart_ledger_waiting_rows", ()] == 0
        assert numbers["headstart_ledger_failing", ()] == 0


def test_prices_of_ones_own(open_firm: OpenFirm) -> None:
    """By the token, like another's, and none; `GET …/cache` says what each cost."""
    own = PriceConfig(input=Decimal(2), output=Decimal(10))
    models = (
        ModelConfig(name="own", price=own),
        ModelConfig(name="like", price=PriceConfig(like=MODEL)),
        ModelConfig(name=UNPRICED),
    )
    with open_firm(models=models) as house:
        for model in ("own", "like", UNPRICED):
            house.ask(text=LONG, model=model)
        rows = house.rows()
        own_row, like_row, none_row = rows
        assert own_row.cost == own_row.input * 2_000_000 + own_row.output * 10_000_000
        assert like_row.cost == like_row.input * 400_000 + like_row.output * 1_600_000
        assert none_row.cost is None
        costs = [house.get(f"/v1/responses/{row.id}/cache").json()["cost"] for row in rows]
        assert [cost and round(float(cost["dollars"]) * PICO) for cost in costs] == [row.cost for row in rows]


def test_zero_data_retention_by_a_key(open_firm: OpenFirm) -> None:
    """Its organisation's responses are not stored, and live in memory; its rows hold counts as everybody's do."""
    keys: dict[str, dict[str, Any]] = {
        "private": {"organisation": "clinic", "zero_data_retention": True},
        "beside": {"organisation": "clinic"},
        "other": {"organisation": "acme"},
    }
    with open_firm(keys) as house:
        for name, kept in (("private", False), ("beside", False), ("other", True)):
            answer = house.ask(name, store=True, prompt_cache_key="a patient")
            assert answer.prompt_cache_retention == ("24h" if kept else "in_memory")
            assert house.get(f"/v1/responses/{answer.id}", name).status_code == (200 if kept else 404)
        rows = house.rows()
        assert [row.organisation for row in rows] == ["clinic", "clinic", "acme"]
        assert [(row.cache_key is None, row.path is None) for row in rows[:2]] == [(True, True)] * 2
        assert rows[2].cache_key not in (None, "a patient")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"models": (ModelConfig(name="a", price=PriceConfig(like="gpt-nobody")),)}, "gpt-nobody"),
        ({"ledger": LedgerConfig(url="mysql://somewhere/db")}, "postgresql://"),
    ],
)
def test_what_stops_a_start(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """A price and a database that can't be used, each with the reason."""
    with pytest.raises(StartError, match=message):
        Accounts(Config(data_dir=str(tmp_path), **config), b"")
