"""An application's own tests of its caching: pytest examples/test_caching.py, with no model and no key."""

from __future__ import annotations

from typing import Any

from headstart.testing import assert_cached

GUIDE = "Rule {}: answer in two sentences, and name the page of the manual.\n"
MANUAL = "".join(GUIDE.format(number) for number in range(120))


def ask(client: Any, question: str) -> Any:
    """What the application does: what stays the same comes first."""
    return client.responses.create(model="gpt-5.1", instructions=MANUAL, input=question)


def test_questions_share_the_manual(headstart_client: Any) -> None:
    """All but the first request find it in the cache."""
    responses = [ask(headstart_client, f"What does rule {number} say?") for number in range(5)]
    assert_cached(responses[1:], at_least=0.9)


def test_the_manual_is_still_there_after_a_quiet_hour(headstart_server: Any, headstart_client: Any) -> None:
    """Entries live for a day after their last use."""
    ask(headstart_client, "What does rule 1 say?")
    headstart_server.clock.advance(3600)
    assert_cached(ask(headstart_client, "And rule 2?"))
