"""`headstart demo`: the table and what it says, without the minutes it takes; a server that doesn't start."""

from __future__ import annotations

import ast
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from headstart.cli.demo import Bill, Row, bars, command, explanation, reason, receipt, snippet, table
from headstart.cli.process import ServerProcess
from headstart.cli.tutorial import INSTRUCTIONS, LONG_PREFIX, QUESTIONS
from headstart.errors import StartError

EXPLAINED = {
    "miss": {"cause": "prefix_changed", "tokens": 4736, "remedy": "Move the timestamp to the end of the prompt."},
    "parting": {"token": 3, "path": "input", "offset": 0, "kind": "timestamp", "value": {"start": 0, "stop": 19}},
}
WHY = reason(EXPLAINED)
ROWS = [
    Row("1  a long prefix, cold", 4616, 0, 3.7, 4.2, Decimal("0.0019268"), "One."),
    Row("2  the same prefix again", 4812, 4736, 0.05, 0.6, Decimal("0.0005040"), "Two."),
    Row("3  a timestamp in front", 4824, 0, 3.8, 4.5, Decimal("0.0019296"), "Three.", WHY),
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
    assert "  prefix changed, by the timestamp in 'input', characters 0 to 19. Move the" in output
    assert "OPENAI_BASE_URL=http://127.0.0.1:8000/v1" in output
    assert max(map(len, output.splitlines())) <= 80


def test_what_it_cost() -> None:
    """Exactly, beside what it would have cost, and where the dashboard is; who only reads it is told where one stays
    up."""
    bill = Bill(Decimal("0.0023808"), Decimal("0.0037248"))
    watched, unwatched = (printed(receipt(bill, "http://127.0.0.1:4711", there)) for there in (True, False))
    for output in (watched, unwatched):
        assert "cost $0.0023808, answers included" in output
        assert "would have cost $0.0037248: 36% saved." in output
        assert "http://127.0.0.1:4711/dashboard" in output
        assert max(map(len, output.splitlines())) <= 80
    assert "gone with this demo" in unwatched
    assert "gone" not in watched
    assert "cost" not in printed(receipt(None, "http://127.0.0.1:4711", True))


def test_commands_run_as_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From a `.venv` that isn't on PATH with its path, else by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/headstart", "demo"])
    assert command() == ".venv/bin/headstart"
    assert "  .venv/bin/headstart bench" in printed(explanation(ROWS))
    assert max(map(len, printed(explanation(ROWS)).splitlines())) <= 80
    monkeypatch.setenv("PATH", f"/usr/bin:{tmp_path}/.venv/bin")
    assert command() == "headstart"
    monkeypatch.setattr(sys, "argv", ["/a b/.venv/bin/headstart", "demo"])
    assert command() == "'/a b/.venv/bin/headstart'"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/headstart", "demo"])
    assert command() == "headstart"


def test_example_is_the_same() -> None:
    """`examples/tutorial.py` sends the same prompts."""
    tree = ast.parse((Path(__file__).parents[2] / "examples" / "tutorial.py").read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert INSTRUCTIONS in texts
    assert LONG_PREFIX == INSTRUCTIONS * 200
    assert {200, *QUESTIONS[:2]} <= set(texts)


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    """A data directory that takes no file."""
    with pytest.raises(StartError, match=r"server\.log can't be written: No such file"):
        ServerProcess(tmp_path / "gone")


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
