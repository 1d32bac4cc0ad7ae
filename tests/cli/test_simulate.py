"""`headstart simulate` as a person and a script meet it."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from tests.simulate.traces import line, random_chains, trace_of
from typer.testing import CliRunner

from headstart.cli.app import app
from headstart.cli.simulate import short, tokens_of, usual
from headstart.errors import StartError
from headstart.simulate.distances import Reuse
from headstart.simulate.replay import belady, hit_rate

runner = CliRunner(env={"COLUMNS": "80"})


@pytest.fixture
def lines() -> list[bytes]:
    """A small trace, of blocks of 128 tokens."""
    trace = trace_of(random_chains(random.Random(2), 400, most=7), block=128)
    return [
        line(trace.chain(number).tolist(), int(trace.lengths[number]), 1000.0 * number)
        for number in range(trace.requests)
    ]


def document(path: Path, *arguments: str, **how: bytes) -> dict[str, object]:
    """What `--json` prints."""
    result = runner.invoke(app, ["simulate", str(path), "--json", *arguments], **how)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    told: dict[str, object] = json.loads(result.stdout)
    return told


def test_json(tmp_path: Path, lines: list[bytes]) -> None:
    """Has the figures of the parts that it is made of; packed, or from standard input, too."""
    plain, packed = tmp_path / "trace.jsonl", tmp_path / "trace.gz"
    plain.write_bytes(b"".join(lines))
    packed.write_bytes(gzip.compress(b"".join(lines)))
    told = document(plain, "--block-tokens", "128", "--capacity", "5120")
    trace = trace_of(random_chains(random.Random(2), 400, most=7), block=128)
    assert told["by_capacity"] == [
        {
            "capacity_tokens": 5120,
            "lru": Reuse(trace).by_capacity([40])[0],
            "lfu-da": hit_rate("lfu-da", 40, trace),
            "density": hit_rate("density", 40, trace),
            "belady": belady(40, trace),
        }
    ]
    arguments = ("--block-tokens", "128", "--capacity", "5120")
    assert document(packed, *arguments) == told
    assert document(Path("-"), *arguments, input=b"".join(lines)) == told


def test_report(tmp_path: Path, lines: list[bytes]) -> None:
    """One screen of 80 columns: what the trace is, what was skipped, a row for each capacity."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join([*lines, b"[red]junk\n"]))
    result = runner.invoke(
        app, ["simulate", str(path), "--policy", "lru", "--policy", "belady", "--prefill-rate", "900"]
    )
    assert result.exit_code == 0, result.output
    assert "400 requests" in result.output
    assert "line 401 skipped" in result.output
    assert "Best possible" in result.output
    assert "machine hours" in result.output
    assert "Headstart" not in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert len(result.output.splitlines()) <= 24


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "can't be read: No such file"),
        ([__file__], "No request can be read: line 1"),
        ([__file__, "--policy", "fifo"], "use lru, lfu-da, density, belady"),
        ([__file__, "--capacity", "0"], "not a number of tokens"),
        ([__file__, "--capacity", "2GiB"], "not a number of tokens"),
    ],
)
def test_what_cannot_be_done(arguments: list[str], said: str) -> None:
    """Is told in a sentence that names what was wrong."""
    result = runner.invoke(app, ["simulate", *arguments])
    assert isinstance(result.exception, StartError)
    assert said in str(result.exception)


def test_damaged_file(tmp_path: Path, lines: list[bytes]) -> None:
    """A packed file that ends too early is an error, not half a trace."""
    path = tmp_path / "trace.gz"
    path.write_bytes(gzip.compress(b"".join(lines))[:-40])
    result = runner.invoke(app, ["simulate", str(path)])
    assert isinstance(result.exception, StartError)


def test_capacities() -> None:
    """As people write tokens, and round ones that reach as far as a larger cache helps."""
    assert [tokens_of(text) for text in ("500k", "2.6M", "1_000", "1G")] == [500_000, 2_600_000, 1_000, 10**9]
    assert [short(tokens) for tokens in (512, 500_000, 2_600_000, 10**9)] == ["512", "500 k", "2.6 M", "1 G"]
    assert usual(300, 128) == [200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000]
    assert usual(0, 512) == [1_000]
