"""What causes are called where a person reads them."""

from __future__ import annotations

from collections.abc import Mapping

CAUSES: Mapping[str, str] = {
    "below_minimum": "The shared prefix is too short",
    "prefix_changed": "The prefix changes",
    "expired": "Gaps are longer than entries live",
    "evicted": "Entries had to go for others",
    "refused": "Entries could not be kept",
    "different_key": "Keys are too fine: the same prefix under several prompt_cache_keys",
    "key_too_coarse": "A key is too coarse: more than 15 requests a minute",
    "boundary_not_marked": "The shared prefix isn't marked",
    "unread_writes": "Writes that nobody reads",
    "unrepeated": "Caching can't pay: the prompts don't repeat",
    "output_not_cached": "Repeated requests: answers are never cached",
}
KINDS: Mapping[str, str] = {
    "timestamp": "A timestamp breaks the prefix",
    "date": "A date breaks the prefix",
    "time": "A time of day breaks the prefix",
    "uuid": "A UUID breaks the prefix",
    "counter": "A number that counts breaks the prefix",
    "user_identifier": "A user's identifier breaks the prefix",
    "request_identifier": "A request's identifier breaks the prefix",
    "whitespace": "White space differs",
    "setting": "A setting of the prefix changes",
    "reordered_tools": "Tools come in another order",
    "reordered_keys": "JSON keys come in another order",
    "reordered_text": "Texts come in another order",
    "changed_tools": "Tools change",
    "edited_history": "The history is edited or shortened",
}


def title(cause: str, kind: str | None) -> str:
    """A finding in a few words."""
    return KINDS.get(kind or "", CAUSES.get(cause, cause))
