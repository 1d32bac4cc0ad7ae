"""`headstart keys`."""

from __future__ import annotations

import json
import shlex
from decimal import Decimal
from pathlib import Path

import pytest
from tests.cli.test_cache import ACME, DAY, fill
from typer.testing import CliRunner, Result

from headstart.api.auth import KeyRing
from headstart.cli.app import app
from headstart.errors import StartError

runner = CliRunner(env={"COLUMNS": "80"})
LONG = "a-name-of-sixty-four-characters-which-is-as-long-as-one-can-be-xx"[:64]
HOSTILE = "<b>evil</b>\n\x1b[31mred\x1b]0;title\x07\u202e"


def invoke(data_dir: Path, *arguments: str) -> Result:
    """A command's result; what is raised is raised."""
    return runner.invoke(app, ["keys", *arguments, "--data-dir", str(data_dir)], catch_exceptions=False)


def keys(data_dir: Path, *arguments: str) -> str:
    """What a command that succeeds prints."""
    result = invoke(data_dir, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_key_from_cradle_to_grave(tmp_path: Path) -> None:
    """Made, shown once, usable, listed without itself, revoked."""
    plaintext = keys(tmp_path, "create", "laptop", "--organisation", "acme").strip()
    ring = KeyRing(tmp_path / "keys.json")
    key = ring.authenticate(f"Bearer {plaintext}")
    assert (key.name, key.organisation, key.admin) == ("laptop", "acme", False)
    listed = keys(tmp_path, "list")
    assert "laptop" in listed
    assert "acme" in listed
    assert plaintext not in listed
    assert keys(tmp_path, "revoke", "laptop") == "Revoked 'laptop'.\n"
    assert ring.list() == ()


def test_budgets_and_flags(tmp_path: Path) -> None:
    """What is asked for is what the key has."""
    options = ("--tokens-per-minute", "250000", "--dollars-per-day", "2.50", "--zero-data-retention", "--admin")
    plaintext = keys(tmp_path, "create", "ci", *options).strip()
    key = KeyRing(tmp_path / "keys.json").authenticate(f"Bearer {plaintext}")
    assert (key.tokens_per_minute, key.dollars_per_day) == (250_000, Decimal("2.50"))
    assert key.admin
    assert key.zero_data_retention
    listed = keys(tmp_path, "list")
    for shown in ("250,000", "2.50", "admin", "private"):
        assert shown in listed


def test_json(tmp_path: Path) -> None:
    """The key once, when it is made; its properties in both; never its hash."""
    made = json.loads(keys(tmp_path, "create", "ci", "--dollars-per-day", "0.25", "--json"))
    plaintext, created = made.pop("key"), made["created"]
    assert KeyRing(tmp_path / "keys.json").authenticate(f"Bearer {plaintext}").name == "ci"
    assert made == {
        "name": "ci",
        "organisation": "default",
        "created": created,
        "admin": False,
        "tokens_per_minute": None,
        "dollars_per_day": 0.25,
        "zero_data_retention": False,
    }
    assert json.loads(keys(tmp_path, "list", "--json")) == [made]
    assert json.loads(keys(tmp_path / "empty", "list", "--json")) == []


def test_the_table_fits_80_columns(tmp_path: Path) -> None:
    """With the longest names and the largest budgets there can be, and nothing cut."""
    largest = ("--tokens-per-minute", "1000000000", "--dollars-per-day", "999999.999999")
    keys(tmp_path, "create", LONG, "--organisation", LONG, *largest, "--zero-data-retention", "--admin")
    keys(tmp_path, "create", "laptop")
    listed = keys(tmp_path, "list")
    assert max(map(len, listed.splitlines())) <= 80
    assert "1,000,000,000" in listed
    assert "999,999.999999" in listed
    cells = [line.split("│") for line in listed.splitlines() if line.startswith("│")]
    assert "".join(cell[1].strip() for cell in cells) == f"{LONG}laptop"
    assert all("…" not in line for line in listed.splitlines())


def test_names_are_no_markup(tmp_path: Path) -> None:
    """A name is listed as it was given."""
    keys(tmp_path, "create", "[red]laptop[/]", "--organisation", "[/]")
    listed = keys(tmp_path, "list")
    assert "[red]laptop[/] │ [/] " in listed


def test_a_terminal_acts_on_no_name(tmp_path: Path) -> None:
    """Such a name can't be given, and one that is in the file is spelt out and can be revoked."""
    with pytest.raises(StartError, match="printable") as caught:
        keys(tmp_path, "create", HOSTILE)
    assert str(caught.value).isprintable()
    (tmp_path / "keys.json").write_text(
        json.dumps([{"name": HOSTILE, "organisation": HOSTILE, "created": 10**17, "hash": "0"}])
    )
    listed = keys(tmp_path, "list")
    assert all(line.isprintable() for line in listed.splitlines())
    assert "<b>" in listed
    revoked = keys(tmp_path, "revoke", HOSTILE)
    assert revoked.rstrip("\n").isprintable()
    with pytest.raises(StartError, match="no key named") as caught:
        keys(tmp_path, "revoke", HOSTILE)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "sNaN", "Infinity", "1e400", "1e-400", "1000001", "abc", "$5", ""])
def test_no_such_dollars(tmp_path: Path, value: str) -> None:
    """Refused, naming what was wrong, and no key is made."""
    with pytest.raises((StartError, AssertionError), match=r"dollars per day: .* not between|no amount of\s+.*dollars"):
        keys(tmp_path, "create", "x", f"--dollars-per-day={value}")
    assert "No keys" in keys(tmp_path, "list")


@pytest.mark.parametrize("value", ["0", "-1", "1000000001", "1.5", "NaN"])
def test_no_such_tokens(tmp_path: Path, value: str) -> None:
    """As with dollars."""
    with pytest.raises((StartError, AssertionError), match=r"tokens per minute: .* not between|valid integer"):
        keys(tmp_path, "create", "x", f"--tokens-per-minute={value}")
    assert "No keys" in keys(tmp_path, "list")


def test_what_is_on_disk_already(tmp_path: Path) -> None:
    """For an organisation that has blocks on disk the command that clears them is told, and does it."""
    fill(tmp_path, (ACME, 10, DAY, 60.0))
    first = invoke(tmp_path, "create", "other", "--organisation", "other", "--zero-data-retention")
    assert first.stderr == (
        "From now on every request to this server needs a key. The dashboard and /metrics need one made with --admin.\n"
    )
    assert not invoke(tmp_path, "create", "plain", "--organisation", "acme").stderr
    told = invoke(tmp_path, "create", "secret", "--organisation", "acme", "--zero-data-retention")
    assert told.stdout.startswith("sk-headstart-")
    assert "10 blocks of 'acme'" in told.stderr
    command = shlex.split(told.stderr[told.stderr.index("headstart cache clear") :])
    assert command[2:5] == ["clear", "--organisation", "acme"]
    assert "10 blocks" in runner.invoke(app, command[1:], catch_exceptions=False).output
    assert not invoke(tmp_path, "create", "more", "--organisation", "acme", "--zero-data-retention").stderr


def test_a_cache_that_cannot_be_read(tmp_path: Path) -> None:
    """The key is made and shown all the same."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "catalogue.db").write_bytes(b"no database" * 100)
    told = invoke(tmp_path, "create", "secret", "--zero-data-retention")
    assert told.exit_code == 0
    assert told.stdout.startswith("sk-headstart-")
    assert "can't be told" in told.stderr


def test_no_keys(tmp_path: Path) -> None:
    """An empty list says how to make one."""
    assert "headstart keys create NAME" in keys(tmp_path, "list")
