"""Headstart: OpenAI's prompt caching as software you can run."""

__version__ = "0.1.0"
