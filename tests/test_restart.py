"""A served model that is stopped, killed and started again: what was promised is read, and every answer is right."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx2
import pytest
from tests.engine.plain_model import write_plain_model

from headstart.cli.process import ServerProcess, free_port

KILLS = 5
TEXTS = tuple(
    f"Subject {number}: " + f"what a model of kind {number} learns from examples. " * 70 for number in range(8)
)


TIE = 0.2
"""Two tokens whose log-probabilities differ by less are as good as equal: llama.cpp rounds (`test_embedded.TOLERANCE`),
and even without any cache the same prompt may be answered by either."""


class Token(NamedTuple):
    """One of an answer: its log-probability, and how far the next one is behind it."""

    text: str
    logprob: float
    ahead: float


class Answer(NamedTuple):
    """What was said, and the tokens of the prompt that were read and those that could be."""

    tokens: tuple[Token, ...]
    read: int
    longest: int

    def agrees(self, right: Answer) -> bool:
        """Whether it is the same, up to the first tie."""
        for ours, theirs in zip(self.tokens, right.tokens, strict=False):
            if ours.text != theirs.text:
                return theirs.ahead < TIE
            if abs(ours.logprob - theirs.logprob) > TIE:
                return False
        return bool(self.tokens)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory and its configuration."""
    model = tmp_path / "plain.gguf"
    write_plain_model(model)
    (tmp_path / "headstart.toml").write_text(
        f"[[models]]\nname = 'm'\nfile = '{model}'\n[engine]\nkv_type = 'f32'\nmax_sequences = 4\n"
        "context_cells = 12288\nhot_cells = 4096\nram_cache = '256MiB'\ndisk_cache = '512MiB'\n"
    )
    return tmp_path


@contextmanager
def served(data: Path) -> Iterator[ServerProcess]:
    """One run of a server, which ends without a traceback."""
    process = ServerProcess(data, "--config", str(data / "headstart.toml"))
    try:
        for _ in process.starting():
            pass
        yield process
    finally:
        process.stop()
    log = process.log.read_text()
    assert "Traceback" not in log
    assert "WARNING" not in log
    assert "ERROR" not in log


async def ask(process: ServerProcess, text: str, key: str = "") -> Answer | None:
    """One request; None if the server is gone before it is answered. Under a key of its own it finds nothing."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0}
    body |= {"max_completion_tokens": 8, "logprobs": True, "top_logprobs": 2, "prompt_cache_retention": "24h"}
    body |= {"prompt_cache_key": key, "prompt_cache_retention": "in_memory"} if key else {}
    async with httpx2.AsyncClient(timeout=60, verify=False) as client:
        try:
            response = await client.post(f"{process.base_url}/chat/completions", json=body)
        except httpx2.HTTPError:
            return None
    if response.status_code != 200:
        return None
    answer = response.json()
    usage, tokens = answer["usage"], []
    for token in answer["choices"][0]["logprobs"]["content"]:
        first, second = (each["logprob"] for each in token["top_logprobs"])
        tokens.append(Token(token["token"], first, first - second))
    longest = usage["prompt_tokens"] // 128 * 128
    return Answer(tuple(tokens), usage["prompt_tokens_details"]["cached_tokens"], longest)


async def ask_all(process: ServerProcess, kill: tuple[int, float] | None = None) -> list[Answer | None]:
    """All at once; the server is killed so many answers and seconds later."""
    asking = [asyncio.create_task(ask(process, text)) for text in TEXTS]
    if kill is not None:
        answers, seconds = kill
        for _, one in zip(range(answers), asyncio.as_completed(asking), strict=False):
            await one
        await asyncio.sleep(seconds)
        os.kill(process._process.pid, signal.SIGKILL)
    return list(await asyncio.gather(*asking))


async def right_answers(process: ServerProcess) -> dict[str, Answer]:
    """What is said to each without a cache."""
    answers = {text: await ask(process, text, key=f"alone-{number}") for number, text in enumerate(TEXTS)}
    assert all(answer is not None and not answer.read for answer in answers.values())
    return {text: answer for text, answer in answers.items() if answer is not None}


@pytest.mark.contract("I10", "I11", note="killed at any instant")
def test_killed_at_any_instant(data: Path) -> None:
    """Five times, while all that is asked for is to be kept for a day: every start works, what was read once is read
    again, and whoever was answered was answered right."""
    random, runs = Random(4), list[list[Answer | None]]()
    for _ in range(KILLS):
        with served(data) as process:
            kill = random.randrange(len(TEXTS)), random.uniform(0.0, 0.2)
            runs.append(asyncio.run(ask_all(process, kill)))
    with served(data) as process:
        runs.append(asyncio.run(ask_all(process)))
        right = asyncio.run(right_answers(process))
    alike = [right[one].agrees(right[other]) for one, other in combinations(TEXTS, 2)]
    assert sum(alike) < 0.3 * len(alike), f"{sum(alike)} of {len(alike)}: a comparison would show nothing"
    for text, answers in zip(TEXTS, zip(*runs, strict=True), strict=True):
        given = [answer for answer in answers if answer is not None]
        assert given
        assert all(answer.agrees(right[text]) for answer in given)
        reads = [answer.read for answer in given]
        assert reads == sorted(reads), "it had been promised"
    answered = sum(answer is not None for answers in runs[:-1] for answer in answers)
    read = [answer.read for answer in runs[-1] if answer is not None]
    print(f"{answered} of {KILLS * len(TEXTS)} were answered before the kill; then {read} tokens were read")
    assert 0 < answered < KILLS * len(TEXTS)
    assert any(read), "something had reached the disk"


@pytest.mark.contract("I10", "I11", note="stopped as an operator stops it")
def test_a_server_that_is_stopped_keeps_all_it_promised(data: Path) -> None:
    """Right behind the last answer, with nothing waited for."""
    with served(data) as process:
        first = asyncio.run(ask_all(process))
        process.stop()
        assert process.returncode == -signal.SIGTERM, "in time; uvicorn ends by the signal once all is done"
    with served(data) as process:
        for before, after in zip(first, asyncio.run(ask_all(process)), strict=True):
            assert before is not None
            assert after is not None
            assert after.agrees(before)
            assert after.read == after.longest


def test_a_second_server_on_the_same_data_is_refused(data: Path) -> None:
    """With what to do, and the first one goes on."""
    with served(data) as process:
        command = [sys.executable, "-m", "headstart", "serve", "--config", str(data / "headstart.toml")]
        options = ["--port", str(free_port()), "--data-dir", str(data)]
        second = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 2
        said = " ".join(second.stderr.split())
        assert "is in use by process" in said
        assert "--data-dir" in said
        assert "Traceback" not in said
        assert asyncio.run(ask(process, TEXTS[0])) is not None
