"""A log as a trace of hashed blocks, for `headstart simulate`: the prompts' own blocks, as the cache names them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from headstart.audit.call import Call, Skipped
from headstart.audit.models import profile_of
from headstart.audit.replay import SECRET, STEP, Prompts
from headstart.cache.hashing import block_digests, namespace_key
from headstart.simulate.trace import MOST_SHOWN, Trace, in_order
from headstart.simulate.trace import Skipped as SkippedLine
from headstart.types import BLOCK_TOKENS, Namespace


def trace_of(calls: Iterable[Call | Skipped]) -> Trace:
    """The trace of a log. Raises `ValueError` if no request can be read of it."""
    prompts, names = Prompts(), dict[bytes, int]()
    times, blocks = array("d"), array("q")
    lengths, outputs, starts = array("q"), array("q"), array("q", [0])
    skipped, examples, now = 0, list[SkippedLine](), 0.0
    for call in calls:
        try:
            if isinstance(call, Skipped):
                raise ValueError(call.reason)
            request, prompt = prompts.build(call)
        except ValueError as error:
            skipped += 1
            if len(examples) < MOST_SHOWN:
                examples.append(SkippedLine(call.line, str(error)))
            continue
        generation = profile_of(call.model, call.generation).generation
        namespace = Namespace(call.organisation, call.model, generation, request.cache.key)
        now = now + STEP if call.time is None else call.time
        times.append(now)
        lengths.append(len(prompt.tokens))
        outputs.append(call.usage.output if call.usage else 0)
        chain = block_digests(prompt.tokens, namespace_key(SECRET, namespace, prompt.settings))
        blocks.extend([names.setdefault(digest, len(names)) for digest in chain])
        starts.append(len(blocks))
    if not lengths:
        raise ValueError(f"line {examples[0].line}: {examples[0].reason}" if examples else "there is none.")
    return in_order(
        Trace(
            np.array(times),
            np.array(lengths, np.int64),
            np.array(outputs, np.int64),
            np.array(starts, np.int64),
            np.array(blocks, np.int64),
            BLOCK_TOKENS,
            skipped,
            tuple(examples),
        )
    )
