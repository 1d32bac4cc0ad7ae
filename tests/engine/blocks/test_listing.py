"""What a command line sees of a cache, and clears."""

from __future__ import annotations

import math
import os

import pytest
from tests.engine.blocks.chains import NOW, OWNER, block, inner, keep
from tests.engine.blocks.conftest import Cache

from headstart.engine.blocks.catalogue import Selection
from headstart.engine.blocks.listing import EVERYTHING, InUse, Listing, Totals, clear, in_use
from headstart.errors import StartError
from headstart.types import Lifetime

LONG = Lifetime(43200.0, math.inf, True)
OTHER = OWNER._replace(organisation="umbrella", key=None)
BLOCKS = [inner(0), block(1), inner(2), block(3, life=LONG), block(8, owner=OTHER), block(9, owner=OTHER)]


@pytest.fixture
def filled(cache: Cache) -> Cache:
    """A cache with two prompts, of two organisations."""
    with cache.directory() as directory:
        tier = directory.tier(b"fingerprint", description="tiny.gguf")
        keep(tier, BLOCKS, size=1000)
    return cache


def listing_of(cache: Cache, selection: Selection = EVERYTHING, now: float = NOW) -> tuple[list[int], Totals]:
    """Tokens of the entries, and totals."""
    with Listing(cache.path) as listing:
        return sorted(each.stop for each in listing.entries(selection, now)), listing.totals(selection, now)


def test_entries_are_listed_with_their_owners(filled: Cache) -> None:
    """And with how long they are kept."""
    with Listing(filled.path) as listing:
        entries = {(each.owner.organisation, each.stop): each for each in listing.entries(now=NOW)}
    assert sorted(entries) == [("acme", 256), ("acme", 512), ("umbrella", 128), ("umbrella", 256)]
    long = entries["acme", 512]
    assert long == (OWNER, 512, 1000, NOW, NOW, NOW + 43200, True, "tiny.gguf")


def test_totals_count_shared_blocks_once(filled: Cache) -> None:
    """768 tokens are held, by two prompts that share nothing: a prefix that another goes on from isn't counted. A third
    that parts from one of them shares its first 256."""
    assert listing_of(filled)[1] == Totals(6, 6000, 768, 4, 1, 512 + 256)
    with filled.directory() as directory:
        tier = directory.tier(b"fingerprint")
        tier.load()
        branch = BLOCKS[1]._replace(digest=b"branch".ljust(32), parent=BLOCKS[1].digest, stop=384)
        keep(tier, [branch], size=1000)
    totals = listing_of(filled)[1]
    assert (totals.tokens, totals.shared) == (768 + 128, 512 + 256 + 384)


def test_a_selection_is_listed(filled: Cache) -> None:
    """By organisation, by model, by key, and by what has expired."""
    assert listing_of(filled, Selection(organisation="umbrella"))[0] == [128, 256]
    assert listing_of(filled, Selection(key=OWNER.key))[0] == [256, 512]
    assert listing_of(filled, Selection(model="another"))[0] == []
    assert listing_of(filled, now=NOW + 1801)[0] == [512]
    assert listing_of(filled, Selection(expired_only=True), NOW + 1801)[0] == [128, 256, 256]
    assert listing_of(filled, Selection(expired_only=True))[0] == []


def test_a_running_server_can_be_looked_at(cache: Cache) -> None:
    """Without disturbing it; clearing beside it is refused with its process."""
    with cache.tier() as tier:
        keep(tier, BLOCKS, size=1000)
        assert in_use(cache.path)
        assert listing_of(cache)[0] == [128, 256, 256, 512]
        with pytest.raises(InUse, match=f"process {os.getpid()}"):
            clear(cache.path, Selection(), NOW)
    assert not in_use(cache.path)


@pytest.mark.parametrize(
    ("selection", "now", "gone", "left"),
    [
        (Selection(), NOW, (6, 4), []),
        (Selection("umbrella"), NOW, (2, 2), [inner(0), block(1), inner(2), block(3, life=LONG)]),
        (Selection(key="c0ffee", model="gpt-4.1-mini"), NOW, (4, 2), BLOCKS[4:]),
        (Selection(model="another"), NOW, (0, 0), BLOCKS),
        (Selection(expired_only=True), NOW, (0, 0), BLOCKS),
        (Selection(expired_only=True), NOW + 1801, (2, 2), [*map(inner, range(3)), block(3, life=LONG)]),
    ],
)
def test_a_selection_is_cleared(
    filled: Cache, selection: Selection, now: float, gone: tuple[int, int], left: list[object]
) -> None:
    """Rows and files, where no server runs; what a living entry needs stays."""
    cleared = clear(filled.path, selection, now)
    assert (cleared.blocks, cleared.entries) == gone
    assert len(filled.files()) == len(left)
    filled.now = now
    with filled.tier(b"fingerprint") as tier:
        assert sorted(tier.load()) == sorted(left)


def test_where_there_is_no_cache_one_is_told(cache: Cache) -> None:
    """Nor is one made by looking."""
    with pytest.raises(StartError, match=f"There is no disk cache in {cache.path}"):
        Listing(cache.path)
    with pytest.raises(StartError, match="can't be read"):
        clear(cache.path, Selection(), NOW)
    assert not in_use(cache.path)
    assert not cache.path.exists()


def test_a_damaged_catalogue_is_told_of(filled: Cache) -> None:
    """And what mends it."""
    (filled.path / "catalogue.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(StartError, match=r"file is not a database\. .*the next start of a server replaces it"):
        listing_of(filled)
