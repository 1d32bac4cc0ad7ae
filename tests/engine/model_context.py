"""A context made of dictionaries, which knows at every cell exactly which prefix it was computed from.

It computes nothing: the logits after a prefix are a hash of that prefix. A scheduler that reuses the wrong cells,
leaves a hole or computes a token twice either fails an assertion here or generates other tokens than `expected`.
"""

from __future__ import annotations

import pickle

import numpy as np

VOCABULARY = 50
END = 0


def after(parent: int, token: int) -> int:
    """The state after one more token."""
    return hash((parent, int(token)))


def expected(prompt: np.ndarray, count: int) -> list[int]:
    """What a run without any cache generates: up to `count` tokens, or until the end of the turn."""
    state, tokens = 1, []
    for token in prompt:
        state = after(state, token)
    while len(tokens) < count:
        tokens.append(state % VOCABULARY)
        if tokens[-1] == END:
            break
        state = after(state, tokens[-1])
    return tokens


class ModelContext:
    """`Context` of cells that remember. `capacity` is in cells; `refuse` makes that many restores fail."""

    def __init__(self, capacity: int, batch: int) -> None:
        self.capacity, self.refuse, self.failures = capacity, 0, 0
        self.tokens, self.positions, self.sequences = (np.zeros(batch, np.int32) for _ in range(3))
        self.outputs = np.zeros(batch, np.int8)
        self.cells: dict[int, dict[int, object]] = {}  # slot -> position -> cell; a shared cell is one object
        self.computed = 0
        self.decodes = 0

    def state(self, slot: int, position: int) -> int:
        return 1 if position < 0 else self.cells[slot][position].state  # type: ignore[attr-defined]

    def used(self) -> int:
        return len({id(cell) for cells in self.cells.values() for cell in cells.values()})

    def decode(self, count: int) -> int:
        if self.failures:
            self.failures -= 1
            return -1
        self.decodes += 1
        for at in range(count):
            slot, position = int(self.sequences[at]), int(self.positions[at])
            cells = self.cells.setdefault(slot, {})
            assert sorted(cells) == list(range(position)), "a token is computed after a hole, or twice"
            cells[position] = Cell(after(self.state(slot, position - 1), self.tokens[at]))
            self.computed += 1
        assert self.used() <= self.capacity, "more cells than the context has"
        return 0

    def logits(self, at: int) -> np.ndarray:
        assert self.outputs[at]
        row = np.zeros(VOCABULARY, np.float32)
        row[self.state(int(self.sequences[at]), int(self.positions[at])) % VOCABULARY] = 1
        return row

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        cells = self.cells.setdefault(target, {})
        for position in range(start, stop):
            assert position not in cells
            cells[position] = self.cells[source][position]

    def dump(self, sequence: int, length: int) -> np.ndarray:
        assert len(self.cells[sequence]) == length, "a state is saved where it is"
        return self.save(sequence, 0, length)

    def load(self, sequence: int, data: np.ndarray, length: int) -> bool:
        assert not self.cells.get(sequence)
        return self.restore(sequence, data, 0, length)

    def keep(self, sequence: int, length: int) -> bool:
        cells = self.cells.get(sequence, {})
        self.cells[sequence] = {position: cell for position, cell in cells.items() if position < length}
        return True

    def save(self, sequence: int, start: int, stop: int) -> np.ndarray:
        states = [self.state(sequence, position) for position in range(start, stop)]
        return np.frombuffer(pickle.dumps(states).ljust(2000, b"."), np.uint8)

    def restore(self, sequence: int, blocks: np.ndarray | list[np.ndarray], start: int, stop: int) -> bool:
        if self.refuse:
            self.refuse -= 1
            return False
        states = []
        for at, data in enumerate([blocks] if isinstance(blocks, np.ndarray) else blocks):
            saved = pickle.loads(data.tobytes())
            assert at == 0 or not len(states) % 128, "a block follows one that isn't whole"
            states += saved
        assert len(states) >= stop - start
        states = states[: stop - start]
        cells = self.cells.setdefault(sequence, {})
        for position, state in zip(range(start, stop), states, strict=True):
            assert position not in cells
            cells[position] = Cell(state)
        assert self.used() <= self.capacity
        return True

    def weigh(self, tokens: int) -> int:
        return 2000

    def clear(self) -> None:
        self.cells.clear()

    def close(self) -> None:
        self.clear()


class Cell:
    """One token's keys and values, standing for the whole prefix that they were computed from."""

    def __init__(self, state: int) -> None:
        self.state = state


class Greedy:
    """`Sampler` and `Vocabulary` of the model."""

    space_prefix = False

    def choose(self, logits: np.ndarray) -> int:
        return int(logits.argmax())

    def close(self) -> None:
        pass

    def piece(self, token: int) -> bytes:
        return b"%d " % token

    def ends_turn(self, token: int) -> bool:
        return token == END
