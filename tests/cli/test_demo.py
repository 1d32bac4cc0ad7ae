"""`headstart demo`: the table and what it says, without the minutes it takes; a server that doesn't start."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from headstart.cli.demo import Row, bars, explanation, snippet, table
from headstart.cli.process import ServerProcess
from headstart.errors import StartError

ROWS = [
    Row("1  a long prefix, cold", 4616, 0, 3.7, 4.2, Decimal("0.0019268"), "One."),
    Row("2  the same prefix again", 4812, 4736, 0.05, 0.6, Decimal("0.0005040"), "Two."),
    Row("3  a timestamp in front", 4824, 0, 3.8, 4.5, Decimal("0.0019296"), "Three."),
]


def printed(*things: object) -> str:
    """What a terminal of 80 columns shows."""
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        for thing in things:
            console.print(thing)
    return capture.get()


def test_what_is_shown() -> None:
    """The figures, the bars, and in words how much sooner and cheaper the second request was."""
    output = printed(table(ROWS), bars(ROWS), explanation(ROWS))
    assert "│ 2  the same prefix again │  4,812 │  4,736 │  50 ms │" in output
    assert "█" in output
    assert "74 times sooner, and its input costs 74% less" in output
    assert "OPENAI_BASE_URL=http://127.0.0.1:8000/v1" in output
    assert max(map(len, output.splitlines())) <= 80


def test_snippet_is_one_line() -> None:
    """An answer's beginning fits beside its question."""
    assert snippet("a\nb") == "a b"
    assert len(snippet("word " * 100)) <= 72


def test_server_that_does_not_start(tmp_path: Path) -> None:
    """What it last said is in the error, and nothing is left running."""
    process = ServerProcess(tmp_path, command=(sys.executable, "-c", "raise SystemExit('no memory')"))
    with pytest.raises(StartError, match=r"did not start\. It said:\nno memory"):
        list(process.starting())
    process.stop()


def test_server_that_will_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores the request to stop is stopped."""
    monkeypatch.setattr("headstart.cli.process.PATIENCE", 0.3)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = ServerProcess(tmp_path, command=(sys.executable, "-c", deaf))
    while not process.log.read_text():
        pass
    process.stop()
    process.stop()
    assert process.returncode == -9
