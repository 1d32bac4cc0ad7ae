"""`headstart bench`, against an endpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.cli.conftest import Endpoint
from typer.testing import CliRunner

from headstart.cli.app import app
from headstart.cli.bench import count, seconds, write_json
from headstart.errors import StartError

runner = CliRunner(env={"COLUMNS": "80"})


def test_table_and_json(endpoint: Endpoint, tmp_path: Path) -> None:
    """A table within 80 columns, a ratio, and every measurement in the file."""
    file = tmp_path / "bench.json"
    options = ["--base-url", endpoint.base_url, "--scenario", "burst", "--requests", "2", "--json", str(file)]
    result = runner.invoke(app, ["bench", *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    assert "1,024" in result.output
    assert "Wall, cold burst / one cold request" in result.output
    report = json.loads(file.read_text())
    assert report["model"] == "stub"
    assert [len(phase["measurements"]) for phase in report["phases"]] == [1, 2, 2]
    assert report["phases"][2]["measurements"][0]["cached_tokens"] == 1024


def test_environment(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY are where the SDK has them."""
    endpoint.api_key = "sk-test"
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert runner.invoke(app, ["bench", "--requests", "1"]).exit_code == 0


def test_several_models(endpoint: Endpoint) -> None:
    """With several models, one has to be named."""
    endpoint.models = ["a", "b"]
    with pytest.raises(StartError, match=r"serves 2 models: choose one with --model \(a, b\)"):
        runner.invoke(app, ["bench", "--base-url", endpoint.base_url], catch_exceptions=False)


def test_json_nowhere(endpoint: Endpoint, tmp_path: Path) -> None:
    """A file that can't be written is named, before anything is measured."""
    options = ["--base-url", endpoint.base_url, "--requests", "1", "--json", str(tmp_path / "no" / "such.json")]
    with pytest.raises(StartError, match=r"such\.json can't be written: there is no directory"):
        runner.invoke(app, ["bench", *options], catch_exceptions=False)
    assert endpoint.bodies == []


def test_json_forbidden(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one in a directory that can't be written to."""
    monkeypatch.setattr("os.access", lambda _, mode: mode == os.F_OK)
    options = ["--base-url", endpoint.base_url, "--json", str(tmp_path / "bench.json")]
    with pytest.raises(StartError, match=r"bench\.json can't be written: permission denied"):
        runner.invoke(app, ["bench", *options], catch_exceptions=False)
    assert endpoint.bodies == []


def test_json_full_disk(tmp_path: Path) -> None:
    """What goes wrong with the file afterwards is one line, too."""
    with pytest.raises(StartError, match="can't be written: Is a directory"):
        write_json(tmp_path, {})


def test_figures() -> None:
    """Numbers as people read them."""
    assert [count(None), count(4616.0)] == ["–", "4,616"]
    assert [seconds(None), seconds(0.0449), seconds(1.234)] == ["–", "45 ms", "1.23 s"]
