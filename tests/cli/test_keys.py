"""`headstart keys`."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from headstart.api.auth import KeyRing
from headstart.cli.app import app

runner = CliRunner(env={"COLUMNS": "80"})


def keys(data_dir: Path, *arguments: str) -> str:
    """What a command prints."""
    result = runner.invoke(app, ["keys", *arguments, "--data-dir", str(data_dir)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_key_from_cradle_to_grave(tmp_path: Path) -> None:
    """Made, shown once, usable, listed without itself, revoked."""
    plaintext = keys(tmp_path, "create", "laptop", "--organisation", "acme").strip()
    ring = KeyRing(tmp_path / "keys.json")
    assert ring.authenticate(f"Bearer {plaintext}") == "acme"
    listed = keys(tmp_path, "list")
    assert "laptop" in listed
    assert "acme" in listed
    assert plaintext not in listed
    assert keys(tmp_path, "revoke", "laptop") == "Revoked 'laptop'.\n"
    assert ring.list() == ()


def test_names_are_no_markup(tmp_path: Path) -> None:
    """A name is listed as it was given."""
    keys(tmp_path, "create", "[red]laptop[/]", "--organisation", "[/]")
    listed = keys(tmp_path, "list")
    assert "[red]laptop[/] │ [/] " in listed


def test_no_keys(tmp_path: Path) -> None:
    """An empty list says how to make one."""
    assert "headstart keys create NAME" in keys(tmp_path, "list")
