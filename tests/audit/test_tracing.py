"""A log as a trace: what an unbounded LRU reads of it is what the replay reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.audit.call import Call
from headstart.audit.logs import read
from headstart.audit.replay import Prompts, Replay
from headstart.audit.tracing import trace_of
from headstart.cli.app import app
from headstart.simulate.distances import Reuse

LOG = Path(__file__).parents[2] / "examples" / "pitfalls" / "3-answers-are-not-cached.jsonl"


def test_an_unbounded_cache_reads_what_the_replay_reads() -> None:
    """Interval models read whole blocks from 1,024 tokens on; these prompts share more than that."""
    trace, replay = trace_of(read(LOG)), Replay(Prompts())
    reads = [replay.take(call).read for call in read(LOG) if isinstance(call, Call)]
    assert trace.requests == 16
    assert Reuse(trace).unbounded == pytest.approx(sum(reads) / trace.input)


def test_simulate_takes_a_log() -> None:
    """As it takes a trace."""
    result = CliRunner().invoke(app, ["simulate", str(LOG), "--json", "--capacity", "100k"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["requests"], told["block_tokens"]) == (16, 128)
    assert told["by_capacity"][0]["lru"] == pytest.approx(told["unbounded"])


def test_a_log_without_requests() -> None:
    """It says why, as for the audit."""
    with pytest.raises(ValueError, match="there is none"):
        trace_of([])
