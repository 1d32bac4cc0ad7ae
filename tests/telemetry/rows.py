"""Rows of usage as the server makes them, for tests to vary."""

from __future__ import annotations

from hypothesis import strategies as st

from headstart.types import GAP_BOUNDS, Usage

MODELS = frozenset({"gpt-4.1-mini", "gpt-5.6"})
PLAIN = Usage(
    time=1_790_000_000.25,
    organisation="acme-corp",
    key="alice-laptop",
    model="gpt-5.6",
    endpoint="responses",
    status="completed",
    total=1.5,
    id="resp_1",
    cache_key="c0ffee",
    input=4_612,
    cached=4_480,
    written_30m=100,
    written_12h=20,
    unkept=12,
    output=33,
    ttft=0.05,
    cause="prefix_changed",
    missed=128,
    path="input[0].content",
    kind="timestamp",
    cost=500_900_000,
    uncached_cost=1_844_800_000,
)
NO_GAPS = (0,) * (len(GAP_BOUNDS) + 1)

counts = st.integers(0, 10**6)
rows = st.builds(
    Usage,
    time=st.just(1_790_000_000.0),
    organisation=st.just("acme-corp"),
    key=st.just("alice-laptop"),
    model=st.one_of(st.sampled_from([*sorted(MODELS), ""]), st.text(max_size=20)),
    endpoint=st.sampled_from(["responses", "chat.completions"]),
    status=st.sampled_from(["completed", "incomplete", "failed", "cancelled", "refused"]),
    total=st.floats(0, 1000),
    input=counts,
    cached=counts,
    written_30m=counts,
    written_12h=counts,
    unkept=counts,
    output=counts,
    ttft=st.none() | st.floats(0, 200),
    error=st.none() | st.sampled_from(["server_error", "model_not_found"]),
    cause=st.none() | st.sampled_from(["expired", "evicted", "prefix_changed"]),
    missed=counts,
    cost=st.none() | counts,
    uncached_cost=st.none() | counts,
)
gaps = st.lists(st.integers(0, 50), min_size=len(NO_GAPS), max_size=len(NO_GAPS))
