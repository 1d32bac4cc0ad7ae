"""API keys: who asks, and so whose cache it is.

A key is 256 random bits, so its SHA-256 can't be turned back by guessing, nor found in a table made beforehand. A salt
or a slow hash defends passwords, which people choose; here it would only slow down every request.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from headstart.errors import Forbidden, StartError, Unauthenticated

log = logging.getLogger("headstart.api")

PREFIX = "sk-headstart-"
KEY_BYTES = 32

DEFAULT_ORGANISATION = "default"
"""Whose every request is, where no key was ever made."""

NAME_LENGTH = 64
GONE = (0, 0, 0)
"""The version of a file that was there once, and may come back."""
MOST_TOKENS = 10**9
LEAST_DOLLARS, MOST_DOLLARS = Decimal("0.000001"), Decimal(10**6)


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key as it is kept: `created` is Unix time in seconds, `hash` the SHA-256 of the key in hexadecimal.

    `admin`: it may see what is of all organisations. The two budgets are the key's own, None: unlimited. One key under
    zero data retention puts its whole organisation there, since the organisation's keys share one cache. Raises
    `ValueError` for a budget that can't be meant.
    """

    name: str
    organisation: str
    created: int
    hash: str
    admin: bool = False
    tokens_per_minute: int | None = None
    dollars_per_day: Decimal | None = None
    zero_data_retention: bool = False

    def __post_init__(self) -> None:
        tokens, dollars = self.tokens_per_minute, self.dollars_per_day
        if tokens is not None and not 1 <= tokens <= MOST_TOKENS:
            raise ValueError(f"tokens per minute: {tokens} is not between 1 and {MOST_TOKENS}")
        if dollars is not None and not (dollars.is_finite() and LEAST_DOLLARS <= dollars <= MOST_DOLLARS):
            raise ValueError(f"dollars per day: {dollars:.6g} is not between {LEAST_DOLLARS} and {MOST_DOLLARS}")


ANYONE = Key("", DEFAULT_ORGANISATION, 0, "", admin=True)
"""Who asks where no key was ever made."""


class PrivateOrganisations(Collection[str]):
    """The organisations under zero data retention as the key file says now, and those of `configured`."""

    def __init__(self, keys: KeyRing, configured: frozenset[str] = frozenset()) -> None:
        self._keys = keys
        self._configured = configured

    def __contains__(self, organisation: object) -> bool:
        return organisation in self._configured or organisation in self._keys.flagged()

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured | self._keys.flagged())

    def __len__(self) -> int:
        return len(self._configured | self._keys.flagged())


class KeyRing:
    """The keys of one server, in a JSON file that only its owner can read.

    The file is looked at for every request and read again when it changed, so that a key made or revoked by another
    process counts at once. A file without keys lets nobody in; only where there never was one is everybody let in.

    Raises `StartError`, naming the file, when it can't be read at first or is to be changed. We replace the file
    atomically, so damage under a running server is somebody's edit: the keys that were read last go on being served,
    and the log says so once for each version of the file.
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
        self._damage: tuple[object, str] | None = None
        self._keys: dict[str, Key] = {}
        self._private: frozenset[str] = frozenset()
        self._refresh()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        self._follow()
        return self._version is not None or self._damage is not None

    @property
    def private(self) -> PrivateOrganisations:
        """The organisations of which a key is under zero data retention; what is returned follows the file."""
        return PrivateOrganisations(self)

    def flagged(self) -> frozenset[str]:
        """The organisations of which a key is under zero data retention now."""
        self._follow()
        return self._private

    def create(
        self,
        name: str,
        organisation: str = DEFAULT_ORGANISATION,
        *,
        admin: bool = False,
        tokens_per_minute: int | None = None,
        dollars_per_day: Decimal | None = None,
        zero_data_retention: bool = False,
    ) -> str:
        """Make a key and return it: it can be seen this once. Raises `StartError` for a name in use, and for a name, an
        organisation or a budget that can't be."""
        self._refresh()
        for what, given in (("A key's name", name), ("An organisation's name", organisation)):
            if not _can_be_named(given):
                raise StartError(
                    f"{what} has 1 to {NAME_LENGTH} printable characters, and no space at its ends: "
                    f"{given[: NAME_LENGTH + 1]!a} can't be one."
                )
        if any(key.name == name for key in self._keys.values()):
            raise StartError(f"There is a key named '{name}' already: revoke it first, or choose another name.")
        plaintext = PREFIX + base64.urlsafe_b64encode(self._entropy(KEY_BYTES)).decode().rstrip("=")
        try:
            key = Key(
                name,
                organisation,
                int(self._clock()),
                _hash(plaintext),
                admin,
                tokens_per_minute,
                dollars_per_day,
                zero_data_retention,
            )
        except ValueError as error:
            raise StartError(f"The key's budget, {error}.") from error
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
            raise StartError(f"There is no key named {_quoted(name)} in {self._path}.")
        self._save(rest)

    def authenticate(self, authorization: str | None) -> Key:
        """The key of an `Authorization` header; `ANYONE` where no key was ever made. Raises `Unauthenticated`, in
        OpenAI's words."""
        if not self.required:
            return ANYONE
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
        return key

    def authenticate_admin(self, authorization: str | None) -> Key:
        """As `authenticate`, for what is shown to an administrator alone. Raises `Forbidden`, too."""
        key = self.authenticate(authorization)
        if not key.admin:
            raise Forbidden(
                "You have insufficient permissions for this operation: it needs an administrator's key. Whoever runs "
                "this server can make one: headstart keys create NAME --admin"
            )
        return key

    def _follow(self) -> None:
        """As `_refresh`, but a file that can't be read changes nothing, and is complained of once."""
        try:
            self._refresh(known_damage=self._damage)
        except StartError as error:
            log.error("%s Until then the keys that were read last are served.", error)

    def _refresh(self, known_damage: tuple[object, str] | None = None) -> None:
        """Read the file if it changed. Raises `StartError` for damage that isn't the known one."""
        version = None
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if version == self._version or (known_damage and version == known_damage[0]):
                return
            keys = msgspec.json.decode(self._path.read_bytes(), type=list[Key])
        except FileNotFoundError:
            self._keys = {}
            if self._version is not None:  # a file that was there and is gone lets nobody in
                self._version = GONE
            return
        except OSError as error:
            problem = f"The key file {self._path} can't be read: {error.strerror}."
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problem = f"The key file {self._path} is damaged: {error}. Restore it, or delete it and make new keys."
        else:
            self._keys = {key.hash: key for key in keys}
            self._private = frozenset(key.organisation for key in keys if key.zero_data_retention)
            self._version, self._damage = version, None
            return
        self._damage = (version, problem)
        if self._damage != known_damage:
            raise StartError(problem)

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


def _can_be_named(name: str) -> bool:
    return 1 <= len(name) <= NAME_LENGTH and name.isprintable() and name == name.strip()


def _quoted(name: str) -> str:
    return f"'{name}'" if _can_be_named(name) else f"{name[:NAME_LENGTH]!a}"


def _redacted(key: str) -> str:
    if len(key) < 16:
        return "*" * len(key)
    return f"{key[:8]}{'*' * 8}{key[-4:]}"
