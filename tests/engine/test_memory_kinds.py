"""What llama.cpp does with memory that isn't one row of keys and values per token: what may be shared, cut, saved.

Each test compares logits, and what is chosen by them, with a run that never saved, shared or cut anything. Flash
attention is off: it rounds to f16, and without it both runs agree to a thousandth, where another block in the prefix
moves a logit by 0.3 or more.

    sliding    positions may be cut and shared if the cache is full-size *and* every cell has two owners
    recurrent  only the whole state; a snapshot of it puts a sequence back where it was taken
    hybrid     as recurrent; keys and values of a range may be shared or saved, and the snapshot does the rest
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import llama_cpp as ll
import numpy as np
import pytest
from tests.engine.tiny_models import WRITERS, write_sliding

from headstart.engine.llama import Bytes, LlamaContext, LlamaModel

BLOCK = 128
TOLERANCE = 1e-3
PARTIAL = ll.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
STATES = ("recurrent", "hybrid")


class MemoryContext(LlamaContext):
    """A context without flash attention, and with as many `owners` of each cell as told."""

    def __init__(
        self, model: LlamaModel, *, cells: int = 4096, sequences: int = 4, owners: int = 1, **params: Any
    ) -> None:
        params = {"flash_attn_type": 0, "swa_full": True, **params}
        make = ll.llama_init_from_model

        def changed(handle: Any, wanted: Any) -> Any:
            for name, value in params.items():
                setattr(wanted, name, value)
            return make(handle, wanted)

        memory = {1: "cells", 2: "window"}[owners] if model.memory != "state" else "state"
        with patch.object(ll, "llama_init_from_model", changed), patch.dict(model.__dict__, memory=memory):
            super().__init__(model, cells=cells, batch=512, sequences=sequences, threads=2, kv_type="f32")

    def last(self, sequence: int) -> int:
        """The last position of the sequence, or -1."""
        return int(ll.llama_memory_seq_pos_max(self._memory, sequence))


def pointer(data: Bytes) -> Any:
    """For llama.cpp."""
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def whole(context: LlamaContext, sequence: int) -> Bytes:
    """All that llama.cpp has of a sequence."""
    data = np.empty(ll.llama_state_seq_get_size(context.handle, sequence), np.uint8)
    assert ll.llama_state_seq_get_data(context.handle, pointer(data), len(data), sequence) == len(data)
    return data


def put_whole(context: LlamaContext, sequence: int, data: Bytes) -> bool:
    """Put it in place of what the sequence has."""
    return bool(ll.llama_state_seq_set_data(context.handle, pointer(data), len(data), sequence) == len(data))


def tokens_of(seed: int, count: int) -> np.ndarray:
    """Random ordinary tokens."""
    return np.random.default_rng(seed).integers(0, 500, count, np.int32)


STEM, SUFFIX = tokens_of(1, 10 * BLOCK), tokens_of(2, 40)
PROMPT = np.concatenate([STEM, SUFFIX])


def compute(context: LlamaContext, sequence: int, tokens: np.ndarray, start: int = 0, chunk: int = 512) -> np.ndarray:
    """The logits after the last of `tokens`, which stand from position `start` on."""
    for at in range(0, len(tokens), chunk):
        part = tokens[at : at + chunk]
        count = len(part)
        context.tokens[:count] = part
        context.positions[:count] = np.arange(start + at, start + at + count)
        context.sequences[:count] = sequence
        context.outputs[:count] = 0
        context.outputs[count - 1] = 1
        assert context.decode(count) == 0
    return context.logits(count - 1).copy()


def answer(context: LlamaContext, sequence: int, tokens: np.ndarray, start: int = 0) -> np.ndarray:
    """Logits after `tokens` and after each of six that follow by choosing the likeliest; shape (7, vocabulary)."""
    rows = [compute(context, sequence, tokens, start)]
    for at in range(start + len(tokens), start + len(tokens) + 6):
        rows.append(compute(context, sequence, np.array([rows[-1].argmax()], np.int32), at))
    return np.array(rows)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two answers are one: the same tokens, and logits within the tolerance."""
    equal = (found.argmax(-1) == expected.argmax(-1)).all()
    return bool(equal and np.abs(found - expected).max() < TOLERANCE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LlamaModel]]:
    """One of each kind, by its name."""
    folder = tmp_path_factory.mktemp("kinds")
    found = {}
    for kind, write in WRITERS.items():
        write(folder / f"{kind}.gguf")
        found[kind] = LlamaModel(folder / f"{kind}.gguf")
    yield found
    for model in found.values():
        model.close()


@pytest.fixture
def make(models: dict[str, LlamaModel]) -> Iterator[Callable[..., MemoryContext]]:
    """Contexts by kind, closed in the end."""
    made: list[MemoryContext] = []

    def one(kind: str, **options: Any) -> MemoryContext:
        made.append(MemoryContext(models[kind], **options))
        return made[-1]

    yield one
    for context in made:
        context.close()


@pytest.fixture(scope="module")
def expected(models: dict[str, LlamaModel]) -> Callable[[str, np.ndarray], np.ndarray]:
    """The answer to a prompt by a context that saw nothing else; remembered."""
    known: dict[tuple[str, bytes], np.ndarray] = {}

    def one(kind: str, tokens: np.ndarray) -> np.ndarray:
        key = kind, tokens.tobytes()
        if key not in known:
            context = MemoryContext(models[kind], sequences=1)
            known[key] = answer(context, 0, tokens)
            context.close()
        return known[key]

    return one


Make = Callable[..., MemoryContext]
Expected = Callable[[str, np.ndarray], np.ndarray]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_block_anywhere_in_a_prefix_moves_the_logits(make: Make, expected: Expected, kind: str) -> None:
    """Else the other tests would show nothing."""
    context = make(kind)
    for at in range(0, len(STEM), 3 * BLOCK):
        other = PROMPT.copy()
        other[at : at + BLOCK] = tokens_of(50 + at, BLOCK)
        assert np.abs(compute(context, 0, other) - expected(kind, PROMPT)[0]).max() > 0.2
        context.clear()


@pytest.mark.parametrize("kind", WRITERS)
def test_where_a_prompt_is_cut_into_batches_changes_nothing(make: Make, expected: Expected, kind: str) -> None:
    """So it may be cut where a snapshot is wanted."""
    context = make(kind)
    for chunk in (BLOCK, 100, 37):
        assert np.abs(compute(context, 0, PROMPT, chunk=chunk) - expected(kind, PROMPT)[0]).max() < TOLERANCE
        context.clear()


# ------------------------------------------------------------------------------------------------------ sliding window


def displace(context: MemoryContext) -> None:
    """A short sequence leaves and a long one comes: its tokens are placed from the freed cells on, past those of
    sequence 1, with room for all behind them."""
    compute(context, 0, tokens_of(5, 200))
    compute(context, 1, STEM)
    context.keep(0, 0)
    compute(context, 2, tokens_of(6, 1000))


def test_a_window_cache_of_window_size_forgets(make: Make, expected: Expected) -> None:
    """The default: what is behind the window is overwritten, so a sequence can't be taken back to there."""
    context = make("sliding", sequences=1, swa_full=False)
    compute(context, 0, np.concatenate([STEM, tokens_of(3, 1000)]))
    context.keep(0, 600)
    assert not same(answer(context, 0, PROMPT[600:], 600), expected("sliding", PROMPT))


def test_a_full_window_cache_gives_cells_of_one_owner_away(make: Make, expected: Expected) -> None:
    """`swa_full` alone isn't enough: a cell behind its only owner's window counts as free, before empty ones."""
    context = make("sliding")
    displace(context)
    context.share(1, 3, 0, 600)
    assert not same(answer(context, 3, PROMPT[600:], 600), expected("sliding", PROMPT))


def test_a_full_window_cache_keeps_cells_of_two_owners(make: Make, expected: Expected) -> None:
    """The same story: sharing, cutting back and going on are right."""
    context = make("sliding", owners=2)
    displace(context)
    context.share(1, 3, 0, 600)
    assert same(answer(context, 3, PROMPT[600:], 600), expected("sliding", PROMPT))
    context.keep(1, 900)
    assert same(answer(context, 1, PROMPT[900:], 900), expected("sliding", PROMPT))


def test_blocks_of_a_full_window_cache_leave_and_come_back(make: Make, expected: Expected) -> None:
    """All have one size, and a sequence made of them may be cut within one."""
    context = make("sliding", owners=2)
    compute(context, 1, STEM)
    blocks = [context.save(1, at, at + BLOCK) for at in range(0, len(STEM), BLOCK)]
    assert len({block.nbytes for block in blocks}) == 1
    context.clear()
    displace(context)
    context.keep(1, 0)
    for number, block in enumerate(blocks):
        assert context.restore(3, block, number * BLOCK, (number + 1) * BLOCK)
    assert same(answer(context, 3, SUFFIX, len(STEM)), expected("sliding", PROMPT))
    context.keep(3, 1000)
    assert same(answer(context, 3, PROMPT[1000:], 1000), expected("sliding", PROMPT))


@pytest.mark.parametrize(("window", "right"), [(64, False), (127, False), (128, True)])
def test_a_window_must_be_as_long_as_a_block(tmp_path: Path, window: int, right: bool) -> None:
    """A saved block lacks what is behind the window at its end. From there one may go on, but not from within it."""
    write_sliding(tmp_path / "model.gguf", window=window)
    model = LlamaModel(tmp_path / "model.gguf")
    alone, context = MemoryContext(model), MemoryContext(model, owners=2)
    reference = answer(alone, 0, PROMPT)
    compute(context, 0, STEM)
    blocks = [context.save(0, at, at + BLOCK) for at in range(0, len(STEM), BLOCK)]
    context.clear()
    for cut, good in ((len(STEM), True), (len(STEM) - 40, right)):
        for number, block in enumerate(blocks):
            assert context.restore(2, block, number * BLOCK, (number + 1) * BLOCK)
        context.keep(2, cut)
        assert same(answer(context, 2, PROMPT[cut:], cut), reference) == good
        context.keep(2, 0)
    for closed in (alone, context, model):
        closed.close()


@pytest.mark.parametrize("seed", range(2))
def test_any_history_of_a_full_window_cache_with_two_owners(make: Make, expected: Expected, seed: int) -> None:
    """Prompts come and go in a context that is nearly full, sharing, restoring and cutting whatever is there."""
    rng, context, cells = np.random.default_rng(seed), make("sliding", owners=2, sequences=5), 4096
    held: dict[int, np.ndarray] = {}
    blocks: dict[int, Bytes] = {}
    reused = 0
    for _ in range(16):
        slot, read = int(rng.integers(5)), int(rng.integers(300, len(STEM)))
        prompt = np.concatenate([STEM[:read], tokens_of(int(rng.integers(4)), 20)])
        context.keep(slot, 0)
        held.pop(slot, None)
        while sum(map(len, held.values())) + len(prompt) + 150 > cells:
            context.keep(held_slot := next(iter(held)), 0)
            del held[held_slot]
        donor = max(held, key=lambda other: len(held[other]), default=None)
        start = 0
        if donor is not None and rng.random() < 0.6:
            start = min(read, len(held[donor]) - 20)
            context.share(donor, slot, 0, start)
        while start % BLOCK == 0 and start + BLOCK <= read and start in blocks:
            assert context.restore(slot, blocks[start], start, start + BLOCK)
            start += BLOCK
        if start > 300 and rng.random() < 0.3:
            start -= int(rng.integers(1, 70))
            context.keep(slot, start)
        row = compute(context, slot, prompt[start:], start)
        held[slot] = prompt
        for at in range(0, read - BLOCK + 1, BLOCK):
            if rng.random() < 0.5:
                blocks[at] = context.save(slot, at, at + BLOCK)
        if start and rng.random() < 0.4:
            assert np.abs(row - expected("sliding", prompt)[0]).max() < TOLERANCE
            reused += 1
    assert reused > 2


# ------------------------------------------------------------------------------------------------ recurrent and hybrid


@pytest.mark.parametrize("kind", STATES)
def test_a_state_can_not_be_cut(make: Make, kind: str) -> None:
    """Only all of it is removed; a cut is refused and changes nothing. One behind the end has nothing to do."""
    context = make(kind)
    compute(context, 0, STEM)
    assert not context.keep(0, len(STEM) - 1)
    assert not context.keep(0, 600)
    assert context.keep(0, len(STEM))
    assert context.last(0) == len(STEM) - 1
    assert context.keep(0, 0)
    assert context.last(0) == -1


@pytest.mark.parametrize("kind", STATES)
def test_a_slot_that_was_emptied_begins_anew(make: Make, expected: Expected, kind: str) -> None:
    """`keep(slot, 0)` is all it takes."""
    context = make(kind)
    compute(context, 0, tokens_of(7, 500))
    context.keep(0, 0)
    assert same(answer(context, 0, PROMPT), expected(kind, PROMPT))


@pytest.mark.parametrize("kind", STATES)
def test_a_sequence_shared_as_a_whole_may_diverge(make: Make, expected: Expected, kind: str) -> None:
    """The state is copied when one of them goes on; the others are right, even when the donor has left."""
    context = make(kind)
    compute(context, 0, STEM)
    context.share(0, 1, 0, len(STEM))
    context.share(0, 2, 0, len(STEM))
    assert same(answer(context, 1, SUFFIX, len(STEM)), expected(kind, PROMPT))
    other = tokens_of(8, 30)
    assert same(answer(context, 0, other, len(STEM)), expected(kind, np.concatenate([STEM, other])))
    context.keep(0, 0)
    compute(context, 0, tokens_of(9, 700))
    assert same(answer(context, 2, SUFFIX, len(STEM)), expected(kind, PROMPT))


def test_sharing_a_part_of_a_recurrent_sequence_gives_all_of_it(make: Make) -> None:
    """Positions are ignored, and llama.cpp refuses to go on from any but the end."""
    context = make("recurrent")
    compute(context, 0, STEM)
    context.share(0, 1, 0, 640)
    assert context.last(1) == len(STEM) - 1
    with pytest.raises(AssertionError):
        compute(context, 1, PROMPT[640:], 640)


def test_sharing_a_part_of_a_hybrid_sequence_is_silently_wrong(make: Make, expected: Expected) -> None:
    """Keys and values up to there, and the state of the end: nothing refuses."""
    context = make("hybrid")
    compute(context, 0, STEM)
    context.share(0, 1, 0, 640)
    assert context.last(1) == 639
    assert not same(answer(context, 1, PROMPT[640:], 640), expected("hybrid", PROMPT))


@pytest.mark.parametrize("kind", STATES)
def test_a_shared_part_and_a_snapshot_are_a_prefix(make: Make, expected: Expected, kind: str) -> None:
    """The donor, which has gone on long ago, is not harmed."""
    context = make(kind)
    compute(context, 0, STEM[:640])
    snapshot = context.snapshot(0)
    compute(context, 0, STEM[640:], 640)
    context.share(0, 1, 0, 640)
    assert context.resume(1, snapshot)
    assert same(answer(context, 1, PROMPT[640:], 640), expected(kind, PROMPT))
    assert same(answer(context, 0, SUFFIX, len(STEM)), expected(kind, PROMPT))


@pytest.mark.parametrize("kind", STATES)
def test_saved_ranges_and_a_snapshot_are_a_prefix(make: Make, expected: Expected, kind: str) -> None:
    """In another context, at any boundary where a snapshot was taken; what else runs there goes on."""
    writer, reader = make(kind), make(kind, sequences=2)
    snapshots = {}
    for at in range(0, len(STEM), BLOCK):
        compute(writer, 0, STEM[at : at + BLOCK], at)
        snapshots[at + BLOCK] = writer.snapshot(0)
    ranges = [writer.save(0, at, at + BLOCK) for at in range(0, len(STEM), BLOCK)]
    assert same(answer(writer, 0, SUFFIX, len(STEM)), expected(kind, PROMPT))
    compute(reader, 0, tokens_of(9, 700))
    for end in (len(STEM), 640):
        reader.keep(1, 0)
        for at in range(0, end, BLOCK):
            assert reader.restore(1, ranges[at // BLOCK], at, at + BLOCK)
        assert reader.resume(1, snapshots[end])
        assert same(answer(reader, 1, PROMPT[end:], end), expected(kind, PROMPT))
    assert same(answer(reader, 0, SUFFIX, 700), expected(kind, np.concatenate([tokens_of(9, 700), SUFFIX])))


@pytest.mark.parametrize("kind", STATES)
def test_a_whole_state_replaces_what_the_sequence_had(make: Make, expected: Expected, kind: str) -> None:
    """Where there is room for it."""
    context = make(kind)
    compute(context, 0, STEM)
    state = whole(context, 0)
    compute(context, 1, tokens_of(9, 700))
    assert put_whole(context, 1, state)
    assert same(answer(context, 1, SUFFIX, len(STEM)), expected(kind, PROMPT))


def test_a_hybrid_state_without_room_leaves_half_of_what_was_there(make: Make, expected: Expected) -> None:
    """The sequence must be emptied then: its keys and values are gone, its old state is not. Others are untouched."""
    context = make("hybrid", cells=2048)
    compute(context, 0, STEM)
    state = whole(context, 0)
    compute(context, 1, tokens_of(9, 400))
    assert not put_whole(context, 1, state)
    assert context.last(1) == -1
    context.keep(1, 0)
    assert same(answer(context, 1, PROMPT[:600]), expected("hybrid", PROMPT[:600]))
    assert same(answer(context, 0, SUFFIX, len(STEM)), expected("hybrid", PROMPT))


def test_a_recurrent_state_always_has_room(make: Make, expected: Expected) -> None:
    """A cell per sequence, whatever the number of tokens."""
    context = make("recurrent", cells=512, sequences=3)
    for sequence in range(3):
        assert same(answer(context, sequence, PROMPT), expected("recurrent", PROMPT))


@pytest.mark.parametrize("kind", STATES)
def test_a_damaged_snapshot_is_refused(make: Make, expected: Expected, kind: str) -> None:
    """Too short, or of another shape; then the slot is empty and of use."""
    context = make(kind)
    compute(context, 0, STEM)
    snapshot = context.snapshot(0)
    other = snapshot.copy()
    other[8:40] = 255
    for damaged in (snapshot[:-100].copy(), other, snapshot[:0].copy()):
        assert not context.resume(1, damaged)
        assert context.last(1) == -1
    assert same(answer(context, 1, PROMPT[:300]), expected(kind, PROMPT[:300]))


@pytest.mark.parametrize("kind", STATES)
def test_resumed_sequences_run_in_one_batch(make: Make, expected: Expected, kind: str) -> None:
    """A decode, a long and a short prefill together, twice."""
    context = make(kind, cells=8192)
    compute(context, 0, STEM)
    state = whole(context, 0)
    context.keep(0, 0)
    suffixes = [tokens_of(31, 2), tokens_of(32, 300), tokens_of(33, 77)]
    for sequence in range(3):
        assert put_whole(context, sequence, state)
    for half in range(2):
        at, ends = 0, []
        for sequence, suffix in enumerate(suffixes):
            middle = len(suffix) // 2
            part = suffix[middle:] if half else suffix[:middle]
            rows = slice(at, at := at + len(part))
            context.tokens[rows] = part
            context.positions[rows] = len(STEM) + half * middle + np.arange(len(part))
            context.sequences[rows] = sequence
            context.outputs[rows] = 0
            context.outputs[at - 1] = 1
            ends.append(at - 1)
        assert context.decode(at) == 0
    for end, suffix in zip(ends, suffixes, strict=True):
        found = context.logits(end)
        assert np.abs(found - expected(kind, np.concatenate([STEM, suffix]))[0]).max() < TOLERANCE


@pytest.mark.parametrize("kind", WRITERS)
def test_sizes_are_known_from_two_tokens(make: Make, kind: str) -> None:
    """What is saved of a range costs so much per token and a little more; a snapshot is always the same size."""
    context = make(kind, owners=2 if kind == "sliding" else 1)
    saved, snapshots = {}, set()
    for count in (1, 2, BLOCK, 1000):
        compute(context, 0, STEM[:count])
        saved[count] = len(context.save(0, max(count - BLOCK, 0), count))
        if kind in STATES:
            snapshots.add(len(context.snapshot(0)))
        context.clear()
    per_token = saved[2] - saved[1]
    assert saved[1000] == saved[BLOCK] == saved[1] + per_token * (BLOCK - 1)
    assert (per_token == 0) == (kind == "recurrent")
    assert len(snapshots) == (kind in STATES)
