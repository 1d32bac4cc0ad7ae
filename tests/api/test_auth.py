"""Keys: made once, kept hashed, and each an organisation's."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from headstart.api.app import create_app
from headstart.api.auth import PREFIX, KeyRing
from headstart.cache.index import PrefixIndex
from headstart.engine.fake import FakeEngine
from headstart.errors import StartError, Unauthenticated


def test_no_keys(key_file: Path) -> None:
    """Where no key was ever made, everybody is the default organisation, and no file appears."""
    ring = KeyRing(key_file)
    assert not ring.required
    assert ring.authenticate(None) == ring.authenticate("Bearer anything") == "default"
    assert not key_file.parent.exists()


def test_create(key_file: Path) -> None:
    """A key lets its organisation in; time and randomness are what they are told to be."""
    ring = KeyRing(key_file, clock=lambda: 1_800_000_000.9, entropy=lambda size: b"\xff" * size)
    key = ring.create("laptop", "acme")
    assert key == PREFIX + "_" * 42 + "8"
    assert ring.authenticate(f"Bearer {key}") == "acme"
    assert ring.authenticate(f"bearer  {key} ") == "acme"
    (kept,) = ring.list()
    assert (kept.name, kept.organisation, kept.created) == ("laptop", "acme", 1_800_000_000)


def test_kept_hashed_and_private(key_file: Path) -> None:
    """The file doesn't hold the key, only its owner reads it, and nothing else is left beside it."""
    ring = KeyRing(key_file)
    key = ring.create("laptop", "acme")
    ring.create("phone", "acme")
    assert key not in key_file.read_text()
    assert key.removeprefix(PREFIX) not in key_file.read_text()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [file.name for file in key_file.parent.iterdir()] == ["keys.json"]
    assert {key["organisation"] for key in json.loads(key_file.read_text())} == {"acme"}


def test_keys_differ(key_file: Path) -> None:
    """Two keys are two secrets."""
    ring = KeyRing(key_file)
    assert ring.create("one") != ring.create("two")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "You didn't provide an API key"),
        ("", "You didn't provide an API key"),
        ("Bearer", "You didn't provide an API key"),
        ("Basic abc", "You didn't provide an API key"),
        ("Bearer sk-headstart-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaWXYZ", "provided: sk-heads********WXYZ."),
        ("Bearer short", "provided: *****."),
        ("Bearer \udcff\udcff", "provided: **."),
    ],
)
def test_refused(key_file: Path, header: str | None, message: str) -> None:
    """In OpenAI's words, with what was given redacted."""
    ring = KeyRing(key_file)
    ring.create("laptop")
    with pytest.raises(Unauthenticated, match="API key") as caught:
        ring.authenticate(header)
    assert message in caught.value.message
    assert caught.value.code == "invalid_api_key"


def test_revoke(key_file: Path) -> None:
    """A revoked key lets nobody in; without any key left the door stays shut."""
    ring = KeyRing(key_file)
    key = ring.create("laptop")
    ring.revoke("laptop")
    assert ring.required
    assert list(ring.list()) == []
    with pytest.raises(Unauthenticated):
        ring.authenticate(f"Bearer {key}")
    with pytest.raises(StartError, match="no key named 'laptop'"):
        ring.revoke("laptop")


def test_another_process(key_file: Path) -> None:
    """What another ring makes or revokes in the same file counts at once."""
    server, person = KeyRing(key_file), KeyRing(key_file)
    assert not server.required
    key = person.create("laptop", "acme")
    assert server.authenticate(f"Bearer {key}") == "acme"
    person.revoke("laptop")
    with pytest.raises(Unauthenticated):
        server.authenticate(f"Bearer {key}")


def test_file_that_goes_away(key_file: Path) -> None:
    """A file that was there and is gone opens nothing."""
    ring = KeyRing(key_file)
    key = ring.create("laptop")
    key_file.unlink()
    for header in (None, f"Bearer {key}"):
        with pytest.raises(Unauthenticated):
            ring.authenticate(header)


def test_names(key_file: Path) -> None:
    """A name is one key's."""
    ring = KeyRing(key_file)
    ring.create("laptop")
    with pytest.raises(StartError, match="already"):
        ring.create("laptop", "other")
    with pytest.raises(StartError, match="needs a name"):
        ring.create("")


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b'[{"name": "x"}]', b"\xff", b'["\xff"]'])
def test_damaged_file(key_file: Path, content: bytes) -> None:
    """A damaged file is named, and is never taken for no keys."""
    key_file.parent.mkdir()
    key_file.write_bytes(content)
    with pytest.raises(StartError, match=r"keys\.json"):
        KeyRing(key_file)


def test_unreadable_file(key_file: Path) -> None:
    """A directory in its place can't be read, nor written."""
    key_file.mkdir(parents=True)
    with pytest.raises(StartError, match=r"keys\.json can't be read"):
        KeyRing(key_file)


def test_unwritable_place(tmp_path: Path) -> None:
    """A data directory that can't be made is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="can't be"):
        KeyRing(tmp_path / "file" / "keys.json").create("laptop")


def test_through_the_sdk(serve: Any, make_pipeline: Any, key_file: Path) -> None:
    """The SDK raises `AuthenticationError` without the right key; organisations don't share a cache."""
    ring = KeyRing(key_file)
    keys = {name: ring.create(name, name) for name in ("acme", "other")}
    app = create_app(make_pipeline(FakeEngine(PrefixIndex(2**20))), ring, max_body=100_000)
    text = "The quick brown fox jumps over the lazy dog. " * 200
    with serve(app) as url:

        def cached(key: str) -> int:
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                usage = client.responses.create(model="gpt-4.1-mini", input=text).usage
            assert usage is not None
            return usage.input_tokens_details.cached_tokens

        assert cached(keys["acme"]) == 0
        assert cached(keys["acme"]) > 0
        assert cached(keys["other"]) == 0
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided: sk-wrong") as caught:
            cached("sk-wrong-" + "x" * 40)
        assert caught.value.code == "invalid_api_key"
        for method, path in (("POST", "/v1/responses"), ("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
            assert httpx2.request(method, url + path).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"host": "[::1"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
def test_without_keys_no_page_of_another_host_is_served(http: httpx2.Client, headers: dict[str, str]) -> None:
    """Neither one that a browser here has open, nor one whose name was made to lead to this machine."""
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/responses"), ("GET", "/v1/responses/resp_1/cache")):
        answer = http.request(method, path, headers=headers, json={"model": "gpt-4.1-mini", "input": "Hi"})
        assert answer.status_code == 401
        assert "this machine" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{"origin": "http://localhost:3000"}, {"host": "localhost"}, {"host": "[::1]:80"}])
def test_this_machines_own_pages_are_served(http: httpx2.Client, headers: dict[str, str]) -> None:
    """By any of its names."""
    assert http.get("/v1/models", headers=headers).status_code == 200
