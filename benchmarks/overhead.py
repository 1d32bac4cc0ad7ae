"""Requests per second with the usage ledger on, against off: the whole server around an engine without a model.

python -m benchmarks.overhead [--rounds 12] [--json FILE]

Two servers run side by side, and rounds of requests go to one, then to the other, from a process of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx2
import uvicorn

from benchmarks.figure import Figure, run
from headstart import server
from headstart.accounts import Accounts
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules, Terms
from headstart.cli.process import free_port
from headstart.config import Config, LedgerConfig, ModelConfig
from headstart.engine.fake import FakeEngine
from headstart.pipeline import Pipeline, ServedModel
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer

MODEL = "gpt-4.1-mini"
REQUESTS = 800
"""Of a round."""
AT_ONCE = 8
BODY = json.dumps({"model": MODEL, "input": "What is overfitting?", "max_output_tokens": 16}).encode()


def serve(data: str, port: int, ledger: bool) -> None:
    """A server with the fake engine, until it is stopped."""
    config = Config(data_dir=data, port=port, models=(ModelConfig(name=MODEL),), ledger=LedgerConfig(enabled=ledger))
    prompts = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
    rules = IntervalRules(Terms(b"\0" * 32))
    pipeline = Pipeline([ServedModel(MODEL, "interval", FakeEngine(PrefixIndex(2**20)), prompts, rules, 0)])
    accounts = Accounts(config, b"\0" * 32)
    keys = server.prepare(config)
    app = server.build_app(config, pipeline, keys, server.open_store(config, keys), accounts)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


@contextmanager
def running(data: Path, ledger: bool) -> Iterator[str]:
    """Such a server as a process; its address."""
    data.mkdir()
    port = free_port()
    code = f"from benchmarks.overhead import serve; serve({str(data)!r}, {port}, {ledger})"
    process = subprocess.Popen([sys.executable, "-c", code])
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx2.get(f"{address}/health")
                break
            except httpx2.HTTPError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


async def load(address: str, requests: int) -> float:
    """Requests per second."""
    left = iter(range(requests))
    headers = {"content-type": "application/json"}

    async def client(http: httpx2.AsyncClient) -> None:
        for _ in left:
            answer = await http.post(f"{address}/v1/responses", content=BODY, headers=headers)
            assert answer.status_code == 200, answer.text

    async with httpx2.AsyncClient(timeout=30) as http:
        begun = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(AT_ONCE)))
        return requests / (time.perf_counter() - begun)


def measured(address: str) -> float:
    """The same, from a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (address,))


def _measured(address: str) -> float:
    return asyncio.run(load(address, REQUESTS))


def figures(arguments: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        with running(data / "on", True) as on, running(data / "off", False) as off:
            ratios, plain = [], []
            for address in (on, off):
                measured(address)
            for number in range(arguments.rounds):
                pair = (on, off) if number % 2 else (off, on)
                found = {address: measured(address) for address in pair}
                ratios.append(found[on] / found[off])
                plain.append(found[off])
            with httpx2.Client() as http:
                kept = http.get(f"{on}/dashboard/data?range=1h").json()["totals"]["requests"]
    expected = REQUESTS * (arguments.rounds + 1)
    assert kept == expected, f"{kept} rows of {expected} requests"
    spread = quantiles(ratios, n=4)
    parts = {
        "rounds": arguments.rounds,
        "quartiles": f"{spread[0]:.3f} to {spread[2]:.3f}",
        "requests per second without": round(median(plain)),
    }
    return [Figure("requests per second, ledger on / off", median(ratios), 0.95, at_least=True, parts=parts)]


if __name__ == "__main__":
    run(__doc__, figures, rounds={"type": int, "default": 12, "help": "pairs of rounds"})
