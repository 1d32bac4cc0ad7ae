"""RAM, disk and promises on a context and a disk that know everything: what was promised is there, and what is read is
one's own."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.engine.model_disk import ModelDisk
from tests.engine.test_scheduler import BLOCK_BYTES, ROOMY, Client, prompt_of

from headstart.engine.cells import Bounds
from headstart.engine.scheduler import Budget
from headstart.engine.sequence import Sequence
from headstart.errors import EngineFailed
from headstart.types import CacheReport, Lost, Placed, Plan, StoredBlock, Ttl, Written

COLD = ROOMY._replace(hot_prefixes=0)
HOUR = 3600.0


def report_of(client: Client, number: int = -1) -> CacheReport:
    """What became of a request in the cache."""
    placed = client.sent[number][1][0]
    assert isinstance(placed, Placed)
    return placed.report


def ask(client: Client, *parts: tuple[int, int], ttl: Ttl = "30m") -> CacheReport:
    """A request whose parts are user messages of a breakpoint model, served to its end."""
    prompt = prompt_of(*parts, (9, 3))
    ends = tuple(sum(length for _, length in parts[: at + 1]) for at in range(len(parts)))
    client.send(prompt, ends=ends, ttl=ttl)
    client.run()
    client.check_all()
    return report_of(client)


def restarted(client: Client, down: float = 0.0) -> Client:
    """The process is killed, and another one started on its disk."""
    assert client.disk is not None
    client.disk.queue.clear()
    client.disk.ended.clear()
    client.now += down
    client.start()
    return client


def test_what_was_promised_is_read_after_a_restart() -> None:
    """From disk, all of it, until its time is up, counted from the last use."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=100)
    assert ask(client, (1, 2000), ttl="12h").written == Written(2000, 2000)
    restarted(client, down=3 * HOUR)
    report = ask(client, (1, 2000), (2, 300), ttl="12h")
    assert (report.read, report.from_disk, report.written.tokens) == (2000, 2000, 300)
    restarted(client, down=11.9 * HOUR)
    assert ask(client, (1, 2000)).read == 2000
    restarted(client, down=12.1 * HOUR)
    report = ask(client, (1, 2000))
    assert (report.read, report.lost) == (0, Lost(2000, "expired"))


def test_what_is_in_memory_never_reaches_the_disk() -> None:
    """docs/contract.md: `in_memory` is in memory."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=100)
    client.send(prompt_of((1, 2000)), retention="in_memory")
    client.run()
    assert client.index.tally().stored == 15
    assert client.disk is not None
    assert not client.disk.written


def test_memory_pressure_leaves_what_is_promised() -> None:
    """RAM for 20 blocks, ten prompts of 16: all of them are read again, from the disk or from RAM."""
    client = Client(COLD, 24, disk=ModelDisk(), disk_blocks=1000)
    for value in range(1, 11):
        assert ask(client, (value, 2000)).refused == 0
    for value in range(1, 11):
        assert ask(client, (value, 2000), (11, 20)).read == 2000
    assert client.index.tally().stored <= 24


@pytest.mark.parametrize("disk_blocks", [0, 40])
def test_what_cannot_be_promised_is_refused_and_nothing_promised_goes_for_it(disk_blocks: int) -> None:
    """Room for the promises of two prompts of 16 blocks and a half: the third is served, and said not to be written."""
    disk = ModelDisk() if disk_blocks else None
    client = Client(COLD, ram_blocks=53, disk=disk, disk_blocks=disk_blocks)
    assert ask(client, (1, 2000)).written == ask(client, (2, 2000)).written == Written(2000)
    report = ask(client, (3, 2000))
    assert (report.written, report.refused) == (Written(), 2000)
    assert client.scheduler.counters.refused == 2000
    for value in (3, 4, 5, 6):
        ask(client, (value, 2000))
    assert [ask(client, (value, 2000)).read for value in (1, 2)] == [2000, 2000]
    client.now += 1800
    assert ask(client, (3, 2000)).written == Written(2000), "there is room again"


def test_what_was_refused_is_kept_as_long_as_there_is_room() -> None:
    """Best effort, as `in_memory`; and it says what it was when it is gone."""
    client = Client(COLD, ram_blocks=20)
    assert ask(client, (1, 2000)).refused == 2000
    assert ask(client, (1, 2000)).read == 2000
    client.now = 600.0
    report = ask(client, (1, 2000))
    assert (report.read, report.lost) == (0, Lost(2000, "refused"))


def test_a_part_can_be_promised() -> None:
    """Of two breakpoints the shorter one fits, and is written."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=20)
    assert ask(client, (1, 2000)).written == Written(2000)
    report = ask(client, (1, 2000), (2, 1000))
    assert (report.read, report.written, report.refused) == (2000, Written(), 1000)
    client.now += 1800.0
    prompt = prompt_of((3, 3000))
    client.send(prompt, retention="24h")
    client.run()
    report = report_of(client)
    assert (report.written.tokens, report.refused) == (20 * 128, 3 * 128)


def test_an_organisation_has_its_share() -> None:
    """What one has been promised leaves another's half alone."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=32, share=0.5)
    refused = []
    for organisation, value in (("org", 1), ("org", 2), ("other", 1)):
        client.send(prompt_of((value, 2000), (9, 1)), organisation=organisation, ends=(2000,))
        client.run()
        refused.append(report_of(client).refused)
    assert refused == [0, 2000, 0]


def test_promises_are_made_before_the_prompt_is_computed() -> None:
    """Two at once, room for one: the second is told so, whatever becomes of the first."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=20)
    first = client.send(prompt_of((1, 2000), (9, 1)), ends=(2000,))
    client.send(prompt_of((2, 2000), (9, 1)), ends=(2000,))
    client.step()
    first.cancelled = True
    client.sent.pop(0)
    client.run()
    assert report_of(client).refused == 2000
    assert ask(client, (3, 2000)).refused == 0, "what was reserved is given back"


def test_who_decodes_waits_for_no_disk() -> None:
    """While one prefix is on its way from the disk, others get their tokens; who wants it too waits."""
    client = Client(COLD, ram_blocks=40, disk=ModelDisk(), disk_blocks=100)
    ask(client, (1, 2000))
    restarted(client)
    assert client.disk is not None
    client.disk.polls = 30
    slow = client.send(prompt_of((1, 2000), (5, 3)), ends=(2000,))
    same = client.send(prompt_of((1, 2000), (6, 3)), ends=(2000,))
    other = client.send(prompt_of((2, 100)), max_tokens=10)
    for _ in range(15):
        client.step()
    assert other.finished
    assert not slow.started
    client.disk.polls = 0
    client.run()
    client.check_all()
    assert (same.report and same.report.from_context, same.waited) == (2000, True)
    assert client.disk.fetched == 16


@pytest.mark.parametrize("bad", [0, 7, 15])
def test_a_block_that_cannot_be_read_is_a_miss_behind_it(bad: int) -> None:
    """What is before it is still read, where a boundary ends there; the next request computes nothing twice."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=100)
    client.send(prompt_of((1, 2048), (9, 1)), retention="24h")
    client.run()
    assert client.disk is not None
    restarted(client)
    plan = client.sent[0][0].plan
    client.disk.unreadable.add(plan.blocks[bad])
    expected = bad * 128 if bad * 128 >= 1024 else 0
    for read, tail in ((expected, 5), (2048, 6)):
        client.send(prompt_of((1, 2048), (tail, 3)), retention="24h")
        client.run()
        client.check_all()
        assert report_of(client).read == read
    client.disk.unreadable.clear()
    restarted(client)
    client.send(prompt_of((1, 2048), (7, 3)), retention="24h")
    client.run()
    assert report_of(client).from_disk == 2048, "what was lost has been written again"


def test_a_full_disk_leaves_promises_in_memory() -> None:
    """They stay, new ones that memory can't keep are refused, and it is written once there is room."""
    client = Client(COLD, ram_blocks=40, disk=ModelDisk(), disk_blocks=1000)
    assert client.disk is not None
    client.disk.full = True
    assert ask(client, (1, 2000)).refused == 0
    client.now += 60
    assert ask(client, (2, 2000)).refused == 2000, "30 blocks of RAM may be relied on, and 32 would be"
    assert ask(client, (1, 2000)).read == 2000
    client.disk.full = False
    for _ in range(2):
        client.now += 10
        client.run()
    restarted(client)
    assert ask(client, (1, 2000)).from_disk == 2000


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_jumped_while_the_server_was_down(jump: float) -> None:
    """Back: no life is longer than a full one from now. Forward: what is over is a miss."""
    client = Client(COLD, disk=ModelDisk(), disk_blocks=100)
    ask(client, (1, 2000))
    assert client.disk is not None
    client.disk.shift(jump)
    restarted(client)
    assert ask(client, (1, 2000)).read == (2000 if jump < 0 else 0)
    client.now += 1800.0
    assert ask(client, (1, 2000)).read == 0


def test_a_failed_engine_finds_again_what_is_on_disk() -> None:
    """All that memory had is forgotten, as after a restart."""
    client = Client(disk=ModelDisk(), disk_blocks=100)
    ask(client, (1, 2000))
    client.scheduler.fail(EngineFailed("it broke"), client.now)
    assert client.index.tally().stored == 0
    assert ask(client, (1, 2000)).from_disk == 2000


@pytest.mark.parametrize(("cut", "stem", "suffix"), [(1152, 30, 19), (1152, 60, 3), (1024, 63, 1)])
def test_a_tail_in_ram_behind_blocks_in_the_context(cut: int, stem: int, suffix: int) -> None:
    """Someone hot shares the whole blocks only; the tail behind them comes back, and nothing between is missing."""
    client = Client(ROOMY._replace(hot_prefixes=1))
    ask(client, (1, cut), (2, stem))
    ask(client, (1, cut), (3, 300))
    report = ask(client, (1, cut), (2, stem), (4, suffix))
    assert report.read == cut + stem


def test_what_was_left_to_a_sequence_that_goes_early_is_kept() -> None:
    """A finished prompt is covered by one that still prefills; that one is cancelled, or the server stops."""
    for stops in (False, True):
        client = Client(disk=ModelDisk(), disk_blocks=1000)
        assert client.disk is not None
        first = client.send(prompt_of((1, 1280), (9, 3)), max_tokens=6, ends=(1280,))
        while not first.started:
            client.step(tidy=0)
        second = client.send(prompt_of((1, 1280), (2, 6000), (9, 3)), max_tokens=2, ends=(1280, 7280))
        while not first.finished:
            client.step(tidy=0)
        if stops:
            client.scheduler.stop(EngineFailed("The server is shutting down."))
            client.cells.save_all()
            client.disk.settle()
            assert len(client.disk.rows) == 10
        else:
            second.cancelled = True
            client.step()
            assert client.index.is_readable(first.plan.digest(1280), client.now)


def test_a_prompt_that_is_being_answered_is_written_already() -> None:
    """A long answer doesn't keep its prompt from the disk."""
    client = Client(disk=ModelDisk(), disk_blocks=1000)
    assert client.disk is not None
    sequence = client.send(prompt_of((1, 2000), (9, 3)), max_tokens=60, ends=(2000,))
    for _ in range(30):
        client.step()
        client.disk.settle()
    assert not sequence.finished
    assert len(client.disk.rows) == 16
    client.run()
    client.check_all()


def test_nothing_stays_reserved() -> None:
    """Preempted while its prefix is on its way from the disk, a prompt is placed again: when all is over, nothing is
    promised."""
    disk = ModelDisk()
    client = Client(Bounds(4096 + 256, 3, 0, 0), 60, disk=disk, disk_blocks=100)
    ask(client, (1, 2000))
    restarted(client)
    client.sent.clear()
    disk.polls = 10**6
    client.send(prompt_of((5, 1900)), max_tokens=700, ends=(1900,))
    for _ in range(5):
        client.step()
    late = client.send(prompt_of((1, 2000), (6, 100)), max_tokens=2, ends=(2000, 2100))
    while not client.scheduler.counters.preemptions and client.step():
        assert late.report is None
    disk.polls = 0
    client.run()
    client.now += 10 * HOUR
    client.run()
    tally = client.index.tally()
    assert (tally.blocks, tally.promised_bytes, tally.unsafe_bytes) == (0, 0, 0)


def test_what_fails_while_it_gets_its_place_fails_once() -> None:
    """And those behind it are served."""
    client = Client()
    bad = client.send(prompt_of((2, 2000)))
    reserve = client.index.reserve

    def failing(plan: Plan, now: float) -> tuple[Plan, list[bytes]]:
        if plan is bad.plan:
            raise KeyError("a defect")
        return reserve(plan, now)

    client.index.reserve = failing  # type: ignore[method-assign]
    with pytest.raises(KeyError):
        client.step()
    client.scheduler.fail(EngineFailed("it broke"), client.now)
    client.sent.clear()
    assert bad.finished
    client.send(prompt_of((1, 2000)))
    client.run()
    client.check_all()


def test_what_is_promised_takes_the_room_of_what_is_brought_back() -> None:
    """RAM for 40 blocks: 25 of a prompt that waits for the rest of it from a slow disk; another's 20 find room."""
    disk = ModelDisk()
    client = Client(Bounds(16_384, 4, 0, 0), ram_blocks=40, disk=disk, disk_blocks=1000)
    ask(client, (1, 3200))
    ask(client, (1, 3200), (2, 2048))
    restarted(client)
    ask(client, (1, 3200))
    disk.polls = 10**6
    slow = client.send(prompt_of((1, 3200), (2, 2048), (9, 3)), ends=(3200, 5248))
    client.step()
    other = client.send(prompt_of((5, 2560), (9, 3)), max_tokens=2, ends=(2560,))
    while not other.finished:
        client.step(64)
    for _ in range(3):
        client.step(64)
    assert other.report is not None
    assert other.report.written.tokens == 2560
    assert client.index.is_readable(other.plan.digest(2560), client.now)
    slow.cancelled = True
    client.sent = [sent for sent in client.sent if sent[0] is not slow]
    client.run()
    client.check_all()


class Keeping(RuleBasedStateMachine):
    """Whatever comes, short of a fault of the disk itself: an entry that was promised can be read until its time is up,
    and every answer is the right one."""

    @initialize(
        hot=st.sampled_from([(0, 0), (2, 4096)]),
        ram_blocks=st.sampled_from([0, 12, 24, 60, 1000]),
        disk_blocks=st.sampled_from([0, 10, 30, 1000]),
        share=st.sampled_from([1.0, 0.5]),
    )
    def start(self, hot: tuple[int, int], ram_blocks: int, disk_blocks: int, share: float) -> None:
        disk = ModelDisk() if disk_blocks else None
        self.client = Client(Bounds(8192, 3, hot[0], hot[1]), ram_blocks, Budget(300, 70), disk, disk_blocks, share)
        self.promised: dict[bytes, tuple[int, float]] = {}
        self.placed: dict[int, tuple[Sequence, float]] = {}

    @rule(
        stem=st.integers(1, 9),
        cut=st.sampled_from([500, 1024, 1100, 1280, 1500]),
        length=st.sampled_from([0, 28, 128, 600]),
        organisation=st.sampled_from(["org", "other"]),
        ttl=st.sampled_from(["30m", "12h"]),
        at_once=st.integers(0, 3),
    )
    def send(self, stem: int, cut: int, length: int, organisation: str, ttl: Ttl, at_once: int) -> None:
        """Mostly served to the end; now and then it is left on its way."""
        if len(self.client.scheduler.waiting) < 6:
            ends = (cut, cut + length) if length else (cut,)
            self.client.send(prompt_of((stem, cut), (stem + 1, length), (9, 2)), 2, organisation, ends, ttl)
        if at_once:
            self.client.run()
            self.note()

    @rule(steps=st.integers(1, 12), done=st.integers(0, 20))
    def step(self, steps: int, done: int) -> None:
        for _ in range(steps):
            self.client.step()
            self.note()
        if self.client.disk is not None:
            self.client.disk.settle(done)

    @rule(polls=st.integers(0, 9))
    def slow_disk(self, polls: int) -> None:
        if self.client.disk is not None:
            self.client.disk.polls = polls

    @precondition(lambda self: self.client.sent)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.client.sent) - 1))
        sent = self.client.sent.pop(number)
        sent[0].cancelled = not sent[0].finished

    @rule(seconds=st.sampled_from([0.5, 300.0, 900.0, 1800.0, 40_000.0]))
    def wait(self, seconds: float) -> None:
        self.client.now += seconds

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        if self.client.disk is not None:
            self.client.disk.full = full

    @rule(engine=st.booleans())
    def restart(self, engine: bool) -> None:
        """A crash of the process or of the engine alone: what had not reached the disk is lost with it."""
        disk = self.client.disk
        self.client.sent.clear()
        if engine:
            self.client.scheduler.fail(EngineFailed("injected"), self.client.now)
            self.client.scheduler.waiting.clear()
        elif disk is None:
            self.client.start()
        else:
            restarted(self.client)
        there = disk.rows if disk else {}
        self.promised = {digest: entry for digest, entry in self.promised.items() if self.is_whole(digest, there)}
        for digest, (boundary, _) in self.promised.items():
            row = there[digest]
            ends = 0.0 if row.written is None else row.used + row.life.idle
            self.promised[digest] = boundary, ends

    def is_whole(self, digest: bytes | None, rows: dict[bytes, StoredBlock]) -> bool:
        """Whether a crash has left the block and all before it."""
        while digest in rows:
            digest = rows[digest].parent
        return digest is None

    def note(self) -> None:
        for sequence, _, _ in self.client.sent:
            if sequence.report is not None:
                _, when = self.placed.setdefault(id(sequence), (sequence, self.client.now))
                if sequence.started:
                    self.note_promises(sequence, when)

    def note_promises(self, sequence: Sequence, when: float) -> None:
        """All it writes was written, or used, when it got its place, or later."""
        for boundary in sequence.plan.writes:
            life = sequence.plan.life(boundary)
            if life.promised:
                _, ends = self.promised.get(sequence.plan.digest(boundary), (0, 0.0))
                until = max(ends, when + life.idle)
                self.promised[sequence.plan.digest(boundary)] = boundary, until

    @invariant()
    def is_kept(self) -> None:
        if not hasattr(self, "client"):
            return
        self.client.cells.check_integrity(self.client.scheduler.running)
        for digest, (_, ends) in self.promised.items():
            assert self.client.now >= ends or self.client.index.is_readable(digest, self.client.now)
        tally, ram = self.client.index.tally(), self.client.ram_blocks * BLOCK_BYTES
        assert tally.stored_bytes <= ram
        assert tally.disk_bytes <= self.client.disk_blocks * BLOCK_BYTES

    def teardown(self) -> None:
        if hasattr(self, "client"):
            if self.client.disk is not None:
                self.client.disk.polls = 0
            self.client.run()
            self.client.check_all()


Keeping.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestKeeping = Keeping.TestCase
