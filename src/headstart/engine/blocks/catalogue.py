"""The catalogue of the blocks on disk: a SQLite file that says what each is, whose, and until when.

    models ──< blocks >── owners      live: each model's latest figures      commands: what a server is asked to clear

A row is sealed by a keyed hash of all its fields: a byte that changed in the file is noticed, and the row dropped.
There is no prompt text in it, no token, and of a client's key a keyed hash.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from headstart.types import Lifetime, Namespace, StoredBlock

MIGRATIONS = (
    """
    CREATE TABLE models (
        id INTEGER PRIMARY KEY, cache BLOB NOT NULL, fingerprint BLOB NOT NULL, description TEXT NOT NULL,
        UNIQUE (cache, fingerprint)
    );
    CREATE TABLE owners (
        id INTEGER PRIMARY KEY, organisation TEXT NOT NULL, model TEXT NOT NULL, generation TEXT NOT NULL, key TEXT
    );
    CREATE TABLE blocks (
        name BLOB PRIMARY KEY, model INTEGER NOT NULL, digest BLOB NOT NULL, parent BLOB, stop INTEGER NOT NULL,
        size INTEGER NOT NULL, owner INTEGER NOT NULL, written REAL, used REAL, idle REAL, total REAL,
        promised INTEGER NOT NULL, expires REAL, seal BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE live (model INTEGER PRIMARY KEY, pid INTEGER NOT NULL, time REAL NOT NULL, stats TEXT NOT NULL);
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY AUTOINCREMENT, organisation TEXT, model TEXT, key TEXT, expired_only INTEGER NOT NULL
    );
    """,
)
"""Each brings the schema from version N to N + 1. `models.cache` is the identity of the key of the cache's files;
`blocks.expires` is NULL where no entry ends."""

RECORDS = """
    SELECT name, digest, parent, stop, size, owner, written, used, idle, total, promised, seal FROM blocks
    WHERE model = ?
"""
LIVES = """
    SELECT name, digest, parent, min(min(used, :now) + idle, min(written, :now) + total) FROM blocks
    WHERE model = :model ORDER BY stop DESC
"""
"""When each entry expires, counted from no later than now; NULL where none ends."""
SEALED = struct.Struct("<IIIiqq?dddd?")
PUT = """
    INSERT INTO blocks
        (name, model, digest, parent, stop, size, owner, written, used, idle, total, promised, expires, seal)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET model = excluded.model, digest = excluded.digest, parent = excluded.parent,
        stop = excluded.stop, size = excluded.size, owner = excluded.owner, written = excluded.written,
        used = excluded.used, idle = excluded.idle, total = excluded.total, promised = excluded.promised,
        expires = excluded.expires, seal = excluded.seal
"""
LARGE = 2**48
"""Nothing in a row is that large, whatever its unit."""
PATIENCE = 5.0
"""Seconds that a write waits for another process's."""


class Newer(sqlite3.DatabaseError):
    """The catalogue was written by a newer version."""


class Record(NamedTuple):
    """A block on disk: the name of its file, the bytes of its state, and the block."""

    name: bytes
    size: int
    block: StoredBlock


class Selection(NamedTuple):
    """What to clear: what belongs to each that is named; with `expired_only`, of that only what has expired. `key` is
    the keyed hash of a `prompt_cache_key`."""

    organisation: str | None = None
    model: str | None = None
    key: str | None = None
    expired_only: bool = False

    def owns(self, owner: Namespace) -> bool:
        """Whether a namespace is meant."""
        return (
            self.organisation in (None, owner.organisation)
            and self.model in (None, owner.model)
            and self.key in (None, owner.key)
        )


class Catalogue:
    """One connection to the file. Blocking; raises `sqlite3.Error`, `Newer` at first. Any thread may use
    it, one at a time."""

    def __init__(self, path: Path, *, key: bytes = b"") -> None:
        with suppress(FileExistsError):  # SQLite gives its companions its mode; closing a 2nd descriptor unlocks
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._seal = blake2b(key=key, digest_size=16)
        self._owners: dict[Namespace, int] = {}
        self._whose: dict[Namespace, bytes] = {}
        self._connection = connect(path)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            with self.write() as connection:
                migrate(connection)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: whole, or not at all."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            self._owners.clear()  # some of them were of this transaction
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def check(self) -> None:
        """Raise `sqlite3.DatabaseError` if the file is damaged where every page can tell."""
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise sqlite3.DatabaseError("database disk image is malformed")

    def model(self, cache: bytes, fingerprint: bytes, description: str) -> int:
        """The number of a model under a cache key, which is given to it on first sight."""
        with self.write() as connection:
            connection.execute(
                "INSERT INTO models (cache, fingerprint, description) VALUES (?, ?, ?) "
                "ON CONFLICT (cache, fingerprint) DO UPDATE SET description = excluded.description",
                (cache, fingerprint, description),
            )
            (number,) = connection.execute(
                "SELECT id FROM models WHERE cache = ? AND fingerprint = ?", (cache, fingerprint)
            ).fetchone()
        return int(number)

    def models(self) -> list[int]:
        """The numbers that rows have."""
        return [number for (number,) in self._connection.execute("SELECT DISTINCT model FROM blocks")]

    def expired(self, model: int, now: float) -> list[bytes]:
        """The names of a model's blocks that no unexpired entry needs."""
        needed: set[bytes] = set()
        names = []
        for name, digest, parent, until in self._connection.execute(LIVES, {"model": model, "now": now}):
            if (until is not None and until > now) or digest in needed:
                needed.add(parent)
            else:
                names.append(name)
        return names

    def names(self) -> set[bytes]:
        """The names of all files that there should be."""
        return {name for (name,) in self._connection.execute("SELECT name FROM blocks")}

    def records(self, model: int, fingerprint: bytes | None = None) -> tuple[list[Record], list[bytes]]:
        """A model's blocks, and the names of those whose rows make no sense; with its fingerprint, also of those whose
        seal is wrong."""
        owners = read_owners(self._connection)
        good, bad = [], []
        for row in self._connection.execute(RECORDS, (model,)):
            record = record_of(row, owners)
            if record is None or (fingerprint is not None and self.seal(fingerprint, record) != row[-1]):
                bad.append(row[0])
            else:
                good.append(record)
        return good, bad

    def put(self, model: int, fingerprint: bytes, records: Iterable[Record]) -> None:
        """Write rows, within a transaction."""
        self._connection.executemany(PUT, (self._row(model, fingerprint, record) for record in records))

    def delete(self, names: Iterable[bytes]) -> None:
        """Delete rows, within a transaction."""
        self._connection.executemany("DELETE FROM blocks WHERE name = ?", ((name,) for name in names))

    def drop_unused(self) -> None:
        """Forget owners and models that no row names, and what was live. None of them may be in use."""
        with self.write() as connection:
            connection.execute("DELETE FROM live")
            connection.execute("DELETE FROM owners WHERE id NOT IN (SELECT owner FROM blocks)")
            connection.execute("DELETE FROM models WHERE id NOT IN (SELECT model FROM blocks)")

    def publish(self, model: int, pid: int, time: float, stats: str) -> None:
        """Write a model's figures, as JSON, in place of what was written before."""
        with self.write() as connection:
            connection.execute("INSERT OR REPLACE INTO live VALUES (?, ?, ?, ?)", (model, pid, time, stats))

    def command(self, selection: Selection) -> int:
        """Ask the server that uses the cache to clear a selection; the number of the command."""
        with self.write() as connection:
            made = connection.execute(
                "INSERT INTO commands (organisation, model, key, expired_only) VALUES (?, ?, ?, ?)", selection
            )
        return int(made.lastrowid or 0)

    def take_commands(self) -> list[Selection]:
        """What was asked for, which is gone from the file then."""
        if self._connection.execute("SELECT 1 FROM commands LIMIT 1").fetchone() is None:
            return []
        with self.write() as connection:
            rows = connection.execute("SELECT organisation, model, key, expired_only FROM commands ORDER BY id")
            taken = [Selection(organisation, model, key, bool(only)) for organisation, model, key, only in rows]
            connection.execute("DELETE FROM commands")
        return taken

    def seal(self, fingerprint: bytes, record: Record) -> bytes:
        """The keyed hash of a row's fields."""
        name, size, (digest, parent, stop, owner, written, used, life) = record
        if (whose := self._whose.get(owner)) is None:
            whose = self._whose[owner] = repr(tuple(owner)).encode("utf-8", "surrogatepass")
        lengths = len(fingerprint), len(name), len(digest), -1 if parent is None else len(parent)
        times = written is not None, written or 0.0, used, *life
        hashed = self._seal.copy()
        hashed.update(SEALED.pack(*lengths, stop, size, *times))
        hashed.update(b"".join((fingerprint, name, digest, parent or b"", whose)))
        return hashed.digest()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _row(self, model: int, fingerprint: bytes, record: Record) -> tuple[object, ...]:
        block, life = record.block, record.block.life
        return (
            *(record.name, model, block.digest, block.parent, block.stop, record.size, self._owner(block.owner)),
            *(block.written, block.used, life.idle, life.total, life.promised, expiry(block)),
            self.seal(fingerprint, record),
        )

    def _owner(self, owner: Namespace) -> int:
        known = self._owners.get(owner)
        if known is None:
            found = self._connection.execute(
                "SELECT id FROM owners WHERE organisation = ? AND model = ? AND generation = ? AND key IS ?", owner
            ).fetchone()
            if found is None:
                made = self._connection.execute(
                    "INSERT INTO owners (organisation, model, generation, key) VALUES (?, ?, ?, ?)", owner
                )
                found = (made.lastrowid,)
            known = self._owners[owner] = int(found[0])
        return known


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection whose transactions begin where the code says so. What isn't UTF-8 any more is read all the same: no
    seal fits it."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, within a transaction. Raises `Newer`."""
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, checksum BLOB NOT NULL)")
    found = version(connection)
    if found > len(MIGRATIONS):
        raise Newer(f"it was written by a newer Headstart (schema {found}, not {len(MIGRATIONS)})")
    if found == len(MIGRATIONS):
        return
    for script in MIGRATIONS[found:]:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(statement)
    connection.execute("DELETE FROM schema_version")
    connection.execute("INSERT INTO schema_version VALUES (?, ?)", (len(MIGRATIONS), version_checksum(len(MIGRATIONS))))


def version(connection: sqlite3.Connection) -> int:
    """The schema's version, 0 for a new file. Raises `sqlite3.DatabaseError` where it can't be one."""
    row = connection.execute("SELECT version, checksum FROM schema_version").fetchone()
    if row is None:
        return 0
    if not isinstance(row[0], int) or row[1] != version_checksum(row[0]):
        raise sqlite3.DatabaseError("its version is damaged")
    return row[0]


def version_checksum(number: int) -> bytes:
    """So that a damaged file isn't taken for a newer one."""
    return blake2b(b"headstart cache %d" % number, digest_size=8).digest()


def expiry(block: StoredBlock) -> float | None:
    """When the entry that ends with a block expires; None where none ends."""
    if block.written is None:
        return None
    return min(block.used + block.life.idle, block.written + block.life.total)


def rooted(records: Iterable[Record]) -> list[Record]:
    """Those whose parents are there, up to the first block of their prompts; parents come first."""
    stops: dict[bytes, int] = {}
    found = []
    for record in sorted(records, key=lambda record: record.block.stop):
        block = record.block
        if block.parent is None or stops.get(block.parent, block.stop) < block.stop:
            stops[block.digest] = block.stop
            found.append(record)
    return found


def unexpired(records: Sequence[Record], now: float) -> list[Record]:
    """Those that an entry ends with whose time isn't up, or that such an entry needs; parents come first. Times that
    lie in the future are `now`, and an expired entry is none any more."""
    needed: set[bytes | None] = set()
    kept = []
    for record in sorted(records, key=lambda record: record.block.stop, reverse=True):
        block = record.block
        if block.used > now or (block.written or 0.0) > now:
            written = None if block.written is None else min(block.written, now)
            block = block._replace(written=written, used=min(block.used, now))
        until = expiry(block)
        if until is not None and until <= now:
            block, until = block._replace(written=None), None
        if until is not None or block.digest in needed:
            needed.add(block.parent)
            kept.append(record if block is record.block else record._replace(block=block))
    return kept[::-1]


def read_owners(connection: sqlite3.Connection) -> dict[int, Namespace]:
    """Who owns blocks, by the number that rows have."""
    rows = connection.execute("SELECT id, organisation, model, generation, key FROM owners")
    return {
        number: Namespace(*owner)
        for number, *owner in rows
        if all(isinstance(field, str) for field in owner[:3]) and isinstance(owner[3], str | None)
    }


def record_of(row: Sequence[Any], owners: Mapping[int, Namespace]) -> Record | None:
    """A row as a record; None where the fields can't be a block's."""
    name, digest, parent, stop, size, number, written, used, idle, total, promised, _ = row
    owner = owners.get(number)
    since = used if written is None else written
    if (
        (owner is None or type(name) is not bytes or type(digest) is not bytes)
        or not (parent is None or type(parent) is bytes)
        or not (type(stop) is int and 0 < stop < LARGE and type(size) is int and 0 <= size < LARGE)
        or not (type(since) is float and 0 <= since < LARGE and type(used) is float and 0 <= used < LARGE)
        or not (type(idle) is float and idle >= 0 and type(total) is float and total >= 0)
        or promised not in (0, 1)
    ):
        return None
    life = Lifetime(idle, total, promised == 1)
    return Record(name, size, StoredBlock(digest, parent, stop, owner, written, used, life))
