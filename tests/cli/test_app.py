"""The command as a person meets it: help, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli.app import app
from headstart.cli.process import free_port

runner = CliRunner(env={"COLUMNS": "80"})
ROOT = Path(__file__).parents[2]


def headstart(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "headstart", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    "command", ["serve", "demo", "bench", "usage", "simulate", "version", "keys create", "keys list", "keys revoke"]
)
def test_help_teaches(command: str) -> None:
    """Every command's help has an example of it, within 80 columns."""
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Example: " in result.output
    assert f"headstart {command}" in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines())) <= 80


def test_help_is_quick() -> None:
    """Help loads neither the engine nor the HTTP stack."""
    ask = (
        "import sys, headstart.cli; heavy = {'llama_cpp', 'numpy', 'starlette', 'openai', 'httpx2', 'genai_prices'};"
        "print(heavy & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout == "set()\n"


def test_version() -> None:
    """The version is the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert headstart("version").stdout.strip() == project["version"]
    assert headstart("--version").stdout.strip() == project["version"]


def test_help_of_the_whole() -> None:
    """Without a command: what it is for, and the first steps."""
    output = runner.invoke(app, []).output
    assert "First steps: headstart demo" in output
    assert "--version" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench", "--base-url", f"http://127.0.0.1:{free_port()}/v1"), "Nothing answers at"),
        (("serve", "--config", "no-such.toml"), "no-such.toml can't be read"),
        (("serve", "--ram-cache", "lots"), "'lots' is not a size"),
        (("serve", "--host", "0.0.0.0"), "Make a key with"),
        (("serve", "--model", "no-such.gguf"), "no-such.gguf"),
        (("demo", "--data-dir", "/dev/null/x"), "The data directory /dev/null/x can't be made"),
        (("keys", "revoke", "nobody"), "no key named 'nobody'"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """Exit code 2 and the reason, without a traceback."""
    place = () if arguments[0] in ("bench", "demo") else ("--data-dir", str(tmp_path))
    result = headstart(*arguments, *place)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == "" or arguments[0] == "demo"
