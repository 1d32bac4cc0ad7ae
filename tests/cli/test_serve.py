"""`headstart serve`: what the command line makes of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import headstart.server
from headstart.cli.app import app
from headstart.config import Config, ModelConfig

runner = CliRunner()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that would have been served."""
    configs: list[Config] = []
    monkeypatch.setattr(headstart.server, "serve", configs.append)
    return configs


def test_defaults(served: list[Config]) -> None:
    """No options: the demo model under OpenAI's name."""
    assert runner.invoke(app, ["serve"], catch_exceptions=False).exit_code == 0
    assert served == [Config()]


def test_help_shows_the_defaults() -> None:
    """The defaults that the help names are the configuration's."""
    config = Config()
    output = runner.invoke(app, ["serve", "--help"], env={"COLUMNS": "300"}).output
    for default in (config.host, config.port, config.engine.max_sequences):
        assert f"Default: {default} " in output
    assert f"Default: {config.engine.context_cells} " in output


def test_options_go_before_the_file(served: list[Config], tmp_path: Path) -> None:
    """The command line wins over the file, field by field."""
    file = tmp_path / "headstart.toml"
    file.write_text('port = 9000\nhost = "127.0.0.2"\n[engine]\nmax_waiting = 7\nmax_sequences = 2\n')
    options = ["--config", str(file), "--port", "9001", "--max-sequences", "4", "--ram-cache", "1GiB"]
    runner.invoke(app, ["serve", *options, "--context", "4096", "--data-dir", "here"], catch_exceptions=False)
    (config,) = served
    assert (config.host, config.port, config.data_dir) == ("127.0.0.2", 9001, "here")
    engine = config.engine
    assert (engine.max_waiting, engine.max_sequences, engine.ram_cache, engine.context_cells) == (7, 4, "1GiB", 4096)


@pytest.mark.parametrize(
    ("options", "model"),
    [
        (["--model", "models/llama-3.2-1b.gguf"], ModelConfig(name="llama-3.2-1b", file="models/llama-3.2-1b.gguf")),
        (["--model", "hf:a/b/c.gguf", "--name", "mine"], ModelConfig(name="mine", file="hf:a/b/c.gguf")),
        (["--name", "gpt-4o"], ModelConfig(name="gpt-4o")),
        (["--generation", "breakpoint"], ModelConfig(name="gpt-5.6", generation="breakpoint")),
    ],
)
def test_models(served: list[Config], options: list[str], model: ModelConfig) -> None:
    """A file is served under its own name unless it is given one."""
    runner.invoke(app, ["serve", *options], catch_exceptions=False)
    assert served[0].models == (model,)


def test_store_is_openais_default(served: list[Config], tmp_path: Path) -> None:
    """`--store`; without it the file decides, and without that nothing is stored."""
    file = tmp_path / "headstart.toml"
    file.write_text("[store]\ndays = 7\ndefault = true\n")
    for options in ([], ["--store"], ["--config", str(file)], ["--config", str(file), "--store"]):
        runner.invoke(app, ["serve", *options], catch_exceptions=False)
    assert [(config.store.default, config.store.days) for config in served] == [
        (False, 30),
        (True, 30),
        (True, 7),
        (True, 7),
    ]


def test_capture(served: list[Config], tmp_path: Path) -> None:
    """`--capture` names the file, before the configuration's own; without either there is none."""
    file = tmp_path / "headstart.toml"
    file.write_text('capture = "one.jsonl"\ncapture_max = "2MiB"\n')
    for options in ([], ["--config", str(file)], ["--config", str(file), "--capture", "other.jsonl"]):
        runner.invoke(app, ["serve", *options], catch_exceptions=False)
    assert [(config.capture, config.capture_max) for config in served] == [
        ("", "1GiB"),
        ("one.jsonl", "2MiB"),
        ("other.jsonl", "2MiB"),
    ]
