"""What is known of one block."""

from __future__ import annotations

from typing import NamedTuple

from headstart.types import BLOCK_TOKENS, Fate, Lifetime, Namespace

_NEVER = Lifetime(0.0, 0.0)


class Block:
    """A block, and the entry that ends with it, if any.

    `holders` counts sequences, `kids` the children in RAM. `weight` is its bytes, `size` those in RAM or 0. `disk`: it
    is there; `writing`: it is on its way there; `durable`: it may be there. `kept`: it has been outside the context.
    `until`: when nothing needs it any more. `offered`: `retention` may take it. `written`, `used` and `life` are the
    entry's; `written` is None where there is none. `refused`: it was to be promised, and is not. `born`: when the block
    was written first. `hits`: requests that read its entry, or one that went on from it and is gone.
    """

    __slots__ = (
        *("born", "depth", "disk", "durable", "hits", "holders", "kept", "kids", "life", "offered", "owner", "parent"),
        *("refused", "size", "stop", "until", "used", "weight", "writing", "written"),
    )

    def __init__(self, parent: bytes | None, stop: int, owner: Namespace, weight: int, now: float) -> None:
        self.parent, self.stop, self.owner, self.weight, self.until = parent, stop, owner, weight, now
        self.depth = (stop - 1) // BLOCK_TOKENS
        self.holders = self.kids = self.size = self.hits = 0
        self.durable = True
        self.disk = self.writing = self.kept = self.refused = self.offered = False
        self.written: float | None = None
        self.born, self.used, self.life = now, now, _NEVER

    @property
    def ends(self) -> float:
        """When the entry's life is over."""
        written = self.written  # read once: other threads look at blocks too (`cache.prefixes`)
        return 0.0 if written is None else min(self.used + self.life.idle, written + self.life.total)

    @property
    def promised(self) -> float:
        """Until when the entry is promised; 0 if it isn't."""
        return self.ends if self.life.promised else 0.0

    def readable(self, now: float) -> bool:
        """Whether the entry lives."""
        return self.written is not None and now < self.ends


class Gone(NamedTuple):
    """An entry whose block went at some time before its life was over at `ends`."""

    ends: float
    fate: Fate
