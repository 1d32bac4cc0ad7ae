"""What is said of a chosen token: its log-probability and its likeliest rivals'."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from headstart.types import TokenLogprob


def token_logprob(logits: npt.NDArray[np.float32], token: int, top: int, piece: Callable[[int], bytes]) -> TokenLogprob:
    """Natural log-probabilities under the model itself (temperature 1, no penalties), of logits of shape (vocabulary,).

    `top` rivals are given, likeliest first; the chosen token is among them if it is that likely.
    """
    peak = float(logits.max())
    total = peak + float(np.log(np.exp(logits - peak, dtype=np.float32).sum(dtype=np.float64)))

    def entry(rival: int, rivals: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        data = piece(rival)
        return TokenLogprob(data.decode("utf-8", "replace"), data, float(logits[rival]) - total, rivals)

    likeliest: list[int] = []
    if top:
        best = np.argpartition(logits, -top)[-top:]
        likeliest = [int(rival) for rival in best[np.argsort(-logits[best], kind="stable")]]
    return entry(token, tuple(entry(rival) for rival in likeliest))
