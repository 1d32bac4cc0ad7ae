"""What requests cost: input as it was served, at the provider's published price of the day."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.audit.replay import BLOCKS, Served
from headstart.ledger.price_list import Tokens, published
from headstart.types import Retention


@dataclass(frozen=True)
class Settings:
    """`retention`: of interval models' requests that don't say. `blocks`: that the replayed cache holds. `now`: Unix
    time whose prices are taken where a log has no times."""

    retention: Retention = "24h"
    blocks: int = BLOCKS
    now: float = 0.0


def cost_of(served: Served, settings: Settings, tokens: Tokens | None = None) -> int | None:
    """What its input costs, as it was served or as `tokens` say, in picodollars; None without a price."""
    price = published(served.call.model, served.call.time or settings.now, served.profile.provider)
    if price is None:
        return None
    if tokens is None:
        tokens = Tokens(served.input, served.read, served.written, served.long)
    return price.cost(tokens, None, 0.0).cost


def weight(served: Served, settings: Settings) -> int:
    """A cost, or where there is no price, one that is in proportion at the usual rates."""
    cost = cost_of(served, settings)
    if cost is not None:
        return cost
    write = 0 if served.profile.rules == "interval" else 25
    return 100 * served.input - 90 * served.read + write * (served.written + served.long)
