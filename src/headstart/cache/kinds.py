"""What kind of value stands where two prompts part that were meant to be the same: a time, a counter, somebody's id.

Only the newer text is known, so a value is told by its looks and by the words before it. The whole text is never read:
patterns run over a window around the place, and each repetition in them is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Kind = Literal["timestamp", "date", "time", "uuid", "counter", "user_identifier", "request_identifier", "whitespace"]

REMEDIES: Mapping[Kind, str] = MappingProxyType(
    {
        "timestamp": "Move the timestamp behind the part of the prompt that stays the same, or round it to the day.",
        "date": "Move the date behind the part of the prompt that stays the same; here, the prefix lasts a day.",
        "time": "Move the time behind the part of the prompt that stays the same, or leave it out.",
        "uuid": "Move the UUID behind the part of the prompt that stays the same, or send it as `metadata` instead.",
        "counter": "Move the number behind the part of the prompt that stays the same, or leave it out.",
        "user_identifier": "Move what names the user behind the part of the prompt that all users share.",
        "request_identifier": "Take the identifier out of the prompt and send it as `metadata`, or move it to the end.",
        "whitespace": "Write the prompt with the same spaces, tabs and line ends every time.",
    }
)
"""What to do about a value of each kind, in one sentence for a person."""


class Found(NamedTuple):
    """A value of some kind: characters [start, stop) of the text."""

    kind: Kind
    start: int
    stop: int


class Shape(NamedTuple):
    """How values of a kind look. A group `value`, if there is one, is the value; the rest is the label before it. The
    whole may begin up to `reach` characters behind the place, which is known to a token only: fewer for a mere number,
    since any text has some."""

    kind: Kind
    pattern: re.Pattern[str]
    reach: int = 10


BEHIND, AHEAD = 160, 240
"""The window in characters: more than the longest value on either side."""

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_LONG_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_WEEKDAY = rf"(?:{_LONG_DAY}|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b\.?)"
_MM, _DD, _YYYY = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])", r"(?:19|20|21)\d\d"
_DAY = rf"{_DD}(?:st|nd|rd|th)?"
_NUMERIC = rf"(?:{_YYYY}([-/.]){_MM}\1{_DD}|{_DD}([-/.]){_MM}\2{_YYYY}|{_MM}/{_DD}/{_YYYY})"
_WORDED = (
    rf"(?:(?:{_WEEKDAY},? )?(?:{_MONTH} {{1,2}}{_DAY}\b(?:,? {_YYYY})?|{_DAY}[ -/](?:of )?{_MONTH}(?:,?[ -/]{_YYYY})?"
    rf"|{_MONTH} {_YYYY}))"
)
_DATE = rf"(?:{_WORDED}|(?:{_WEEKDAY},? )?{_NUMERIC})"
_NOON = r"(?: ?(?:[AP]M|[ap]m)\b| [ap]\.m\.)"
_TIME = rf"(?:(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d{{1,9}})?)?{_NOON}?)"
_ZONE = r"(?: ?(?:(?:Z|UTC|GMT|[A-Z]{2,3}T)\b)?[+-]\d\d:?\d\d\b| ?(?:Z|UTC|GMT|[A-Z]{2,3}T)\b)?"
_COMPACT = rf"{_YYYY}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_UNIX = r"(?:[1-3]\d{3}|40\d\d|41[0-2]\d)\d{6}(?:\d{3})?(?:\.\d{1,9})?"
_HEX = "[0-9a-fA-F]"
_IS = r"(?:[\"']?[ \t]?[:=#][ \t]?[\"'#]?|[ \t](?:is[ \t])?[\"'#]?)"
_ID = r"(?:[ _-]?(?:id|no|number|key|ref)\b)"
_USER = r"(?:user|customer|client|account|member|tenant|patient|employee|subscriber|author)"
_RUN = (
    r"(?:request|req|trace|span|session|sess|conversation|conv|thread|correlation|transaction|txn|message|msg|response"
    r"|resp|chatcmpl|completion|run|job|call|event|evt|ticket|nonce)"
)
_NAME = r"(?=[\w.@+-]{0,63}\d)[\w.@+-]{1,64}\b"
"""An identifier in a label's company: any word with a digit."""

_SHAPES: tuple[tuple[Kind, str], ...] = (
    # what a label says it is
    ("user_identifier", rf"(?<![^\W_])(?i:{_USER}{_ID}|uid|userid){_IS}(?P<value>{_NAME})"),
    ("user_identifier", rf"(?<![^\W_])(?i:{_USER})=[\"']?(?P<value>[\w.@+-]{{1,64}})"),
    ("user_identifier", rf"[\"'](?i:{_USER})[\"']: ?[\"'](?P<value>{_NAME})"),
    ("user_identifier", rf"(?<![^\W_])(?:(?i:{_USER})|usr|cus|acct|uid)[_#-](?=[a-zA-Z]{{0,31}}\d)[a-zA-Z\d]+\b"),
    ("user_identifier", r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}"),
    ("user_identifier", r"(?<=\S[ (:,])@[A-Za-z_]\w{1,38}\b(?![(/@]|\.\w)"),
    ("uuid", rf"(?:urn:uuid:)?(?<![0-9A-Za-z]){_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}(?![0-9A-Za-z])"),
    ("uuid", rf"(?<![0-9A-Za-z-]){_HEX}{{12}}[1-8]{_HEX}{{3}}[89abAB]{_HEX}{{15}}(?![0-9A-Za-z-])"),
    ("request_identifier", rf"(?<![^\W_])(?i:{_RUN}{_ID}|nonce|session){_IS}(?P<value>{_NAME})"),
    ("request_identifier", rf"(?<![^\W_]){_RUN}[_-](?=[\w-]{{0,63}}\d)[\w-]{{1,128}}\b"),
    # what it looks like
    ("timestamp", rf"(?<![\w.]){_DATE}(?:T|,? {{1,2}}|,? at |[_:]){_TIME}{_ZONE}(?: {_YYYY})?"),
    ("timestamp", rf"(?<![\w.-]){_COMPACT}[T_-]?\d\d:?\d\d(?::?\d\d)?(?:[.,]\d{{1,9}})?Z?(?![\w.])"),
    ("timestamp", rf"(?<![\w.+-]){_UNIX}(?!\w|\.\d)"),
    ("date", rf"(?<![\w.$/-]){_DATE}(?![\w/]|[.-]\d)"),
    ("date", rf"(?<![\w.-])(?:{_COMPACT}|{_YYYY}-(?:0[1-9]|1[0-2])|{_LONG_DAY})(?![\w-]|\.\d)"),
    ("date", rf"(?<!\d){_YYYY}年{_MM}月(?:{_DD}日)?"),
    ("time", rf"(?<![\w.:$-])(?:{_TIME}{_ZONE}|(?:0?[1-9]|1[0-2]){_NOON})(?![\w:])"),
    # nanoid, ULID, base62: letters and digits take turns at least three times; in words and models' names they don't
    ("request_identifier", r"(?<![\w.-])(?=(?:[\w-]{0,40}?(?:\d[A-Za-z]|[A-Za-z]\d)){3})"
                           r"[\w-]{16,128}(?![\w-]|\.\w)"),
    ("request_identifier", r"(?<!\w)(?:0x)?(?=\d{0,63}[a-fA-F])(?=[a-fA-F]{0,63}\d)[0-9a-fA-F]{8,128}(?!\w)"),
    ("request_identifier", r"(?<![\w.])\d{13,128}(?!\w|\.\d)"),
    ("counter", r"(?<!\w)(?i:turn|step|attempt|try|retry|page|round|iteration|message|question|item|no|number|count"
                r"|run|part|day|week)\b\.?[ :=#]{1,3}(?P<value>\d{1,12}(?: ?(?:of|/) ?\d{1,12})?)(?!\w|[.,/:]\d|-\w)"),
    ("counter", r"(?<![\w#])#\d{1,12}(?!\w|[.,/:]\d|-\w)"),
)  # fmt: skip
_NUMBER = (
    r"(?<![\w.,:/+$€£¥-])(?<![$€£¥] )(?:\d{1,3}(?:,\d{3}){1,3}|\d{1,12})(?: ?(?:of|/) ?\d{1,12})?"
    r"(?!\w|[.,/:]\d|-\w|%| ?[€£¥])"
)
SHAPES = (*(Shape(kind, re.compile(pattern)) for kind, pattern in _SHAPES), Shape("counter", re.compile(_NUMBER), 2))
"""Of those that begin equally near, the first wins: a label is more certain than looks, a UUID than a number in it."""

_SPACE = re.compile(r"[\s\u200b\ufeff]+")


def kind_of(text: str, offset: int) -> Found | None:
    """The value that covers character `offset` of the text or begins right behind it; None if nothing there looks like
    a value that changes. `offset` is exact to a token: the difference may be inside the value or some characters on."""
    offset = min(max(offset, 0), len(text))
    white = _white(text, offset)
    near = min((n for rank, shape in enumerate(SHAPES) if (n := _nearest(text, offset, shape, rank))), default=None)
    if near and (white is None or near.start <= offset or near.start == white.stop):
        return near.found
    return white


class _Near(NamedTuple):
    """A candidate, in the order of preference. It begins at `start`, which may be its label's."""

    distance: int
    rank: int
    start: int
    found: Found


def _nearest(text: str, offset: int, shape: Shape, rank: int) -> _Near | None:
    """The first value of a shape that ends behind the offset, if it begins soon enough."""
    for match in shape.pattern.finditer(text, max(0, offset - BEHIND), offset + AHEAD):
        start, stop = match.span("value" if "value" in shape.pattern.groupindex else 0)
        if match.start() > offset + shape.reach:
            return None
        if stop > offset:
            return _Near(max(0, start - offset), rank, match.start(), Found(shape.kind, start, stop))
    return None


def _white(text: str, offset: int) -> Found | None:
    """The white space that covers the offset, unless it is one plain space between two words."""
    for run in _SPACE.finditer(text, max(0, offset - BEHIND), offset + AHEAD):
        if run.start() <= offset < run.end() and (run[0] != " " or run.end() == len(text)):
            return Found("whitespace", run.start(), run.end())
    return None
