"""The store of responses, on a real file, with a clock of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import StoreFailed
from headstart.store.database import Database
from headstart.store.responses import DAY, Answered, History, Item, ResponseStore

DAYS = 30
ORG = "org"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database's file."""
    return tmp_path / "headstart.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[ResponseStore]:
    """A store with room for anything."""
    store = open_store(path, clock)
    yield store
    await store.close()


def open_store(path: Path, clock: Callable[[], float], max_bytes: int = 2**30, patience: float = 5) -> ResponseStore:
    """A store over a file, as a server would open it."""
    database = Database(path, patience=patience)
    return ResponseStore(database, days=DAYS, max_bytes=max_bytes, clock=clock)


def item(id: str, size: int = 10) -> Item:
    """An item of some size."""
    return Item(id, f'"{id}"'.encode().ljust(size))


async def turn(store: ResponseStore, name: str, parent: str | None = None, size: int = 10) -> None:
    """Store a response of one input and one output item that goes on from `parent`."""
    history = None if parent is None else await store.history(ORG, parent)
    body = f'{{"id": "{name}"}}'.encode()
    await store.add(Answered(name, ORG, body, (item(f"u-{name}", size),), (item(f"a-{name}", size),), history))


def ids(history: History | None) -> list[str]:
    """The items of a conversation."""
    assert history is not None
    return [item.id for item in history.items]


def count(path: Path, table: str) -> int:
    """Rows of a table."""
    connection = sqlite3.connect(path)
    (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(rows)


async def test_a_response_comes_back_as_it_was(store: ResponseStore) -> None:
    """The object, its output, and what it was given."""
    await turn(store, "r1")
    stored = await store.get(ORG, "r1")
    assert stored is not None
    assert stored.body == b'{"id": "r1"}'
    assert stored.output == (item("a-r1"),)
    history = await store.history(ORG, "r1")
    assert history is not None
    assert (history.input, history.output) == ((item("u-r1"),), (item("a-r1"),))


async def test_a_conversation_is_in_order_and_branches(store: ResponseStore) -> None:
    """Two answers to one response have each their own continuation."""
    await turn(store, "r1")
    await turn(store, "r2", "r1")
    await turn(store, "left", "r2")
    await turn(store, "right", "r2")
    assert ids(await store.history(ORG, "right")) == ["u-r1", "a-r1", "u-r2", "a-r2", "u-right", "a-right"]
    history = await store.history(ORG, "left")
    assert history is not None
    assert [item.id for item in history.output] == ["a-left"]


async def test_items_are_stored_once(store: ResponseStore, path: Path) -> None:
    """A conversation of 20 turns takes 20 times the room of one."""
    for number in range(20):
        await turn(store, f"r{number}", f"r{number - 1}" if number else None)
    assert count(path, "items") == 40
    assert len(ids(await store.history(ORG, "r19"))) == 40


async def test_zero_data_retention_takes_what_was_stored_before(path: Path, clock: Clock) -> None:
    """At once for clients, and from the disk with the next sweep."""
    private: set[str] = set()
    store = ResponseStore(Database(path), days=DAYS, max_bytes=2**30, clock=clock, private=private)
    await turn(store, "r1")
    private.add(ORG)
    assert await store.get(ORG, "r1") is None
    assert count(path, "responses") == 1
    await store.sweep()
    assert count(path, "responses") == count(path, "items") == 0
    await store.close()


async def test_another_organisation_finds_nothing(store: ResponseStore) -> None:
    """Nor can it delete."""
    await turn(store, "r1")
    assert await store.get("other", "r1") is None
    assert await store.history("other", "r1") is None
    assert not await store.delete("other", "r1")
    assert await store.get(ORG, "r1") is not None


async def test_a_deleted_response_leaves_what_later_ones_need(store: ResponseStore, path: Path) -> None:
    """And once nothing needs it any more, nothing is left."""
    await turn(store, "r1")
    await turn(store, "r2", "r1")
    await turn(store, "r3", "r2")
    assert await store.delete(ORG, "r2")
    assert not await store.delete(ORG, "r2")
    assert await store.get(ORG, "r2") is None
    assert await store.history(ORG, "r2") is None
    assert ids(await store.history(ORG, "r3")) == ["u-r1", "a-r1", "u-r2", "a-r2", "u-r3", "a-r3"]
    assert await store.delete(ORG, "r3")
    assert ids(await store.history(ORG, "r1")) == ["u-r1", "a-r1"]
    assert count(path, "items") == 2
    assert await store.delete(ORG, "r1")
    assert (count(path, "items"), count(path, "responses")) == (0, 0)


def on_disk(path: Path, text: bytes) -> bool:
    """Whether the database, or a file beside it, holds a text."""
    return any(text in file.read_bytes() for file in path.parent.iterdir())


async def test_deleted_text_is_on_the_disk_no_more(store: ResponseStore, path: Path) -> None:
    """Neither in the file nor in its log, as soon as the deletion is answered."""
    await turn(store, "kept")
    await turn(store, "forgotten", size=20_000)
    assert on_disk(path, b"u-forgotten")
    assert await store.delete(ORG, "forgotten")
    assert not on_disk(path, b"u-forgotten")
    assert on_disk(path, b"u-kept")


async def test_a_reader_delays_only_that_the_log_is_emptied(store: ResponseStore, path: Path) -> None:
    """The response is deleted; the next deletion, or a sweep, takes its text off the disk."""
    for name in ("r1", "r2", "r3"):
        await turn(store, name)
    for then in (store.delete(ORG, "r3"), store.sweep()):
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        (name,) = reader.execute("SELECT id FROM responses WHERE body IS NOT NULL ORDER BY number").fetchone()
        assert await store.delete(ORG, name)
        assert await store.get(ORG, name) is None
        assert on_disk(path, f"u-{name}".encode())
        reader.execute("COMMIT")
        reader.close()
        await then
        assert not on_disk(path, f"u-{name}".encode())


async def test_a_deletion_empties_the_log_off_the_event_loop(store: ResponseStore, path: Path) -> None:
    """While it waits for a reader, everything else runs."""
    await turn(store, "r1")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM responses").fetchall()
    deleting = asyncio.ensure_future(store.delete(ORG, "r1"))
    for _ in range(20):
        await asyncio.sleep(0.005)
        assert not deleting.done()
    reader.execute("COMMIT")
    reader.close()
    assert await deleting


async def test_a_conversation_goes_on_that_was_deleted_meanwhile(store: ResponseStore) -> None:
    """What was read before is stored again."""
    await turn(store, "r1")
    history = await store.history(ORG, "r1")
    await store.delete(ORG, "r1")
    await store.add(Answered("r2", ORG, b"{}", (item("u-r2"),), (item("a-r2"),), history))
    assert ids(await store.history(ORG, "r2")) == ["u-r1", "a-r1", "u-r2", "a-r2"]


async def test_expired_is_gone_at_once_and_removed_by_a_sweep(store: ResponseStore, path: Path, clock: Clock) -> None:
    """An hour before its time it is there; a later response keeps the items it needs."""
    await turn(store, "alone")
    await turn(store, "r1")
    clock.now += 3600
    await turn(store, "r2", "r1")
    clock.now += DAYS * DAY - 3601
    assert await store.get(ORG, "r1") is not None
    clock.now += 1
    for found in (store.get(ORG, "r1"), store.history(ORG, "r1")):
        assert await found is None
    assert not await store.delete(ORG, "r1")
    assert count(path, "responses") == 3
    await store.sweep()
    assert count(path, "responses") == 2
    assert ids(await store.history(ORG, "r2")) == ["u-r1", "a-r1", "u-r2", "a-r2"]
    clock.now += 3600
    await store.sweep()
    assert (count(path, "items"), count(path, "responses")) == (0, 0)


async def test_a_sweep_removes_more_than_a_transactions_worth(store: ResponseStore, path: Path, clock: Clock) -> None:
    """In one call."""
    for number in range(120):
        await turn(store, f"r{number}")
    clock.now += DAYS * DAY
    await store.sweep()
    assert count(path, "responses") == 0


async def test_the_oldest_make_room(path: Path, clock: Clock) -> None:
    """Within the bytes that were given, the newest are kept."""
    store = open_store(path, clock, max_bytes=2**20)
    for number in range(20):
        await turn(store, f"r{number}", size=50_000)
    kept = [number for number in range(20) if await store.get(ORG, f"r{number}")]
    assert kept == list(range(20 - len(kept), 20))
    assert 8 <= len(kept) <= 10
    await store.close()
    assert path.stat().st_size <= 2**20 + 200_000  # one response more, while it is written


async def test_what_fits_in_no_way_is_refused_and_nothing_goes(path: Path, clock: Clock) -> None:
    """A response larger than all the room."""
    store = open_store(path, clock, max_bytes=2**20)
    await turn(store, "small")
    with pytest.raises(StoreFailed, match="doesn't fit"):
        await turn(store, "large", size=2**20)
    assert await store.get(ORG, "small") is not None
    assert await store.get(ORG, "large") is None
    await store.close()


async def test_a_lock_that_lasts_too_long_fails_and_the_next_write_works(path: Path, clock: Clock) -> None:
    """Reads go on meanwhile."""
    store = open_store(path, clock, patience=0.1)
    await turn(store, "r1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    failed = await asyncio.gather(*(turn(store, f"x{number}") for number in range(8)), return_exceptions=True)
    assert all(isinstance(error, StoreFailed) for error in failed)
    assert await store.get(ORG, "r1") is not None
    other.execute("COMMIT")
    other.close()
    await turn(store, "r2")
    assert await store.get(ORG, "r2") is not None
    await store.close()


async def test_a_file_that_is_gone_fails_everything_and_is_logged_once(
    store: ResponseStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it is back; the next time is logged again."""
    await turn(store, "r1")
    for name in ("r2", "r3"):
        caplog.clear()
        away = path.rename(path.with_name("away.db"))
        for failing in (turn(store, name), store.get(ORG, "r1"), store.history(ORG, "r1"), store.delete(ORG, "r1")):
            with pytest.raises(StoreFailed, match=r"headstart\.db was moved or removed; put it back, or restart"):
                await failing
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        away.rename(path)
        await turn(store, name)
    assert count(path, "responses") == 3


async def test_a_lock_leaves_the_event_loop_free(path: Path, clock: Clock) -> None:
    """While a write waits, everything else runs."""
    store = open_store(path, clock, patience=0.5)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(turn(store, "r1"))
    ticks = 0
    while ticks < 20:
        await asyncio.sleep(0.005)
        ticks += 1
        assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    await waiting
    await store.close()


async def test_two_servers_share_one_file(path: Path, clock: Clock) -> None:
    """What one stores, the other finds and continues; they write at once."""
    one, two = open_store(path, clock), open_store(path, clock)
    await turn(one, "r1")
    await turn(two, "r2", "r1")
    assert ids(await one.history(ORG, "r2")) == ["u-r1", "a-r1", "u-r2", "a-r2"]
    await asyncio.gather(*(turn(store, f"{name}{n}") for n in range(20) for name, store in (("a", one), ("b", two))))
    assert count(path, "responses") == 42
    await one.close()
    await two.close()


class Model:
    """The same store in plain words: every response with its whole conversation."""

    def __init__(self) -> None:
        self.conversations: dict[str, list[str]] = {}

    def add(self, name: str, parent: str | None) -> None:
        earlier = self.conversations[parent] if parent else []
        self.conversations[name] = [*earlier, f"u-{name}", f"a-{name}"]

    @property
    def items(self) -> set[str]:
        """Every item that something refers to."""
        return {item for conversation in self.conversations.values() for item in conversation}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "reply", "delete"]), st.integers(0, 30)), max_size=25))
def test_any_history_leaves_exactly_what_is_referred_to(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Of any adds, replies and deletions, the conversations are right and no other item is left."""
    path = tmp_path_factory.mktemp("store") / "headstart.db"

    async def play() -> None:
        store, model = open_store(path, Clock()), Model()
        for number, (step, pick) in enumerate(steps):
            names = list(model.conversations)
            chosen = names[pick % len(names)] if names else None
            if step == "delete" and chosen:
                assert await store.delete(ORG, chosen)
                del model.conversations[chosen]
            else:
                parent = chosen if step == "reply" else None
                await turn(store, f"r{number}", parent)
                model.add(f"r{number}", parent)
        for name, conversation in model.conversations.items():
            assert ids(await store.history(ORG, name)) == conversation
        assert count(path, "items") == len(model.items)
        await store.close()

    asyncio.run(play())
