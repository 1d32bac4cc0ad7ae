"""Keys: made once, kept hashed, and each an organisation's."""

from __future__ import annotations

import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from headstart.api.app import create_app
from headstart.api.auth import ANYONE, PREFIX, Key, KeyRing, PrivateOrganisations
from headstart.cache.index import PrefixIndex
from headstart.engine.fake import FakeEngine
from headstart.errors import Forbidden, StartError, Unauthenticated


def test_no_keys(key_file: Path) -> None:
    """Where no key was ever made, everybody is the default organisation, and no file appears."""
    ring = KeyRing(key_file)
    assert not ring.required
    assert ring.authenticate(None) is ring.authenticate_admin("Bearer anything") is ANYONE
    assert (ANYONE.name, ANYONE.organisation, ANYONE.admin) == ("", "default", True)
    assert ANYONE.tokens_per_minute is ANYONE.dollars_per_day is None
    assert list(ring.private) == []
    assert not key_file.parent.exists()


def test_create(key_file: Path) -> None:
    """A key lets its organisation in; time and randomness are what they are told to be."""
    ring = KeyRing(key_file, clock=lambda: 1_800_000_000.9, entropy=lambda size: b"\xff" * size)
    key = ring.create("laptop", "acme")
    assert key == PREFIX + "_" * 42 + "8"
    (kept,) = ring.list()
    assert ring.authenticate(f"Bearer {key}") == kept
    assert ring.authenticate(f"bearer  {key} ") == kept
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
    assert server.authenticate(f"Bearer {key}").organisation == "acme"
    person.revoke("laptop")
    with pytest.raises(Unauthenticated):
        server.authenticate(f"Bearer {key}")


def test_file_that_goes_away(key_file: Path) -> None:
    """A file that was there and is gone opens nothing, until it is back."""
    ring = KeyRing(key_file)
    key = ring.create("laptop")
    away = key_file.rename(key_file.with_name("away"))
    for header in (None, f"Bearer {key}"):
        with pytest.raises(Unauthenticated):
            ring.authenticate(header)
    away.rename(key_file)
    assert ring.authenticate(f"Bearer {key}").name == "laptop"


def test_names(key_file: Path) -> None:
    """A name is one key's."""
    ring = KeyRing(key_file)
    ring.create("laptop")
    with pytest.raises(StartError, match="already"):
        ring.create("laptop", "other")


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "\x1b[31m", "\u202ex", "\udcff", "x" * 65, "\u00a0x"])
def test_what_is_no_name(key_file: Path, name: str) -> None:
    """Neither a key's nor an organisation's; the message can be printed anywhere."""
    ring = KeyRing(key_file)
    for arguments in ((name,), ("laptop", name)):
        with pytest.raises(StartError, match="1 to 64 printable characters") as caught:
            ring.create(*arguments)
        assert str(caught.value).isprintable()
    assert not key_file.exists()


@pytest.mark.parametrize("name", ["x", "x" * 64, "Zoë's <b>laptop</b>", "日本"])
def test_what_is_a_name(key_file: Path, name: str) -> None:
    """What escapes it is where it is shown."""
    ring = KeyRing(key_file)
    assert ring.authenticate(f"Bearer {ring.create(name, name)}").name == name


OLD = b'[{"name": "' + b"x" * 99 + b'", "organisation": " old ", "created": 1, "hash": "ab"}]'


def test_a_file_of_before(key_file: Path) -> None:
    """Without the fields that came later, and with names that can't be given any more."""
    key_file.parent.mkdir()
    key_file.write_bytes(OLD)
    (key,) = KeyRing(key_file).list()
    assert key == Key("x" * 99, " old ", 1, "ab")
    assert (key.admin, key.tokens_per_minute, key.dollars_per_day, key.zero_data_retention) == (
        False,
        None,
        None,
        False,
    )


def test_what_a_key_may_use_is_kept(key_file: Path) -> None:
    """All of it, exactly; an amount that somebody wrote as a number is read, too."""
    dollars = Decimal("2.50")
    KeyRing(key_file).create(
        "ci", admin=True, tokens_per_minute=5000, dollars_per_day=dollars, zero_data_retention=True
    )
    (key,) = KeyRing(key_file).list()
    assert (key.admin, key.tokens_per_minute, key.dollars_per_day, key.zero_data_retention) == (
        True,
        5000,
        dollars,
        True,
    )
    text = key_file.read_text()
    assert '"2.50"' in text
    key_file.write_text(text.replace('"2.50"', "0.1"))
    assert KeyRing(key_file).list()[0].dollars_per_day == Decimal("0.1")


@pytest.mark.parametrize(
    "budget",
    [{"tokens_per_minute": n} for n in (0, -1, 10**9 + 1)]
    + [{"dollars_per_day": Decimal(d)} for d in ("0", "-1", "NaN", "sNaN", "Infinity", "1e400", "1e-7")],
)
def test_no_such_budget(key_file: Path, budget: dict[str, Any]) -> None:
    """Neither from the command line nor in the file."""
    with pytest.raises(StartError, match="is not between"):
        KeyRing(key_file).create("x", **budget)
    assert not key_file.exists()
    key_file.parent.mkdir(exist_ok=True)
    fields = {"name": "x", "organisation": "x", "created": 1, "hash": "", **budget}
    key_file.write_text(json.dumps([fields], default=str))
    with pytest.raises(StartError, match=r"keys\.json is damaged: .*is not between"):
        KeyRing(key_file)


def test_zero_data_retention_is_the_organisations(key_file: Path) -> None:
    """One key puts all of its organisation there, as long as there is one; whoever holds the set sees it at once."""
    server, person = KeyRing(key_file), KeyRing(key_file)
    private, joined = server.private, PrivateOrganisations(server, frozenset({"configured"}))
    person.create("plain", "acme")
    assert "acme" not in private
    person.create("one", "acme", zero_data_retention=True)
    person.create("two", "acme", zero_data_retention=True)
    person.create("other", "other")
    assert "acme" in private
    assert "other" not in private
    assert set(joined) == {"acme", "configured"}
    assert len(joined) == 2
    person.revoke("one")
    assert "acme" in joined
    key_file.write_text("damaged")
    assert "acme" in private
    key_file.unlink()
    assert "acme" in private
    person.create("plain", "acme")
    assert "acme" not in private
    assert "configured" in joined


def test_administrators(key_file: Path) -> None:
    """No key: 401. A key that isn't one's: 403, with the way to one."""
    ring = KeyRing(key_file)
    plain, admin = ring.create("plain"), ring.create("admin", admin=True)
    assert ring.authenticate_admin(f"Bearer {admin}").name == "admin"
    with pytest.raises(Unauthenticated):
        ring.authenticate_admin(None)
    with pytest.raises(Forbidden, match="headstart keys create NAME --admin") as caught:
        ring.authenticate_admin(f"Bearer {plain}")
    assert (caught.value.status, caught.value.code) == (403, "insufficient_permissions")


def test_damage_under_a_running_server(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who had a key goes on being served, nobody else is, and the log says so once for each version of the file."""
    server = KeyRing(key_file)
    key = server.create("laptop", "acme")
    good = key_file.read_bytes()
    for n, damage in enumerate((b"{", b"[]]", OLD[:-1]), 1):
        key_file.write_bytes(damage)
        for _ in range(3):
            assert server.authenticate(f"Bearer {key}").organisation == "acme"
            with pytest.raises(Unauthenticated):
                server.authenticate(None)
        assert [record.levelname for record in caplog.records] == ["ERROR"] * n
    assert "keys.json is damaged" in caplog.text
    with pytest.raises(StartError, match="damaged"):
        server.create("phone")
    with pytest.raises(StartError, match="damaged"):
        server.revoke("laptop")
    assert key_file.read_bytes() == OLD[:-1]
    key_file.write_bytes(good.replace(b"laptop", b"tablet"))
    assert server.authenticate(f"Bearer {key}").name == "tablet"
    assert len(caplog.records) == 3
    server.revoke("tablet")
    with pytest.raises(Unauthenticated):
        server.authenticate(f"Bearer {key}")


def test_a_first_file_that_is_damaged(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is never taken for no keys: nobody is let in."""
    server = KeyRing(key_file)
    key_file.parent.mkdir()
    key_file.write_text("damaged")
    with pytest.raises(Unauthenticated):
        server.authenticate(None)
    assert server.required
    assert len(caplog.records) == 1


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
