"""The parts composed: a real engine behind a real port, and what stops a start."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from headstart import models, server
from headstart.accounts import Accounts
from headstart.api.auth import KeyRing
from headstart.cli.process import ServerProcess
from headstart.config import Config, EngineConfig, ModelConfig, StoreConfig, load
from headstart.errors import StartError
from headstart.pipeline import Pipeline
from headstart.store.responses import Answered

INSTRUCTIONS = "Answer questions about machine learning with examples. " * 60
"""Well over 1,024 tokens in the tiny model's vocabulary."""


def app_of(config: Config, pipeline: Pipeline) -> Starlette:
    """The application of a server with this configuration."""
    keys, accounts = server.prepare(config), Accounts(config, b"")
    store = server.open_store(config, keys)
    return server.build_app(config, pipeline, keys, store, accounts)


@pytest.fixture(scope="module")
def url(
    tiny_path: Path, serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server of the tiny model under three names."""
    config = Config(
        data_dir=str(tmp_path_factory.mktemp("data")),
        models=(
            ModelConfig(name="gpt-4.1-mini", file=str(tiny_path)),
            ModelConfig(name="gpt-5.6", file=str(tiny_path), generation="breakpoint"),
            ModelConfig(name="other", file=str(tiny_path)),
        ),
        engine=EngineConfig(context_cells=16_384, max_sequences=4),
    )
    pipeline = server.build_pipeline(config, server.prepare(config))
    with serve(app_of(config, pipeline)) as address:
        yield f"{address}/v1"
    for engine in {id(model.engine): model.engine for model in pipeline.models.values()}.values():
        asyncio.run(engine.close())


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    """The SDK."""
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.contract("E1", note="over the wire, on the tiny model")
def test_the_tutorials_two_calls_hit(client: openai.OpenAI) -> None:
    """The second call reads the prefix, rounded down to 128."""
    usages = []
    for question in ("What is overfitting?", "What's regularization?"):
        response = client.responses.create(model="gpt-4.1-mini", input=INSTRUCTIONS + question, max_output_tokens=20)
        assert response.status in ("completed", "incomplete")
        usages.append(response.usage)
    cold, warm = usages
    assert cold is not None
    assert warm is not None
    assert cold.input_tokens_details.cached_tokens == 0
    shared = cold.input_tokens - 60
    assert shared - 128 < warm.input_tokens_details.cached_tokens <= cold.input_tokens
    assert warm.input_tokens_details.cached_tokens % 128 == 0


def test_both_endpoints_share_one_prefix(client: openai.OpenAI) -> None:
    """The same messages render the same prompt, whichever endpoint they come through."""
    system, user = "Both endpoints. " + INSTRUCTIONS, "And now?"
    client.responses.create(model="other", instructions=system, input=user, max_output_tokens=2)
    chat = client.chat.completions.create(
        model="other",
        messages=[{"role": "developer", "content": system}, {"role": "user", "content": user}],
        max_completion_tokens=2,
    )
    assert chat.usage is not None
    assert chat.usage.prompt_tokens_details is not None
    cached = chat.usage.prompt_tokens_details.cached_tokens
    assert cached is not None
    assert cached > chat.usage.prompt_tokens - 128


@pytest.mark.contract("W2")
def test_names_of_one_file_share_the_engine_and_no_prefix(client: openai.OpenAI) -> None:
    """docs/contract.md: the model is part of the namespace."""
    for model in ("gpt-4.1-mini", "other"):
        response = client.responses.create(model=model, input="Names. " + INSTRUCTIONS, max_output_tokens=2)
        assert response.usage is not None
        assert response.usage.input_tokens_details.cached_tokens == 0


@pytest.mark.contract("B10")
def test_streams_say_the_same(client: openai.OpenAI) -> None:
    """Greedy, streamed and not; usage on the last event."""
    options: dict[str, Any] = {"model": "gpt-4.1-mini", "input": "Tell me.", "temperature": 0, "max_output_tokens": 20}
    whole = client.responses.create(**options)
    text, usage = "", None
    for event in client.responses.create(**options, stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type in ("response.completed", "response.incomplete"):
            usage = event.response.usage
    assert text == whole.output_text
    assert usage == whole.usage


async def test_many_at_once_through_the_async_client(url: str) -> None:
    """Twelve on four sequences, all on one cold prefix: one prefills it, none waits for ever."""
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model="gpt-4.1-mini",
                    messages=[{"role": "user", "content": f"Burst. {INSTRUCTIONS} Reader {i}."}],
                    max_completion_tokens=3,
                )
                for i in range(12)
            )
        )
    details = [answer.usage.prompt_tokens_details for answer in answers if answer.usage]
    cached = sorted((detail.cached_tokens or 0) if detail else 0 for detail in details)
    assert cached[0] == 0
    assert all(tokens >= 1024 for tokens in cached[1:])


async def test_a_stream_that_is_left_frees_the_engine(url: str) -> None:
    """The client goes away in the middle."""
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", timeout=60) as client:
        stream = await client.responses.create(
            model="gpt-4.1-mini", input="Go on and on.", stream=True, max_output_tokens=10_000
        )
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
    for _ in range(100):
        (engine,) = httpx2.get(url.removesuffix("/v1") + "/health").json()["engines"]
        if not engine["running"] + engine["waiting"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the request still runs")


def test_json_of_a_schema(client: openai.OpenAI) -> None:
    """The SDK's own parser reads what a random model says under a grammar."""
    response = client.responses.create(
        model="gpt-4.1-mini",
        input="Yes or no?",
        max_output_tokens=300,
        text={
            "format": {
                "type": "json_schema",
                "name": "answer",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
                    "required": ["answer"],
                    "additionalProperties": False,
                },
            }
        },
    )
    assert response.output_text.replace(" ", "").replace("\n", "") in ('{"answer":"yes"}', '{"answer":"no"}')


def test_a_prompt_beyond_the_context_is_refused_and_the_next_is_served(client: openai.OpenAI) -> None:
    """400 with OpenAI's code, naming the parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-4.1-mini", input="word " * 30_000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "input"
    assert client.responses.create(model="gpt-4.1-mini", input="Hello.", max_output_tokens=2).usage


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_without_keys_only_this_machine_is_served(host: str, tmp_path: Path) -> None:
    """Refused at start, with the way out; with a key it may start."""
    config = Config(host=host, data_dir=str(tmp_path))
    with pytest.raises(StartError, match="headstart keys create"):
        server.prepare(config)
    server.KeyRing(tmp_path / server.KEYS_FILE).create("first", "org")
    assert server.prepare(config).required


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_keys(host: str, tmp_path: Path) -> None:
    """The default."""
    assert not server.prepare(Config(host=host, data_dir=str(tmp_path))).required


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """And refused where others can read it, or where it is damaged."""
    path = tmp_path / "secret"
    secret = server.load_secret(path)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.load_secret(path) == secret
    path.chmod(0o644)
    with pytest.raises(StartError, match="chmod 600"):
        server.load_secret(path)
    path.chmod(0o600)
    path.write_bytes(secret[:5])
    with pytest.raises(StartError, match="damaged"):
        server.load_secret(path)


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands there."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="--data-dir"):
        server.prepare(Config(data_dir=str(tmp_path / "file" / "data")))


@pytest.mark.parametrize("name", ["", "file.gguf", "owner/repo", "owner//file"])
def test_a_hub_name_without_a_file_is_refused(name: str) -> None:
    """`hf:OWNER/REPO/FILE`."""
    with pytest.raises(StartError, match="OWNER/REPO/FILE"):
        models.download(name)


def test_a_hub_out_of_reach_names_the_other_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real client, against an address where nothing answers."""
    script = f"""
import os
os.environ |= {{"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": {str(tmp_path)!r}, "HF_HUB_DOWNLOAD_TIMEOUT": "1"}}
from headstart.errors import StartError
from headstart.models import download
try:
    download("owner/repo/model.gguf")
except StartError as error:
    print(error)
"""
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert "--model FILE" in done.stdout, done.stderr


def test_one_file_is_served_under_both_generations(client: openai.OpenAI) -> None:
    """The same text: written to the token under the one, by 128 under the other, and shared between them never."""
    text = "Of two minds about caching. " + INSTRUCTIONS
    seen = []
    for model in ("gpt-5.6", "gpt-4.1-mini", "gpt-5.6", "gpt-4.1-mini"):
        response = client.responses.create(model=model, input=text, max_output_tokens=2)
        assert response.usage is not None
        details = response.usage.input_tokens_details
        seen.append((details.cached_tokens, details.cache_write_tokens))
    exact, rounded = seen[2][0], seen[3][0]
    assert seen == [(0, exact), (0, 0), (exact, 0), (rounded, 0)]
    assert rounded == exact // 128 * 128 >= 1024


@pytest.mark.contract("I10", "I11", "I12")
def test_what_is_promised_outlives_a_restart_and_in_memory_does_not(
    tiny_path: Path, serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path: Path
) -> None:
    """24h, which is the default, is read from disk by the next process; what is in memory is gone with it, and so is
    all of an organisation under zero data retention."""
    models_ = (ModelConfig(name="gpt-4.1-mini", file=str(tiny_path)), ModelConfig(name="m", file=str(tiny_path)))
    config = Config(data_dir=str(tmp_path), models=models_, engine=EngineConfig(context_cells=8192, disk_cache="1GiB"))
    headers: list[list[str]] = []
    for _ in range(2):
        pipeline = server.build_pipeline(config, server.prepare(config))
        with serve(app_of(config, pipeline)) as address:
            for model, retention in (("gpt-4.1-mini", "24h"), ("m", "in_memory"), ("gpt-4.1-mini", None)):
                body = {"model": model, "input": INSTRUCTIONS, "prompt_cache_retention": retention}
                answer = httpx2.post(f"{address}/v1/responses", json={**body, "max_output_tokens": 2})
                assert answer.json()["prompt_cache_retention"] == retention or "24h"
                headers.append([answer.headers["x-headstart-cache"], answer.json()["id"]])
            explained = httpx2.get(f"{address}/v1/responses/{headers[-3][1]}/cache").json()
        asyncio.run(server.close_engines(pipeline))
    first, memory, _, again, memory_again, _ = (header for header, _ in headers)
    assert first == memory == memory_again == "read=0; write=0; miss=first_request"
    assert again.startswith("read=1")
    assert explained["cached_from"]["disk"] == explained["cached_tokens"] > 0
    assert explained["write_refused"] is None


def test_a_write_that_cannot_be_promised_says_so(
    tiny_path: Path, serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path: Path
) -> None:
    """Served normally; in the header, the usage and the explanation."""
    served = (ModelConfig(name="gpt-5.6", file=str(tiny_path), generation="breakpoint"),)
    config = Config(data_dir=str(tmp_path), models=served, engine=EngineConfig(context_cells=8192, disk_cache="64K"))
    pipeline = server.build_pipeline(config, server.prepare(config))
    with serve(app_of(config, pipeline)) as address:
        answer = httpx2.post(f"{address}/v1/responses", json={"model": "gpt-5.6", "input": INSTRUCTIONS})
        explained = httpx2.get(f"{address}/v1/responses/{answer.json()['id']}/cache").json()
    asyncio.run(server.close_engines(pipeline))
    refused = explained["write_refused"]
    assert answer.json()["status"] == "completed"
    assert answer.json()["usage"]["input_tokens_details"]["cache_write_tokens"] == 0
    assert answer.headers["x-headstart-cache"] == f"read=0; write=0; refused={refused['tokens']}; miss=first_request"
    assert refused["reason"] == "refused"
    assert refused["tokens"] > 1024
    assert "--disk-cache" in refused["remedy"]


def test_a_disk_that_is_nearly_full_is_left_alone(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promises are then made in memory, not refused."""
    monkeypatch.setattr(server, "default_disk", lambda path, there: 0)
    served = (ModelConfig(name="m", file=str(tiny_path)),)
    engine = EngineConfig(context_cells=4096, ram_cache="1GiB")
    config = Config(data_dir=str(tmp_path), models=served, engine=engine)
    pipeline = server.build_pipeline(config, server.prepare(config))
    stats = pipeline.models["m"].engine.stats()
    asyncio.run(server.close_engines(pipeline))
    assert (stats.disk_budget, stats.promised_budget) == (0, 3 * 2**28)


def test_what_is_on_disk_of_other_models_counts(
    tiny_path: Path, serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path: Path
) -> None:
    """Another template, another type of keys and values: its blocks stay for their time, and leave less room."""
    served = (ModelConfig(name="m", file=str(tiny_path)),)
    budgets = []
    for kv_type in ("f16", "f32"):
        engine = EngineConfig(context_cells=4096, disk_cache="64MiB", kv_type=kv_type)  # type: ignore[arg-type]
        config = Config(data_dir=str(tmp_path), models=served, engine=engine)
        pipeline = server.build_pipeline(config, server.prepare(config))
        budgets.append(pipeline.models["m"].engine.stats().disk_budget)
        with serve(app_of(config, pipeline)) as address:
            body = {"model": "m", "input": INSTRUCTIONS, "max_output_tokens": 2}
            assert httpx2.post(f"{address}/v1/responses", json=body).json()["object"] == "response"
        asyncio.run(server.close_engines(pipeline))
    assert budgets[0] == 64 * 2**20
    assert 0 < budgets[0] - budgets[1] < 8 * 2**20


def test_a_second_process_on_one_data_directory_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    """It says what to do instead; without a disk cache there is nothing to quarrel about."""
    served = (ModelConfig(name="m", file=str(tiny_path)),)
    config = Config(data_dir=str(tmp_path), models=served, engine=EngineConfig(context_cells=4096, disk_cache="1GiB"))
    pipeline = server.build_pipeline(config, server.prepare(config))
    with pytest.raises(StartError, match="--data-dir"):
        server.build_pipeline(config, server.prepare(config))
    without = msgspec.structs.replace(config, engine=EngineConfig(context_cells=4096, disk_cache=0))
    asyncio.run(server.close_engines(server.build_pipeline(without, server.prepare(without))))
    asyncio.run(server.close_engines(pipeline))
    asyncio.run(server.close_engines(server.build_pipeline(config, server.prepare(config))))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("port = 'x'", "Expected `int`|Expected 'int'"),
        ("ports = 1", "unknown field 'ports'"),
        ("[engine]\nram_cache = '3 bananas'", "not a size"),
        ("[[models]]\nname = 'a'\n[[models]]\nname = 'a'", "each name once"),
        ("= 3", "not valid TOML"),
    ],
)
def test_a_configuration_error_names_its_place(toml: str, message: str, tmp_path: Path) -> None:
    """One line, without a traceback."""
    path = tmp_path / "headstart.toml"
    path.write_text(toml)
    with pytest.raises(StartError, match=message) as caught:
        load(path, {})
    assert str(path) in str(caught.value) or "models" in str(caught.value) or "bananas" in str(caught.value)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    """Field by field, also inside a section."""
    path = tmp_path / "headstart.toml"
    path.write_text("port = 9000\n[engine]\nmax_sequences = 3\nram_cache = '1GiB'")
    config = load(path, {"engine": {"ram_cache": "2GiB"}})
    assert (config.port, config.engine.max_sequences, config.engine.ram_cache) == (9000, 3, "2GiB")


@pytest.mark.parametrize(
    "toml",
    [
        "[store]\nmax_bytes = '1000KiB'",
        "[store]\ndays = 0",
        "[[organisations]]\nname = 'a'\n[[organisations]]\nname = 'a'",
        "[engine]\nkv_type = 'q8_0'",
        "[engine]\ncontext_cells = 99999999999",
        "max_body = 0",
        "[[models]]\nname = ''",
    ],
)
def test_a_setting_that_cannot_work_stops_the_start(toml: str, tmp_path: Path) -> None:
    """Before a model is loaded."""
    path = tmp_path / "headstart.toml"
    path.write_text(toml)
    with pytest.raises(StartError):
        load(path, {})


def test_a_port_in_use_is_named_before_anything_is_loaded() -> None:
    """One line that names the option."""
    with server.listen(Config(port=0)) as taken, pytest.raises(StartError, match="--port"):
        server.listen(Config(port=taken.getsockname()[1]))


def test_an_interrupt_ends_streams_with_an_error(tiny_path: Path, tmp_path: Path) -> None:
    """A client that is being answered learns that the server stops; the process leaves without a traceback."""
    (tmp_path / "headstart.toml").write_text(f"[[models]]\nname = 'm'\nfile = '{tiny_path}'\n")
    process = ServerProcess(tmp_path, "--config", str(tmp_path / "headstart.toml"))
    for _ in process.starting():
        pass
    ended = ""
    with openai.OpenAI(base_url=process.base_url, api_key="x", max_retries=0) as client:
        banned = {str(token): -100 for token in range(500, 512)}  # so that it doesn't end by itself
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Go on."}], stream=True, max_tokens=9000, logit_bias=banned
        )
        try:
            for number, _ in enumerate(stream):
                if number == 3:
                    os.kill(process._process.pid, signal.SIGINT)
        except openai.APIError as error:
            ended = str(error)
    process.stop()
    assert "shutting down" in ended
    assert "Traceback" not in process.log.read_text()


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    """The path, and why."""
    with pytest.raises(StartError, match="can't be read"):
        load(tmp_path / "none.toml", {})


def test_the_data_directory_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG, or the home directory."""
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert Config().data_path == Path("/x/headstart")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Config().data_path == Path(os.path.expanduser("~/.local/share/headstart"))


def test_a_stored_response_outlives_a_killed_server(tiny_path: Path, tmp_path: Path) -> None:
    """Who saw the end of an answer can go on from it, after whatever happened to the process."""
    (tmp_path / "headstart.toml").write_text(f"[[models]]\nname = 'm'\nfile = '{tiny_path}'\n[store]\ndefault = true\n")
    seen: list[Any] = []
    for turn in range(2):
        process = ServerProcess(tmp_path, "--config", str(tmp_path / "headstart.toml"))
        for _ in process.starting():
            pass
        with openai.OpenAI(base_url=process.base_url, api_key="x", max_retries=0) as client:
            previous = seen[-1].id if seen else None
            asked: dict[str, Any] = {"model": "m", "input": f"{turn}", "previous_response_id": previous}
            for event in client.responses.create(**asked, max_output_tokens=5, stream=True):
                if event.type in ("response.completed", "response.incomplete"):
                    os.kill(process._process.pid, signal.SIGKILL)
                    seen.append(event.response)
                    break
        process.stop()
    first, second = seen
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens + 5
    assert stat.S_IMODE((tmp_path / server.DATABASE_FILE).stat().st_mode) == 0o600


async def test_expired_responses_are_swept(tmp_path: Path) -> None:
    """When a server starts, and from then on; a database that is locked for a while stops nothing."""
    config = Config(data_dir=str(tmp_path), store=StoreConfig(days=1e-6, busy_timeout=0.1))
    store = server.open_store(config, server.prepare(config))
    await store.add(Answered("resp_1", "org", b"{}", (), ()))
    connection = sqlite3.connect(tmp_path / server.DATABASE_FILE, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    sweeping = asyncio.create_task(server.sweep(store, every=0.1))
    await asyncio.sleep(0.3)
    assert not sweeping.done()
    connection.execute("COMMIT")
    for _ in range(100):
        await asyncio.sleep(0.05)
        if connection.execute("SELECT count(*) FROM responses").fetchone() == (0,):
            break
    else:
        raise AssertionError("nothing was swept")
    sweeping.cancel()
    connection.close()
    await store.close()


def test_a_broken_database_stops_the_start(tmp_path: Path) -> None:
    """In one sentence that names it."""
    path = tmp_path / server.DATABASE_FILE
    path.write_text("not a database at all, but long enough to be looked at")
    path.chmod(0o600)
    with pytest.raises(StartError, match=str(path)):
        server.open_store(Config(data_dir=str(tmp_path)), KeyRing(tmp_path / "keys.json"))


def test_organisations_under_zero_data_retention(tmp_path: Path) -> None:
    """By name, from the configuration, or by one of their keys."""
    path = tmp_path / "headstart.toml"
    path.write_text("[[organisations]]\nname = 'a'\nzero_data_retention = true\n[[organisations]]\nname = 'b'\n")
    keys = KeyRing(tmp_path / "keys.json")
    private = server.private_organisations(load(path, {}), keys)
    assert set(private) == {"a"}
    keys.create("laptop", "c", zero_data_retention=True)
    assert set(private) == {"a", "c"}
    assert "b" not in private
