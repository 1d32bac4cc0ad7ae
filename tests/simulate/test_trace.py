"""Traces as they come: three formats, block sizes found out, lines that can't be read."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulate.traces import line

from headstart.simulate import trace as traces
from headstart.simulate.trace import read


def test_mooncake() -> None:
    """Milliseconds from the first request on, and blocks of 512 tokens."""
    trace = read([line([0, 1, 2], 1030, 27_000), line([0, 1, 3, 4], 2048, 30_500)])
    assert (trace.block, trace.requests, trace.distinct, trace.input) == (512, 2, 5, 3078)
    assert trace.times.tolist() == [0.0, 3.5]
    assert trace.chain(1).tolist() == [0, 1, 3, 4]
    assert trace.weights.tolist() == [512, 512, 6, 512, 512, 512, 512]


def test_bailian() -> None:
    """Seconds, and blocks of 16 tokens."""
    more = {"chat_id": 159, "parent_chat_id": -1, "type": "text", "turn": 1}
    trace = read([line([7, 8], 30, 61.5, **more), line([7, 8, 9], 41, 63.0, **more)])
    assert (trace.block, trace.times.tolist()) == (16, [0.0, 1.5])


def test_ids_may_be_texts() -> None:
    """As a tool of one's own writes them."""
    assert read([line(["a", "b"], 256), line(["a"], 128)]).chain(1).tolist() == [0]


def test_only_whole_blocks() -> None:
    """A trace that leaves out the last block of a prompt, if it isn't full, is understood."""
    assert read([line([0, 1], 300), line([0, 1, 2], 390), line([0], 250)]).block == 128


def test_lines_that_cannot_be_read() -> None:
    """Are counted, the first of them with their number and reason; the others are read."""
    bad = [b"\x00\xff\xfe junk\n", b"{}\n", line([1], 0), line([1, 1], 256), b"\n", line([1], 5, -1e400), b"[" * 9_000]
    trace = read([line([1, 2], 256), *bad, line([1, 3], 256)])
    assert (trace.requests, trace.skipped, len(trace.examples)) == (2, 6, traces.MOST_SHOWN)
    assert trace.examples[0].line == 2
    assert "missing required field" in trace.examples[1].reason
    assert "twice" in trace.examples[3].reason


def test_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not even decoded."""
    monkeypatch.setattr(traces, "MOST_LINE", 100)
    trace = read([line([1], 128), line(list(range(100)), 12_800)])
    assert "at most 100" in trace.examples[0].reason


@pytest.mark.parametrize("lines", [[], [b"\n"], [b"no json"]])
def test_nothing_to_read(lines: list[bytes]) -> None:
    """Is an error, which says why."""
    with pytest.raises(ValueError, match="No request can be read"):
        read(lines)


def test_blocks_of_no_size() -> None:
    """If it can't be told what a block has, one is asked."""
    lines = [line([0, 1], 90_000), line([2, 3, 4], 5), line([], 77)]
    with pytest.raises(ValueError, match="--block-tokens"):
        read(lines)
    assert read(lines, block=4096).block == 4096


def test_out_of_order() -> None:
    """Requests are sorted by their times, with their blocks, and it is told."""
    trace = read([line([0, 1], 200, 5_000), line([0], 100, 1_000), line([0, 2, 3], 300, 5_000)], block=128)
    assert (trace.shuffled, trace.times.tolist(), trace.lengths.tolist()) == (1, [0.0, 4.0, 4.0], [100, 200, 300])
    assert [trace.chain(number).tolist() for number in range(3)] == [[0], [0, 1], [0, 2, 3]]
    assert np.all(np.diff(trace.starts) == [1, 2, 3])
