"""Whatever a log's lines are, the audit ends, and every line is either replayed or told as skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.audit.audit import Settings, audit
from headstart.audit.call import Call
from headstart.audit.fixes import difference, fixes
from headstart.audit.formats.known import calls_of
from headstart.audit.logs import read
from headstart.audit.redaction import masked
from headstart.audit.summary import document

NAMES = (
    "model messages input instructions tools role content type text function name arguments tool_calls cache_control "
    "ttl request response usage timestamp custom_id url body attributes resourceSpans scopeSpans spans key value "
    "system input_tokens cached_tokens input_tokens_details prompt_cache_key prompt_cache_options headstart_capture "
    "traceId call_type tool_use tool_result reasoning format json_schema parameters gen_ai.input.messages "
    "gen_ai.request.model"
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "gpt-5.1", "gpt-5.6", "claude-3", "function", "[{", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
LINES = st.dictionaries(st.sampled_from(NAMES.split()), VALUES, min_size=1, max_size=6)


@settings(deadline=None, max_examples=300)
@given(st.lists(LINES | VALUES, max_size=5))
def test_any_json(lines: list[Any]) -> None:
    """It is read or skipped, and the report can be told."""
    found = [each for number, line in enumerate(lines, 1) for each in calls_of(line, number, None)]
    report, _, calls = audit(found, Settings())
    assert report.requests + report.skipped == len(found)
    json.dumps(document(report, masked))
    for fix in fixes(report.findings, calls):
        difference(fix, masked)


def test_a_token_bomb(tmp_path: Path) -> None:
    """Millions of characters that make few or many tokens; the next line is read."""
    texts = ("a" * 3_000_000, "\u200b\U0001f642" * 100_000, "a" * 3_000_000, "Hello")
    path = tmp_path / "log"
    path.write_text("\n".join(json.dumps({"model": "mystery", "input": text}) for text in texts))
    report, _, _ = audit(read(path), Settings())
    assert report.requests == 4
    assert report.total("predicted").cached > 300_000
    assert any("not known" in note for note in report.notes)


def test_times_out_of_order_or_missing() -> None:
    """They are put in order; those without a time stay behind the one before them."""
    body = {"model": "gpt-5.1", "input": "Rule. " * 2000}
    times = (50.0, 10.0, None, 40.0)
    calls = [Call(number, "responses", body, time) for number, time in enumerate(times, 1)]
    report, _, ordered = audit(calls, Settings())
    assert [call.line for call in ordered] == [2, 3, 4, 1]
    assert (report.shuffled, report.timed, report.seconds) == (2, 3, 40.0)
