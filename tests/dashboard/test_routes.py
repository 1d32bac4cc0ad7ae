"""The dashboard's routes on a whole server, without a browser: the page, its files, and its two documents."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.types import ASGIApp
from tests.api.books import BREAKPOINTS, MODEL, UNPRICED, Firm, OpenFirm, builder, firm, wait_for

import headstart
from headstart.config import LedgerConfig, ModelConfig
from headstart.dashboard.documents import OFF
from headstart.prompt.builder import PromptBuilder
from headstart.types import Usage, dollars

STATIC = Path(headstart.__file__).parent / "dashboard" / "static"
LONG = "alpha beta gamma delta epsilon " * 300
HOSTILE = "<img src=x onerror=alert(1)>\"'&"
ADMIN: dict[str, dict[str, Any]] = {"boss": {"admin": True, "organisation": "main"}, "ci": {"organisation": "acme"}}


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


@pytest.fixture(scope="module")
def idle(
    prompts: PromptBuilder,
    serve: Callable[[ASGIApp], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Firm]:
    """One of whom nobody asks for an answer."""
    with firm(serve, prompts, tmp_path_factory.mktemp("idle") / "data") as house:
        yield house


def data(house: Firm, range: str = "1h", name: str | None = None) -> Any:
    """The ledger's document."""
    answer = house.get(f"/dashboard/data?range={range}", name)
    assert answer.status_code == 200, answer.text
    return answer.json()


def live(house: Firm, name: str | None = None) -> Any:
    """The engines' document."""
    answer = house.get("/dashboard/live", name)
    assert answer.status_code == 200, answer.text
    return answer.json()


def raw(url: str, target: str) -> bytes:
    """The answer to a path that no client would send as it is."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


# -------------------------------------------------------------------------------------------------------------- files


def test_the_page_and_its_files(open_firm: OpenFirm) -> None:
    """For everybody, since they hold no figures; under a policy that lets nothing in from elsewhere."""
    with open_firm(ADMIN) as house:
        page = house.get("/dashboard")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
            assert rule in policy.split("; ")
        assert "script-src 'self' '" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
        for path in STATIC.iterdir():
            file = house.get(f"/dashboard/static/{path.name}")
            assert (file.status_code, file.content) == (200, path.read_bytes())
            if path.suffix in types:
                assert file.headers["content-type"].startswith(types[path.suffix])


@pytest.mark.parametrize(
    "path",
    [
        "../routes.py",
        "..%2froutes.py",
        "%2e%2e/routes.py",
        "..%5croutes.py",
        "../../../../../../../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "%00",
        "index.html%00.js",
        ".",
        "",
        "nothing.js",
        "x" * 5000,
    ],
    ids=range(13),
)
def test_no_other_file_is_served(idle: Firm, path: str) -> None:
    """Whatever the path is made of: 404, in OpenAI's shape."""
    answer = raw(idle.url, f"/dashboard/static/{path}")
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b'"unknown_url"' in answer
    assert b"root:" not in answer


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/data", "/dashboard/live", "/dashboard/static/app.js"])
def test_they_are_read_and_nothing_else(idle: Firm, path: str) -> None:
    """405 for another method."""
    answer = httpx2.post(idle.url + path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


# ------------------------------------------------------------------------------------------------------------ figures


def naive(rows: Iterable[Usage]) -> dict[str, Any]:
    """What a line of the document says of some rows."""
    rows = list(rows)
    priced = [row for row in rows if row.cost is not None]
    cost, uncached = (sum(getattr(row, name) for row in priced) for name in ("cost", "uncached_cost"))
    known = bool(cost or uncached) or len(priced) == len(rows) > 0
    figures: dict[str, Any] = {
        name: sum(getattr(row, name) for row in rows) for name in ("input", "cached", "written", "output", "missed")
    }
    timed = [row for row in rows if row.ttft is not None and row.cause != "below_minimum"]
    return figures | {
        "requests": len(rows),
        "warm": sum(row.warm for row in rows),
        "failed": sum(row.status not in ("completed", "incomplete") for row in rows),
        "priced": len(priced),
        "hit_rate": figures["cached"] / figures["input"] if figures["input"] else None,
        "cost": dollars(cost) if known else None,
        "uncached_cost": dollars(uncached) if known else None,
        "saved": dollars(uncached - cost) if known else None,
        "timed": [sum(row.warm for row in timed), sum(not row.warm for row in timed)],
    }


def shown(line: Any) -> dict[str, Any]:
    """The same of a line as it came."""
    kept = {name: line[name] for name in naive([]) if name != "timed"}
    return kept | {"timed": [line["ttft"]["warm"]["requests"], line["ttft"]["cold"]["requests"]]}


def spend(house: Firm) -> None:
    """A morning: three models, two keys, hits and misses, a refusal, a failure, somebody who goes away."""
    for name in ("boss", "ci"):
        for model in (MODEL, BREAKPOINTS, UNPRICED):
            for _ in range(2):
                house.ask(name, f"{model} {LONG}", model=model)
        for minute in (1, 2):
            house.ask(name, f"2026-11-23 10:0{minute}:00 {LONG}", instructions="Be brief.")
    with house.client("ci") as client:
        for model in (MODEL, UNPRICED):
            house.engine.capacity = 0
            with pytest.raises(Exception, match="429"):
                client.responses.create(model=model, input="Hello")
            house.engine.capacity, house.engine.fail_after = 64, 2
            with pytest.raises(Exception, match="500"):
                client.responses.create(model=model, input="Hello")
            house.engine.fail_after = None


def test_the_figures_are_the_rows(open_firm: OpenFirm) -> None:
    """Each line is a plain sum over the rows of its group, to the last digit of the dollars, in every range."""
    with open_firm(ADMIN) as house:
        spend(house)
        rows = house.rows()
        assert len(rows) == 20
        for range, grain in {"1h": 60, "6h": 60, "24h": 3600, "7d": 3600, "30d": 86_400}.items():
            document = data(house, range, "boss")
            assert document["grain"] == grain
            assert_agree(document, rows)


def assert_agree(document: Any, rows: list[Usage]) -> None:
    """A document says of all rows what they say."""
    assert shown(document["totals"]) == naive(rows)
    for group, name in (("models", "model"), ("organisations", "organisation"), ("keys", "key")):
        assert {line["value"] for line in document[group]} == {getattr(row, name) for row in rows}
        for line in document[group]:
            assert shown(line) == naive(row for row in rows if getattr(row, name) == line["value"])
    grain = document["grain"]
    for step in document["course"]:
        assert step["start"] % grain == 0
        assert shown(step) == naive(row for row in rows if step["start"] <= row.time < step["start"] + grain)
    assert sum(step["requests"] for step in document["course"]) == len(rows)
    assert document["ledger"] == {"failing": False, "waiting": 0, "lost": 0, "message": None}
    for cause in document["causes"]:
        of_cause = [row for row in rows if row.cause == cause["cause"]]
        assert (cause["requests"], cause["missed"]) == (len(of_cause), sum(row.missed for row in of_cause))
        latest = sorted(of_cause, key=lambda row: -row.time)[:3]
        assert [example["id"] for example in cause["examples"]] == [row.id for row in latest]
    changed = next(cause for cause in document["causes"] if cause["cause"] == "prefix_changed")
    assert changed["examples"][0]["kind"] == "timestamp"
    assert "timestamp" in changed["remedy"]


def test_a_model_without_a_price_costs_null(open_firm: OpenFirm) -> None:
    """Also where some of its requests were refused, and so cost nothing: never a 0 that looks like a price."""
    with open_firm() as house:
        house.ask(text=LONG, model=UNPRICED)
        house.engine.capacity = 0
        with pytest.raises(Exception, match="429"):
            house.ask(model=UNPRICED)
        (line,) = data(house)["models"]
        assert (line["requests"], line["cost"], line["uncached_cost"], line["saved"]) == (2, None, None, None)
        assert data(house)["totals"]["cost"] is None


def test_a_request_is_in_the_next_document(open_firm: OpenFirm) -> None:
    """Rows that wait are written first: who asks after an answer sees it."""
    with open_firm() as house:
        for number in range(1, 6):
            house.ask()
            wait_for(lambda: not house.accounts.meter.under_way)
            assert data(house)["totals"]["requests"] == number


def test_costs_have_no_exponent(open_firm: OpenFirm) -> None:
    """Decimal strings that anything can read."""
    with open_firm() as house:
        house.ask(most=1)
        cost = data(house)["totals"]["cost"]
        assert "E" not in cost.upper()
        assert Decimal(cost) * 10**12 == house.rows()[0].cost


@pytest.mark.parametrize("range", ["", "2h", "-1h", "24H", "1" * 4000, "<b>", "'; --"], ids=range(7))
def test_an_unknown_range(idle: Firm, range: str) -> None:
    """400, with what would be right, and no more than a bit of what was wrong."""
    answer = idle.get(f"/dashboard/data?range={range}")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "range")
    assert "1h, 6h, 24h, 7d, 30d" in error["message"]
    assert len(error["message"]) < 200


def test_a_day_is_shown_unless_another_range_is_asked_for(idle: Firm) -> None:
    """And it is shown by the hour."""
    document = idle.get("/dashboard/data").json()
    assert document["grain"] == 3600
    assert 23 * 3600 < document["now"] - document["since"] - 3600 < 24 * 3600


def test_without_a_ledger(open_firm: OpenFirm) -> None:
    """The same document without figures, which says why; what happens now is shown all the same."""
    with open_firm(ledger=LedgerConfig(enabled=False)) as house:
        house.ask()
        document = data(house)
        assert document["ledger"]["message"] == OFF
        assert document["totals"]["requests"] == 0
        assert document["totals"]["cost"] is None
        assert [document[name] for name in ("course", "models", "organisations", "keys", "causes")] == [[]] * 5
        assert house.get("/dashboard/data?range=2h").status_code == 400
        assert live(house)["engines"][0]["models"] == [MODEL, BREAKPOINTS, UNPRICED]
    with open_firm() as other:
        assert set(data(other)) == set(document)
        assert set(data(other)["totals"]) == set(document["totals"])


def test_a_ledger_whose_file_is_moved_away(open_firm: OpenFirm) -> None:
    """503 in OpenAI's shape, at once; the page and what happens now stay; with the file the figures come back."""
    with open_firm() as house:
        house.ask()
        house.quiet()
        (house.data / "usage.db").rename(house.data / "aside.db")
        house.ask()
        begun = time.perf_counter()
        answer = house.get("/dashboard/data")
        assert time.perf_counter() - begun < 3
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (503, "server_error")
        assert error["message"].startswith("The usage ledger can't be reached: the file usage.db was moved or removed")
        assert house.get("/dashboard").status_code == 200
        assert live(house)["requests"] == []
        (house.data / "aside.db").rename(house.data / "usage.db")
        assert house.ledger.flush(10)
        assert data(house)["totals"]["requests"] == 2


def test_a_ledger_that_only_writing_is_kept_from(open_firm: OpenFirm) -> None:
    """The figures there are, with the notice that some wait."""
    with open_firm() as house:
        house.ask()
        house.quiet()
        with house.ledger._database.write():
            house.ask()
            wait_for(lambda: house.ledger.state().waiting == 1)
            document = data(house)
            assert document["totals"]["requests"] == 1
            assert document["ledger"]["waiting"] == 1
        assert house.ledger.flush(10)
        assert data(house)["totals"]["requests"] == 2


# ---------------------------------------------------------------------------------------------------------------- now


def test_a_request_under_way(open_firm: OpenFirm) -> None:
    """Whose it is, how far it is, and since when; gone when it has ended."""
    with open_firm(ADMIN) as house:
        house.ask("ci", LONG)
        house.engine.delay, house.engine.output_tokens = 0.02, 100_000
        with house.client("ci") as client:
            stream = client.responses.create(model=MODEL, input=LONG, stream=True)
            id = next(iter(stream)).response.id  # type: ignore[union-attr]  # response.created
            wait_for(lambda: [one.output > 2 for one in house.accounts.meter.under_way] == [True])
            document = live(house, "boss")
            (one,) = document["requests"]
            assert (one["id"], one["model"], one["key"], one["organisation"]) == (id, MODEL, "ci", "acme")
            assert (one["endpoint"], one["state"]) == ("responses", "answering")
            assert one["cached"] > 1024
            assert one["input"] > one["cached"]
            assert one["output"] > 2
            assert 0.04 < one["elapsed"] < 10
            assert document["engines"][0]["running"] == 1
            assert LONG[:20] not in str(document)
            stream.close()
        wait_for(lambda: not house.accounts.meter.under_way)
        assert live(house, "boss")["requests"] == []


def test_prefixes(open_firm: OpenFirm) -> None:
    """What is cached, with its hits; its key is never the client's own."""
    with open_firm() as house:
        for _ in range(3):
            house.ask(text=LONG, prompt_cache_key="user-tangerine")
        (engine,) = live(house)["engines"]
        prefix = max(engine["prefixes"], key=lambda one: one["hits"])
        assert (prefix["hits"], prefix["start"], prefix["parent"]) == (2, 0, None)
        assert (prefix["model"], prefix["organisation"]) == (MODEL, "default")
        assert prefix["stop"] > 1024
        assert prefix["key"]
        assert prefix["key"] == house.rows()[0].cache_key
        assert "tangerine" not in str(engine)
        assert set(engine["tiers"]) == {"ram", "disk", "promised"}


def test_names_are_data(open_firm: OpenFirm) -> None:
    """HTML in the name of a key, an organisation or a model comes back as JSON, under JSON's type, and as it was."""
    keys: dict[str, dict[str, Any]] = {HOSTILE: {"admin": True, "organisation": HOSTILE[:60]}}
    with open_firm(keys, (ModelConfig(name=HOSTILE),)) as house:
        house.ask(HOSTILE, LONG, model=HOSTILE)
        for path in ("/dashboard/data?range=1h", "/dashboard/live"):
            answer = house.get(path, HOSTILE)
            assert answer.headers["content-type"] == "application/json"
            assert HOSTILE in answer.text.replace('\\"', '"')
        document = data(house, "1h", HOSTILE)
        for group in ("models", "organisations", "keys"):
            assert [line["value"] for line in document[group]] == [HOSTILE]
        assert live(house, HOSTILE)["engines"][0]["models"] == [HOSTILE]
