"""One request on its way through the context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from headstart.engine.context import Sampler, Vocabulary
from headstart.engine.holding import Holding, Piece
from headstart.engine.pages import Page, pages_for
from headstart.engine.promotion import Promotion
from headstart.engine.sampling import token_logprob
from headstart.engine.text import TextStream
from headstart.errors import EngineFailed, RequestError
from headstart.types import (
    CacheReport,
    Delta,
    Event,
    Finished,
    Plan,
    Sampling,
    Started,
    TokenIds,
    TokenLogprob,
)


class Sequence:
    """Its tokens, how far they are computed, and what it holds.

        0 ........ computed ........ length ........ capacity
        [ in cells, and  ][  to compute   ][ to generate  ]
        [ in `holding`   ]

    While `length - computed` is 1 and the prompt is computed it decodes; else it prefills. A sequence that lost its
    cells (preemption) simply has `computed` 0 again: prompt and output so far are prefilled like any prompt. While what
    it reads is brought back, `promotion` says how far that is. `plan` is what the index could promise of what was
    `asked`, and `reserved` for it. The first `saved` of its prompt's `pieces` are outside the context, too. It took
    `seconds` of computing so far, and what was read saved it `saved_seconds`.
    """

    def __init__(
        self,
        prompt: TokenIds,
        plan: Plan,
        sampling: Sampling,
        sampler: Sampler,
        vocabulary: Vocabulary,
        max_tokens: int,
        emit: Callable[[Event | RequestError], None],
    ) -> None:
        self.plan = self.asked = plan
        self.prompt_length = self.length = len(prompt)
        self.tokens = np.empty(len(prompt) + max_tokens, np.int32)
        self.tokens[: len(prompt)] = prompt
        self.computed = 0
        self.holding = Holding(plan)
        self.slot = -1
        self.pages: list[Page] = []
        self.report: CacheReport | None = None
        self.promotion: Promotion | None = None
        self.reserved: list[bytes] = []
        self.pieces: tuple[Piece, ...] = ()
        self.saved = 0
        self.seconds = self.saved_seconds = 0.0
        self.cancelled = False
        self.finished = False
        self.started = False
        self.waited = False
        self.emit = emit
        self.sampler = sampler
        self._vocabulary = vocabulary
        self._text = TextStream(sampling.stop)
        self._logprobs = sampling.logprobs

    @property
    def lacks_page(self) -> bool:
        """Whether it needs one more: a sequence always has one ahead of its tokens."""
        return len(self.pages) <= pages_for(self.length)

    @property
    def next_state(self) -> int:
        """Where its state has to be saved next, in tokens, if it can't be cut; else its whole length."""
        stops = self.plan.writes if self.plan.whole else ()
        return next((stop for stop in stops if stop > self.computed), self.length)

    @property
    def pending(self) -> int:
        """Tokens known and not yet computed."""
        return self.length - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether more than the newest token has to be computed."""
        return self.pending > 1 or self.computed < self.prompt_length

    @property
    def spared(self) -> int:
        """Tokens that were read and so are not computed: some of the last that were read may be, with those behind."""
        return 0 if self.report is None else min(self.report.read, self.prompt_length - self.report.prefilled)

    def advance(self, logits: npt.NDArray[np.float32]) -> None:
        """Everything is computed: choose the next token from the last one's logits, and say so."""
        if not self.started:
            assert self.report is not None, "it was placed"
            self.started = True
            self.emit(Started(self.report))
            if self.length == len(self.tokens):  # nothing is wanted but the prefill
                self._finish("stop", "")
                return
        token = self.sampler.choose(logits)
        self.tokens[self.length] = max(token, 0)
        self.length += 1
        if token < 0:
            self.finished = True
            self.emit(EngineFailed("The output format allows no token here: the vocabulary can't spell what it asks."))
            return
        if self._vocabulary.ends_turn(token):
            self._finish("stop", self._text.finish())
            return
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._logprobs is not None:
            logprobs = (token_logprob(logits, token, self._logprobs, self._vocabulary.piece),)
        piece = self._vocabulary.piece(token)
        if self._vocabulary.space_prefix and self.length == self.prompt_length + 1:
            piece = piece.removeprefix(b" ")
        text = self._text.push(piece)
        if text or logprobs:
            self.emit(Delta(text, logprobs))
        if self._text.stopped:
            self._finish("stop", "")
        elif self.length == len(self.tokens):
            self._finish("length", self._text.finish())

    def leave(self) -> None:
        """It no longer holds anything in the context."""
        self.pages, self.slot, self.computed, self.holding, self.promotion = [], -1, 0, Holding(self.plan), None
        self.pieces, self.saved = (), 0

    def end(self, error: RequestError | None = None) -> None:
        """It will not be computed again; `error` says so to the client."""
        self.sampler.close()
        if error is not None and not self.finished:
            self.finished = True
            self.emit(error)

    def _finish(self, reason: Literal["stop", "length"], text: str) -> None:
        if text:
            self.emit(Delta(text))
        self.finished = True
        self.emit(Finished(reason, self.length - self.prompt_length, self.seconds, self.saved_seconds))
