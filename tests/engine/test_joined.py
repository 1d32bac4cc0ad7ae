"""Blocks joined to one state: what llama.cpp takes for several blocks is what it would have saved of them at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from headstart.engine.joined import HEAD, Form, Joiner
from headstart.engine.llama import LlamaContext, LlamaModel

BLOCK, BLOCKS = 128, 7
TOKENS = np.random.default_rng(1).integers(0, 400, BLOCKS * BLOCK + 50, np.int32)
SEQUENCE = HEAD.fields["sequence"][1] if HEAD.fields else 0


@pytest.fixture
def context(plain: LlamaModel) -> Iterator[LlamaContext]:
    """A context of 2,048 cells whose sequence 0 holds seven blocks and 50 tokens more."""
    context = LlamaContext(plain, cells=2048, batch=1024, sequences=4, threads=2, kv_type="f32")
    count = len(TOKENS)
    context.tokens[:count], context.positions[:count] = TOKENS, np.arange(count)
    context.sequences[:count], context.outputs[:count] = 0, 0
    assert context.decode(count) == 0
    yield context
    context.close()


def saved(context: LlamaContext, sequence: int = 0) -> list[np.ndarray]:
    """The blocks, and a tail of 50 tokens behind them."""
    stops = [*range(BLOCK, BLOCKS * BLOCK + 1, BLOCK), len(TOKENS)]
    return [context.save(sequence, (stop - 1) // BLOCK * BLOCK, stop) for stop in stops]


def test_joined_blocks_are_the_state_of_all_of_them(context: LlamaContext) -> None:
    """Byte by byte what llama.cpp writes for the whole run."""
    blocks = saved(context)[:-1]
    (joined,) = Joiner().states(blocks)
    assert np.array_equal(joined, context.save(0, 0, BLOCKS * BLOCK))


@pytest.mark.parametrize("fit", [0, 1, 2, 3, 6, 7, 20])
def test_every_block_comes_back_whatever_fits_in_the_buffer(context: LlamaContext, fit: int) -> None:
    """Seven blocks and a tail, between cells that others hold: saved again, they are the same bytes."""
    blocks = saved(context)
    context.__dict__["_joiner"] = Joiner(fit * len(blocks[0]))
    context.share(0, 1, 300, 700)
    context.keep(0, 0)
    assert context.restore(2, blocks, 0, len(TOKENS))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(saved(context, 2), blocks, strict=True))


def test_blocks_continue_a_sequence_that_holds_the_beginning(context: LlamaContext) -> None:
    """Two blocks are shared, the rest is restored behind them."""
    blocks = saved(context)
    context.share(0, 1, 0, 2 * BLOCK)
    assert context.restore(1, blocks[2:], 2 * BLOCK, len(TOKENS))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(saved(context, 1), blocks, strict=True))


def test_without_cells_for_all_of_them_none_comes_back(plain: LlamaModel, context: LlamaContext) -> None:
    """Room for six of seven blocks: the sequence keeps what it had, and every other cell is free again."""
    blocks = saved(context)[:-1]
    small = LlamaContext(plain, cells=768, batch=512, sequences=4, threads=2, kv_type="f32")
    small.__dict__["_joiner"] = Joiner(2 * len(blocks[0]))
    assert small.restore(0, blocks[:1], 0, BLOCK)
    assert not small.restore(0, blocks[1:], BLOCK, BLOCKS * BLOCK)
    assert np.array_equal(small.save(0, 0, BLOCK), blocks[0])
    assert small.restore(1, blocks[:5], 0, 5 * BLOCK)
    small.close()


def test_what_has_another_form_is_passed_on_as_it_was_saved(context: LlamaContext) -> None:
    """Transposed values, several streams, a part that is missing, bytes too many: nothing is joined."""
    block = context.save(0, 0, BLOCK)
    damaged = [block.copy() for _ in range(2)]
    damaged[0].view(np.uint32)[2] = 2  # streams
    damaged[1].view(np.uint32)[4 + 3 * BLOCK] = 1  # values transposed
    for state in (*damaged, block[:-1], block[:10], np.append(block, block[:1]), block[:0]):
        assert Form.of(state) is None
        assert [id(part) for part in Joiner().states([state, state])] == [id(state)] * 2


def test_blocks_that_another_process_saved_are_joined_too(context: LlamaContext) -> None:
    """The sequence that they were saved from is not looked at."""
    blocks = saved(context)[:-1]
    for number, block in enumerate(blocks):
        block[SEQUENCE : SEQUENCE + 4] = number
    context.keep(0, 0)
    assert context.restore(2, blocks, 0, BLOCKS * BLOCK)
    assert np.array_equal(context.save(2, 128, 256)[BLOCK:], blocks[1][BLOCK:])
