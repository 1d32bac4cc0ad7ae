"""`headstart serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DEMO_NAMES = {"interval": "gpt-4.1-mini", "breakpoint": "gpt-5.6"}
"""What the demo model is called under each generation of rules, so that OpenAI's examples run unchanged."""


def serve(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; beyond this machine, keys are required. Default: 127.0.0.1"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8000")] = None,
    model: Annotated[
        str | None, typer.Option(help="A GGUF file, or hf:OWNER/REPO/FILE. Default: the demo model, random weights.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What clients call it. Default: the file's name.")] = None,
    generation: Annotated[
        str | None,
        typer.Option(
            help="Cache rules: interval (as gpt-4o to gpt-5.5) or breakpoint (as gpt-5.6). Default: interval; "
            "the demo model is served under both."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A headstart.toml; options given here take precedence.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the demo model and the keys are. Default: ~/.local/share/headstart"),
    ] = None,
    ram_cache: Annotated[
        str | None, typer.Option(help="Memory for idle prefixes, as 8GiB. Default: a quarter of the machine's")
    ] = None,
    disk_cache: Annotated[
        str | None,
        typer.Option(
            help="Disk for prefixes that are promised for 30m, 12h or 24h, through restarts; 0: none. "
            "Default: a quarter of what is free, 32GiB at most"
        ),
    ] = None,
    store: Annotated[
        bool | None,
        typer.Option("--store", help="Store responses unless a request says otherwise, as OpenAI does. Default: no"),
    ] = None,
    capture: Annotated[
        Path | None,
        typer.Option(help="Append answered requests, prompts and all, to this file, for headstart audit. Default: no"),
    ] = None,
    max_sequences: Annotated[int | None, typer.Option(help="Requests computed at once. Default: 8")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of all running requests together. Default: 32768")] = None,
) -> None:
    """Serve a model through OpenAI's API, with a prompt cache.

    Example: [bold]headstart serve --model llama-3.2-1b.gguf --ram-cache 8GiB[/]
    """
    from headstart.config import load
    from headstart.server import serve as run

    run(
        load(
            config,
            overrides(
                host=host,
                port=port,
                data_dir=str(data_dir) if data_dir else None,
                models=models(model, name, generation),
                engine=overrides(
                    ram_cache=ram_cache, disk_cache=disk_cache, max_sequences=max_sequences, context_cells=context
                )
                or None,
                store={"default": True} if store else None,
                capture=str(capture) if capture else None,
            ),
        )
    )


def overrides(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def models(model: str | None, name: str | None, generation: str | None) -> list[dict[str, Any]] | None:
    """`models` of the configuration as the command line gives them; None if it says nothing of them."""
    given = overrides(file=model, name=name, generation=generation)
    if not given:
        return None
    demo = DEMO_NAMES.get(generation or "interval", DEMO_NAMES["interval"])
    return [{"name": Path(model).stem if model else demo, **given}]
