"""`headstart cache`, on caches that the disk tier wrote, with a server beside it and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import headstart.cli.cache
from headstart.cache.hashing import key_label
from headstart.cli.app import app
from headstart.cli.cache_report import SHOWN_GROUPS
from headstart.cli.figures import duration, harmless, iso, size
from headstart.engine.blocks.directory import CacheDirectory
from headstart.engine.blocks.listing import Listing, lock
from headstart.errors import StartError
from headstart.types import Lifetime, Namespace, StoredBlock

DAY = Lifetime(86_400.0, promised=True)
HALF = Lifetime(1800.0, promised=True)
MEMORY = Lifetime(600.0, 3600.0)
SECRET = b"s" * 32
SIZE = 2048
"""Bytes of every block."""
BLOCKS = 35
"""What the cache of most tests holds: 10 of acme's under a key, 8 without, 9 of another organisation, 8 expired."""
HOSTILE = "evil\n\x1b[31mred\x1b]0;title\x07\u202e\x9b2J"

ACME = Namespace("acme", "gpt-4.1-mini", "interval", key_label(SECRET, "tutor"))
ACME_TOO = Namespace("acme", "gpt-5.6", "breakpoint", None)
OTHER = Namespace("[red]x", "gpt-5.6", "breakpoint", None)

SERVER = """
import sys, threading, time
from pathlib import Path
from headstart.engine.blocks.directory import CacheDirectory

directory = CacheDirectory(Path(sys.argv[1]))
tier = directory.tier(b"model", description="demo.gguf")
blocks = tier.load()
tier.publish({
    "context_cells": 32768, "context_cells_used": 8192, "ram_blocks": 7, "ram_bytes": 3 * 2**29, "ram_budget": 2**31,
    "disk_budget": 2**40, "promised_bytes": 2**30, "promised_budget": 2**32, "tokens_refused": 128, "odd": "text",
})
print("ready", flush=True)
ended = threading.Thread(target=sys.stdin.read)
ended.start()
while ended.is_alive():
    for command in tier.commands():
        tier.remove([block.digest for block in blocks if command.owns(block.owner)])
    time.sleep(0.02)
directory.close()
"""
"""A process that uses the cache as a server does."""


def fill(data: Path, *prompts: tuple[Namespace, int, Lifetime, float]) -> None:
    """Write prompts to the cache: whose, how many blocks, how long it is kept, and seconds since its use. An entry ends
    with the eighth block, and with the last."""
    now = time.time()
    with closing(CacheDirectory(data / "cache")) as directory:
        tier = directory.tier(b"model", description="demo.gguf")
        tier.load()
        for owner, count, life, age in prompts:
            parent: bytes | None = None
            for n in range(1, count + 1):
                digest = blake2b(repr((owner, n)).encode(), digest_size=32).digest()
                written = now - age if n in (8, count) else None
                block = StoredBlock(digest, parent, n * 128, owner, written, now - age, life)
                tier.write(block, np.zeros(SIZE, np.uint8))
                parent = digest
        assert tier.flush(10)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose cache has two organisations, two models, a key, and an expired entry."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o600)
    fill(tmp_path, (ACME, 10, DAY, 7200.0), (ACME_TOO, 8, HALF, 60.0), (OTHER, 9, HALF, 5.0))
    fill(tmp_path, (Namespace("acme", "gpt-5.6", "breakpoint", "0" * 16), 8, MEMORY, 700.0))
    return tmp_path


@pytest.fixture
def server(data: Path) -> Iterator[int]:
    """A server in a process of its own that uses the cache: its process id."""
    command = [sys.executable, "-c", SERVER, str(data / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while True:
            with Listing(data / "cache") as listing:
                if listing.live():
                    break
            time.sleep(0.05)
        yield process.pid
        process.communicate()
    assert process.returncode == 0


def invoke(data: Path, *arguments: str, columns: int = 80) -> Result:
    """A command's result; what is raised is raised."""
    runner = CliRunner(env={"COLUMNS": str(columns)})
    return runner.invoke(app, ["cache", *arguments, "--data-dir", str(data)], catch_exceptions=False)


def cache(data: Path, *arguments: str, columns: int = 80) -> str:
    """What a command that succeeds prints."""
    result = invoke(data, *arguments, columns=columns)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(data: Path, *arguments: str) -> Any:
    """The JSON that it prints."""
    return json.loads(cache(data, *arguments, "--json"))


def owners(data: Path) -> set[tuple[str, str]]:
    """Organisations and models of all blocks that are left."""
    with Listing(data / "cache") as listing:
        return {record.block.owner[:2] for _, record in listing.records()}


def files(data: Path) -> int:
    """Blocks' files that are left."""
    return sum(path.is_file() for path in (data / "cache" / "blocks").rglob("*"))


def test_no_cache_is_no_error(tmp_path: Path) -> None:
    """Where no server ran there is nothing to see, and nothing to make."""
    for command in ("stats", "list", "clear"):
        assert cache(tmp_path, command).startswith("There is no cache in")
    assert [document(tmp_path, command) for command in ("stats", "list")] == [{}, []]
    assert document(tmp_path, "clear")["blocks"] == 0
    assert list(tmp_path.iterdir()) == []


def test_empty_cache(tmp_path: Path) -> None:
    """A server ran, and nothing was kept."""
    fill(tmp_path)
    assert "│ Disk     │       0 │" in cache(tmp_path, "stats")
    assert document(tmp_path, "stats")["sharing_factor"] is None
    assert cache(tmp_path, "list") == "Nothing on disk matches.\n"
    assert cache(tmp_path, "clear", "--yes") == "Nothing on disk matches.\n"


def test_stats_without_a_server(data: Path) -> None:
    """The disk's figures; those of main memory are unknown, not zero."""
    stats = document(data, "stats")
    disk = {"entries": 5, "blocks": BLOCKS, "tokens": BLOCKS * 128, "bytes": BLOCKS * SIZE, "budget_bytes": None}
    assert stats["disk"] == disk
    assert stats["server_running"] is False
    assert stats["ram"] == {"blocks": None, "bytes": None, "budget_bytes": None}
    assert stats["tokens_covered"] == (8 + 10 + 8 + 8 + 9) * 128
    assert stats["sharing_factor"] == 43 / BLOCKS
    promises = {"disk_entries": 5, "disk_bytes": 27 * SIZE, "bytes": None, "budget_bytes": None, "tokens_refused": None}
    assert stats["promises"] == promises
    assert [(m["model"], m["entries"], m["tokens"], m["bytes"]) for m in stats["models"]] == [
        ("gpt-5.6", 3, 25 * 128, 25 * SIZE),
        ("gpt-4.1-mini", 2, 1280, 10 * SIZE),
    ]
    assert [(o["organisation"], o["entries"]) for o in stats["organisations"]] == [("acme", 3), ("[red]x", 2)]
    assert stats["models"][0]["first_expires"] < stats["models"][1]["first_expires"]
    assert "No server is running on this directory: main memory is empty." in cache(data, "stats")


def test_stats_beside_a_server(data: Path, server: int) -> None:
    """What it published of its memory, its budgets and its promises."""
    stats = document(data, "stats")
    assert (stats["server_running"], stats["server_pid"]) == (True, server)
    assert stats["context"] == {"tokens": 8192, "budget_tokens": 32768}
    assert stats["ram"] == {"blocks": 7, "bytes": 3 * 2**29, "budget_bytes": 2**31}
    assert stats["disk"]["budget_bytes"] == 2**40
    assert (stats["promises"]["budget_bytes"], stats["promises"]["tokens_refused"]) == (2**32, 128)
    output = cache(data, "stats")
    assert f"A server is running, process {server}; its figures are" in output
    assert "│ Context  │       – │      – │ 8,192 tokens │ 32,768 tokens │  25% │" in output
    assert "│ RAM      │       – │      7 │      1.5 GiB │       2.0 GiB │  75% │" in output
    assert "Promised  1.0 GiB of 4.0 GiB; " in output
    assert "Refused   128 tokens" in output
    assert max(map(len, output.splitlines())) <= 80


def test_a_server_that_published_nothing(data: Path) -> None:
    """Its memory isn't called empty."""
    descriptor = lock(data / "cache")
    try:
        assert "A server is running. It has published no figures yet." in cache(data, "stats")
        assert document(data, "stats")["server_pid"] is None
    finally:
        os.close(descriptor)


def test_list(data: Path) -> None:
    """Last used first, below whose they are; no line is wider than the terminal."""
    lines = cache(data, "list").splitlines()
    assert [line for line in lines[2:] if not line.startswith("  ")] == [
        "[red]x · gpt-5.6 · breakpoint · -",
        "acme · gpt-5.6 · breakpoint · -",
        f"acme · gpt-4.1-mini · interval · {ACME.key}",
    ]
    assert " ".join(lines[-2].split()) == "1,280 2.0 KiB 2 h 0 min 2 h 0 min 21 h 59 min 24h"
    assert max(map(len, lines)) <= 80


def test_list_for_scripts(data: Path) -> None:
    """ISO times, and the names that the table has."""
    entries = document(data, "list", "--limit", "0")
    assert [entry["used"] for entry in entries] == sorted((entry["used"] for entry in entries), reverse=True)
    last = entries[-1]
    assert {
        name: last[name] for name in ("organisation", "model", "generation", "key", "tokens", "bytes", "promise")
    } == {
        "organisation": "acme",
        "model": "gpt-4.1-mini",
        "generation": "interval",
        "key": ACME.key,
        "tokens": 1024,
        "bytes": SIZE,
        "promise": "24h",
    }
    assert last["written"] == last["used"] < last["expires"]
    assert [entry["promise"] for entry in entries] == ["30m", "30m", "30m", "24h", "24h"]


def test_list_chooses(data: Path) -> None:
    """By each option, and by a client's own key; what has expired is listed on demand only."""
    assert len(document(data, "list", "--organisation", "acme")) == 3
    assert len(document(data, "list", "--model", "gpt-5.6")) == 3
    assert {entry["key"] for entry in document(data, "list", "--key", "tutor")} == {ACME.key}
    assert document(data, "list", "--key", "other") == []
    (expired,) = document(data, "list", "--expired")
    assert expired["key"] == "0" * 16
    assert expired["promise"] is None
    assert "Expired ago" in cache(data, "list", "--expired")
    assert "not the hash that list shows" in cache(data, "list", "--key", str(ACME.key))


def test_list_says_what_it_left_out(data: Path) -> None:
    """On the error stream, so that JSON stays JSON."""
    result = invoke(data, "list", "--limit", "2", "--json")
    assert len(json.loads(result.stdout)) == 2
    assert result.stderr == "2 of 5 entries; --limit 0 lists all.\n"


@pytest.mark.parametrize(
    ("options", "gone", "left"),
    [
        (["--organisation", "acme"], (26, 4), {("[red]x", "gpt-5.6")}),
        (["--model", "gpt-5.6"], (25, 4), {("acme", "gpt-4.1-mini")}),
        (["--organisation", "acme", "--model", "gpt-5.6"], (16, 2), {("acme", "gpt-4.1-mini"), ("[red]x", "gpt-5.6")}),
        (["--key", "tutor"], (10, 2), {("acme", "gpt-5.6"), ("[red]x", "gpt-5.6")}),
        (["--yes"], (35, 6), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_clear(data: Path, options: list[str], gone: tuple[int, int], left: set[tuple[str, str]]) -> None:
    """What fits all options goes, rows and files, and nothing else."""
    before = files(data)
    cleared = document(data, "clear", *options)
    assert (cleared["blocks"], cleared["entries"]) == gone
    assert cleared["bytes"] == gone[0] * SIZE
    assert (cleared["done"], cleared["server_running"]) == (True, False)
    assert owners(data) == left
    assert before - files(data) == gone[0]


def test_clear_expired(data: Path) -> None:
    """What lives stays."""
    assert cache(data, "clear", "--expired") == "Cleared 1 entry in 8 blocks, 16.0 KiB.\n"
    assert len(document(data, "list")) == 5
    assert cache(data, "clear", "--expired") == "Nothing on disk matches.\n"


def test_clear_by_key_without_a_secret(data: Path) -> None:
    """No key can be known; none is made, and nothing goes."""
    (data / "secret").unlink()
    assert cache(data, "clear", "--key", "tutor") == "Nothing on disk matches.\n"
    assert document(data, "list", "--key", "tutor") == []
    assert not (data / "secret").exists()
    assert len(owners(data)) == 3


@pytest.mark.parametrize("command", ["list", "clear"])
def test_names_are_exact(data: Path, command: str) -> None:
    """An organisation of no name is not every organisation."""
    assert cache(data, command, "--organisation", "") == "Nothing on disk matches.\n"
    assert files(data) == BLOCKS


def test_clear_beside_a_server(data: Path, server: int) -> None:
    """The server does it, and the command waits until it is done."""
    output = cache(data, "clear", "--organisation", "acme")
    assert output == "The server cleared 3 entries in 18 blocks, 36.0 KiB, and the same in main memory.\n"
    assert owners(data) == {("[red]x", "gpt-5.6")}
    cleared = document(data, "clear", "--model", "gpt-5.6")
    assert cleared == {"blocks": 9, "bytes": 9 * SIZE, "entries": 2, "server_running": True, "done": True}
    assert "Nothing on disk matches. The server cleared its memory" in cache(data, "clear", "--yes")


def test_clear_beside_a_server_that_is_stuck(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that nothing has happened yet, to people and to scripts."""
    monkeypatch.setattr(headstart.cli.cache, "PATIENCE", 0.3)
    descriptor = lock(data / "cache")
    try:
        result = invoke(data, "clear", "--organisation", "acme")
        assert result.exit_code == 1
        assert "The server was asked, and is not done after" in result.output
        result = invoke(data, "clear", "--organisation", "acme", "--json")
        assert (result.exit_code, json.loads(result.stdout)["done"]) == (1, False)
    finally:
        os.close(descriptor)
    assert files(data) == BLOCKS


def test_everything_is_asked_for(data: Path) -> None:
    """Without a terminal to ask at, and without --yes, nothing goes."""
    with pytest.raises(StartError, match=r"no terminal to ask at\. Add --yes"):
        cache(data, "clear")
    assert files(data) == BLOCKS


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", BLOCKS), ("", BLOCKS)])
def test_everything_is_asked_for_at_a_terminal(data: Path, answer: str, left: int) -> None:
    """What would go is in the question, and no is the default."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "headstart", "cache", "clear", "--json", "--data-dir", str(data)]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        os.write(ours, answer.encode() + b"\n")
        output, errors = process.communicate()
    os.close(ours)
    assert b"(5 entries in 35 blocks, 70.0 KiB)? [y/N]" in errors
    assert process.returncode == (1 if left else 0)
    assert left or json.loads(output)["done"]
    assert files(data) == left


@pytest.mark.parametrize("command", [("stats",), ("list",), ("clear", "--yes")], ids=lambda command: command[0])
@pytest.mark.parametrize("damage", [b"", b"no database at all" * 300], ids=["empty", "overwritten"])
def test_damaged_catalogue(data: Path, command: tuple[str, ...], damage: bytes) -> None:
    """One line says what to do."""
    for file in (data / "cache").glob("catalogue.db*"):
        file.unlink()
    (data / "cache" / "catalogue.db").write_bytes(damage)
    with pytest.raises(StartError, match=r"can't be read: .*the next start of a server replaces it\.$") as raised:
        cache(data, *command)
    assert "\n" not in str(raised.value)


def test_hostile_names(tmp_path: Path) -> None:
    """Nothing that a terminal would act on is printed, and no name is taken for markup."""
    long = "long " * 100
    owners = [Namespace(name, "gpt-5.6", "breakpoint", None) for name in (HOSTILE, "[red]x[/]", long, "", "漢字" * 30)]
    fill(tmp_path, *((owner, 8, HALF, 5.0) for owner in owners))
    for command in ("stats", "list"):
        output = cache(tmp_path, command)
        assert all(character == "\n" or character.isprintable() for character in output)
        assert "[red]x[/]" in output
        assert "evil\\n\\x1b[31m" in output
        assert long[:80] not in output
    raw = cache(tmp_path, "list", "--json")
    assert raw.isascii()
    assert {entry["organisation"] for entry in json.loads(raw)} == {owner.organisation for owner in owners}
    assert document(tmp_path, "clear", "--organisation", HOSTILE)["blocks"] == 8


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_any_terminal(data: Path, columns: int) -> None:
    """No figure is cut, however narrow it is."""
    output = cache(data, "stats", columns=columns) + cache(data, "list", columns=columns)
    for figure in ("70.0 KiB", "1,280", "gpt-4.1-mini", "21 h 59 min", "First expires in"):
        assert figure in output
    assert "…" not in output


def test_many_organisations(tmp_path: Path) -> None:
    """A table has the largest; the document has all."""
    names = [f"organisation-{n:02}" for n in range(SHOWN_GROUPS + 3)]
    fill(tmp_path, *((Namespace(name, "m", "interval", None), 1 + (n == 21), DAY, 5.0) for n, name in enumerate(names)))
    output = cache(tmp_path, "stats")
    assert "… and 3 more; --json has all." in output
    assert output.index("organisation-21") < output.index("organisation-00")
    assert {group["organisation"] for group in document(tmp_path, "stats")["organisations"]} == set(names)


def test_data_directory_of_the_configuration(data: Path, tmp_path: Path) -> None:
    """`--config` says where the cache is, as it does to the server."""
    file = tmp_path / "headstart.toml"
    file.write_text(f'data_dir = "{data}"\n')
    result = CliRunner().invoke(app, ["cache", "stats", "--json", "--config", str(file)], catch_exceptions=False)
    assert json.loads(result.stdout)["directory"] == str(data / "cache")


@pytest.mark.parametrize("command", ["stats", "list", "clear"])
def test_help_teaches(command: str) -> None:
    """Every command's help has an example of it, within 80 columns."""
    output = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["cache", command, "--help"]).output
    assert f"Example: headstart cache {command}" in output
    assert max(map(len, output.splitlines())) <= 80


def test_help_is_quick() -> None:
    """Looking at the help loads no numbers, no encryption and no database."""
    ask = "import sys, headstart.cli; print({'cryptography', 'numpy', 'sqlite3', 'msgspec'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout == "set()\n"


def test_figures() -> None:
    """Sizes, durations and times as people and scripts read them."""
    assert [size(n) for n in (None, 0, 1023, 1024, 1024**2 - 1, 5 * 2**28, 2**70)] == [
        *("–", "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.2 GiB", "1,048,576.0 PiB"),
    ]
    assert [duration(s) for s in (-5, 0, 59.9, 60, 3599, 3600, 11_520, 86_399, 97_200)] == [
        *("0 s", "0 s", "59 s", "1 min", "59 min", "1 h 0 min", "3 h 12 min", "23 h 59 min", "1 d 3 h"),
    ]
    assert [duration(s) for s in (float("inf"), float("nan"), 1e300)] == ["–"] * 3
    assert [iso(when) for when in (0.0, float("inf"), 1e300, float("nan"))] == ["1970-01-01T00:00:00Z", *[None] * 3]
    assert [harmless(name, 5) for name in ("acme", "acme-production", "\n\n\n", "\ud800")] == [
        *("acme", "acme…", "\\n\\n…", "\\ud8…"),
    ]
