"""All figures of docs/performance.md in one run: `python -m benchmarks [--peer-url URL] [--json FILE]`."""

from __future__ import annotations

import argparse

from benchmarks import (
    burst,
    conversation,
    decode,
    figure,
    ledger,
    overhead,
    pressure,
    promotion,
    restart,
    rules,
    tutorial,
    users,
    write_behind,
)


def figures(arguments: argparse.Namespace) -> list[figure.Figure]:
    arguments.rounds, arguments.tokens, arguments.size, arguments.users = 5, 10_000, 8, 100
    arguments.print_model, arguments.print_cache_ram, arguments.turns, arguments.sentences = False, False, 20, 1
    arguments.rows = 1_000_000
    serving = (tutorial, conversation, burst, *((decode,) if arguments.peer_url else ()))
    found = []
    for script in (rules, *serving, users, promotion, restart, write_behind, pressure, overhead, ledger):
        print(f"{script.__name__} …", flush=True)
        found += script.figures(arguments)
    return found


if __name__ == "__main__":
    figure.run(__doc__, figures, peer_url=decode.OPTIONS_HERE["peer_url"], peer_model=decode.OPTIONS_HERE["peer_model"])
