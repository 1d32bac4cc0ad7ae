"""Several blocks as one state: llama.cpp takes a state at a time, and looks through all cells of the context for each.

    block 1   | head | positions | K of layer 0 | K of layer 1 | … | V of layer 0 | …
    block 2   | head | positions | K of layer 0 | K of layer 1 | … | V of layer 0 | …
    joined    | head | positions of 1, of 2 | K of layer 0 of 1, of 2 | K of layer 1 of 1, of 2 | …

That is llama.cpp's own form of a sequence's state (`llama_kv_cache::state_write`), with values not transposed. What
doesn't have exactly this form is passed on block by block, as it was saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

HEAD = np.dtype([("magic", "<u4"), ("sequence", "<i4"), ("streams", "<u4"), ("cells", "<u4")])
CELL = np.dtype([("position", "<i4"), ("holders", "<u4"), ("sequence", "<i4")])
LAYERS = np.dtype([("transposed", "<u4"), ("layers", "<u4")])
TENSOR = np.dtype([("type", "<i4"), ("row", "<u8")])
"""Before the cells of each tensor; `row`: bytes of one cell."""
BUFFER_BYTES = 4 << 20
"""Of what is joined. It stays in the processor's cache, so that joining costs half a copy; and blocks that are not much
smaller gain nothing."""


class Band(NamedTuple):
    """Tensors in a row of the same `row` bytes per cell, the first at `start`."""

    start: int
    tensors: int
    row: int


class Form(NamedTuple):
    """Where everything is in a block of `cells` tokens and `size` bytes."""

    cells: int
    size: int
    bands: tuple[Band, ...]

    @classmethod
    def of(cls, block: Bytes) -> Form | None:
        """None if it is not of the form above."""
        if len(block) < HEAD.itemsize:
            return None
        head = block[: HEAD.itemsize].view(HEAD)[0]
        cells = int(head["cells"])
        values = HEAD.itemsize + cells * CELL.itemsize
        at = values + LAYERS.itemsize
        if head["streams"] != 1 or not cells or len(block) < at or (_cells(block, cells)["holders"] != 1).any():
            return None
        layers = block[values:at].view(LAYERS)[0]
        tensors: list[tuple[int, int]] = []
        while at + TENSOR.itemsize <= len(block):
            row = int(block[at : at + TENSOR.itemsize].view(TENSOR)["row"][0])
            tensors.append((at, row))
            at += TENSOR.itemsize + row * cells
        if at != len(block) or layers["transposed"] or len(tensors) not in (layers["layers"], 2 * layers["layers"]):
            return None
        bands = [list(band) for _, band in groupby(tensors, key=lambda tensor: tensor[1])]
        return cls(cells, len(block), tuple(Band(*band[0][:1], len(band), band[0][1]) for band in bands))

    def fits(self, block: Bytes) -> bool:
        """Whether a block of the same model has this form."""
        return len(block) == self.size and int(block[: HEAD.itemsize].view(HEAD)["cells"][0]) == self.cells


class Joiner:
    """Joins blocks of one model, all but the last of which have the same number of tokens. For one thread."""

    def __init__(self, size: int = BUFFER_BYTES) -> None:
        self._size = size
        self._form: Form | None = None
        self._buffer = np.empty(0, np.uint8)

    def states(self, blocks: Sequence[Bytes]) -> Iterator[Bytes]:
        """The blocks, in order, in as few states as fit. A state lives until the next is asked for."""
        if len(blocks) > 1 and (self._form is None or not self._form.fits(blocks[0])):
            self._form = Form.of(blocks[0])
        form = self._form
        most = self._size // form.size if form is not None else 1
        at = 0
        while at < len(blocks):
            count = 0
            while form is not None and count < min(most, len(blocks) - at) and form.fits(blocks[at + count]):
                count += 1
            if form is None or count < 2:
                count = 1
                yield blocks[at]
            else:
                yield self._join(blocks[at : at + count], form)
            at += count

    def _join(self, blocks: Sequence[Bytes], form: Form) -> Bytes:
        if not len(self._buffer):
            self._buffer = np.empty(self._size, np.uint8)
        first, cells, count = blocks[0], form.cells, len(blocks)
        state = self._buffer[: form.size + (count - 1) * (form.size - _overhead(form))]
        state[: HEAD.itemsize] = first[: HEAD.itemsize]
        state[: HEAD.itemsize].view(HEAD)["cells"] = cells * count
        for number, block in enumerate(blocks):
            _cells(state, cells * count)[number * cells : (number + 1) * cells] = _cells(block, cells)
        moved = (count - 1) * cells * CELL.itemsize  # how much later than in a block the next thing begins
        layers = HEAD.itemsize + cells * CELL.itemsize
        state[layers + moved :][: LAYERS.itemsize] = first[layers:][: LAYERS.itemsize]
        for start, tensors, row in form.bands:
            size = row * cells
            joined = _rows(state, start + moved, tensors, size * count)
            joined[:, : TENSOR.itemsize] = _rows(first, start, tensors, size)[:, : TENSOR.itemsize]
            joined = joined[:, TENSOR.itemsize :]
            for number, block in enumerate(blocks):
                values = _rows(block, start, tensors, size)[:, TENSOR.itemsize :]
                joined[:, number * size : (number + 1) * size] = values
            moved += tensors * size * (count - 1)
        return state


def _cells(state: Bytes, cells: int) -> npt.NDArray[np.void]:
    return state[HEAD.itemsize : HEAD.itemsize + cells * CELL.itemsize].view(CELL)


def _rows(state: Bytes, start: int, tensors: int, size: int) -> Bytes:
    """Tensors of `size` bytes from `start` on, each behind its head; shape (tensors, head and size)."""
    width = TENSOR.itemsize + size
    return state[start : start + tensors * width].reshape(tensors, width)


def _overhead(form: Form) -> int:
    """Bytes of a block that are there once in what is joined."""
    return HEAD.itemsize + LAYERS.itemsize + sum(band.tensors for band in form.bands) * TENSOR.itemsize
