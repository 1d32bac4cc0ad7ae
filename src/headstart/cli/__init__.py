"""The `headstart` command."""

from headstart.cli.app import main

__all__ = ["main"]
