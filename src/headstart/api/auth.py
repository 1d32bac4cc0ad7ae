"""API keys: who asks, and so whose cache it is.

A key is 256 random bits, so its SHA-256 can't be turned back by guessing, nor found in a table made beforehand. A salt
or a slow hash defends passwords, which people choose; here it would only slow down every request.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from headstart.errors import StartError, Unauthenticated

PREFIX = "sk-headstart-"
KEY_BYTES = 32

DEFAULT_ORGANISATION = "default"
"""Whose every request is, where no key was ever made."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as it is kept: `created` is Unix time in seconds, `hash` the SHA-256 of the key in hexadecimal."""

    name: str
    organisation: str
    created: int
    hash: str


class KeyRing:
    """The keys of one server, in a JSON file that only its owner can read.

    The file is looked at for every request and read again when it changed, so that a key made or revoked by another
    process counts at once. A file without keys lets nobody in; only where there never was one is everybody let in.
    Raises `StartError`, naming the file, when it can't be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._path = path
        self._clock = clock
        self._entropy = entropy
        self._version: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._refresh()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        self._refresh()
        return self._version is not None

    def create(self, name: str, organisation: str = DEFAULT_ORGANISATION) -> str:
        """Make a key and return it: it can be seen this once. Raises `StartError` for a name in use."""
        self._refresh()
        if not name or not organisation:
            raise StartError("A key needs a name and an organisation.")
        if any(key.name == name for key in self._keys.values()):
            raise StartError(f"There is a key named '{name}' already: revoke it first, or choose another name.")
        plaintext = PREFIX + base64.urlsafe_b64encode(self._entropy(KEY_BYTES)).decode().rstrip("=")
        key = Key(name, organisation, int(self._clock()), _hash(plaintext))
        self._save([*self._keys.values(), key])
        return plaintext

    def list(self) -> Sequence[Key]:
        """Every key, in the order they were made."""
        self._refresh()
        return tuple(self._keys.values())

    def revoke(self, name: str) -> None:
        """Let a key's holder in no more. Raises `StartError` for an unknown name."""
        self._refresh()
        rest = [key for key in self._keys.values() if key.name != name]
        if len(rest) == len(self._keys):
            raise StartError(f"There is no key named '{name}' in {self._path}.")
        self._save(rest)

    def authenticate(self, authorization: str | None) -> str:
        """The organisation of an `Authorization` header's key. Raises `Unauthenticated`, in OpenAI's words."""
        if not self.required:
            return DEFAULT_ORGANISATION
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given:
            raise Unauthenticated(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY). Whoever runs this server can make one."
            )
        # A dictionary's lookup takes longer for a hash that begins right, which says nothing about any key.
        key = self._keys.get(_hash(given))
        if key is None:
            raise Unauthenticated(
                f"Incorrect API key provided: {_redacted(given)}. Whoever runs this server can make one."
            )
        return key.organisation

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if version == self._version:
                return
            keys = msgspec.json.decode(self._path.read_bytes(), type=list[Key])
        except FileNotFoundError:
            self._keys = {}  # a file that was there and is gone lets nobody in: `_version` stays
            return
        except OSError as error:
            raise StartError(f"The key file {self._path} can't be read: {error.strerror}.") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StartError(
                f"The key file {self._path} is damaged: {error}. Restore it, or delete it and make new keys."
            ) from error
        self._keys = {key.hash: key for key in keys}
        self._version = version

    def _save(self, keys: Sequence[Key]) -> None:
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise StartError(f"The key file {self._path} can't be written: {error.strerror}.") from error
        self._refresh()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _redacted(key: str) -> str:
    if len(key) < 16:
        return "*" * len(key)
    return f"{key[:8]}{'*' * 8}{key[-4:]}"
