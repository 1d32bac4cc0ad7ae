"""A report as one page of HTML that needs nothing else: the curve, the findings, the tree of prefixes. Nothing in it is
a script, and all text of the log is escaped."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from headstart.audit.words import title
from headstart.types import Prefix

STYLE = """
:root { color-scheme: light dark; --line: #8884; --strong: #0b6bcb; --soft: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } small, .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; } td, th { padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td, th { text-align: right; font-variant-numeric: tabular-nums; } td:first-child, th:first-child { text-align: left; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0; }
article h3 { margin: 0; font-size: 1rem; } article p { margin: .4rem 0; }
code { overflow-wrap: anywhere; white-space: pre-wrap; } mark { background: #f5c54288; color: inherit; }
svg { width: 100%; height: auto; } svg text { fill: currentColor; font-size: 12px; }
ul { list-style: none; padding-left: 1.2rem; border-left: 1px solid var(--line); }
"""
SUMS = ("observed", "predicted", "attainable", "uncached")
WIDTH, HEIGHT, MARGIN = 720, 240, 44
"""Of the curve, in pixels."""

Point = tuple[float, float]
"""A capacity in tokens, and the share of input tokens that it reads."""


def page(told: dict[str, Any], name: str, curves: Mapping[str, Sequence[Point]], prefixes: Sequence[Prefix]) -> str:
    """The page. `told` is `summary.document`'s; `curves` by name rise in their capacities."""
    heading = escape(name)
    findings = "".join(_finding(number, found) for number, found in enumerate(told["findings"], 1))
    notes = "".join(f"<p class=soft>{escape(note)}</p>" for note in told["notes"])
    skipped = "".join(f"<li>line {each['line']}: {escape(each['reason'])}" for each in told["skipped"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Audit of {heading}</title>"
        "<meta name=viewport content='width=device-width'>"
        f"<style>{STYLE}</style><h1>Audit of {heading}</h1>"
        f"<p>{told['requests']:,} requests of {escape(', '.join(told['models']))}.</p>"
        f"{_sums(told)}{notes}"
        f"<h2>What to mend</h2>{findings or '<p>Nothing: what could be read was read.</p>'}"
        f"<h2>Hit rate by capacity</h2>{_curves(curves)}"
        f"<h2>Prefixes</h2>{_tree(prefixes)}"
        + (f"<h2>{told['skipped_lines']:,} lines skipped</h2><ul>{skipped}</ul>" if skipped else "")
        + "<p><small>Made by headstart audit. Prompts are shown by their shape: letters as x, digits as 0, "
        "unless it was asked for more.</small></p></html>\n"
    )


def _sums(told: dict[str, Any]) -> str:
    rows = ""
    for name in SUMS:
        of = told["total"][name]
        if of is not None:
            cost = "–" if of["input_dollars"] is None else f"${of['input_dollars']:,.4f}"
            cells = (f"{of['hit_rate']:.1%}", f"{of['input_tokens']:,}", f"{of['cached_tokens']:,}",
                     f"{of['written_tokens']:,}", cost)  # fmt: skip
            rows += f"<tr><td>{name.title()}{''.join(f'<td>{cell}' for cell in cells)}"
    headings = "".join(f"<th>{each}" for each in ("", "Hit rate", "Input tokens", "Read", "Written", "Input costs"))
    return f"<table><tr>{headings}{rows}</table>"


def _finding(number: int, found: dict[str, Any]) -> str:
    worth = ""
    day = found["dollars_per_day"] is not None
    dollars, tokens = (
        (found["dollars_per_day"], found["tokens_per_day"]) if day else (found["dollars"], found["tokens"])
    )
    if dollars or tokens:
        money = "" if dollars is None else f", ${dollars:,.4f}"
        sign, period = "≈ " if found["estimated"] else "", "a day" if day else "over this log"
        worth = f"<p>Worth {sign}{tokens or 0:,} tokens{money} {period}."
    example = found["example"]
    quoted = "" if example is None else (
        f"<p><code>{escape(example['before'])}<mark>{escape(example['value'])}</mark>{escape(example['after'])}</code>"
    )  # fmt: skip
    path = f" <code>{escape(found['path'])}</code>" if found["path"] else ""
    changes = f"<p class=soft>What the model sees changes: {escape(found['changes'])}" if found["changes"] else ""
    return (
        f"<article><h3>{number}. {escape(title(found['cause'], found['kind']))}{path} "
        f"<small>{found['requests']:,} requests, {escape(found['model'])}</small></h3>{worth}{quoted}"
        f"<p>{escape(found['remedy'])} {escape(found['note'])}{changes}</article>"
    )


COLOURS = ("#8888", "#0b6bcb")


def _curves(curves: Mapping[str, Sequence[Point]]) -> str:
    capacities = [capacity for points in curves.values() for capacity, _ in points]
    if not capacities:
        return "<p class=soft>Too few prompts for a curve.</p>"
    first, last = math.log(min(capacities)), math.log(max(capacities))

    def place(capacity: float, rate: float) -> Point:
        return (
            MARGIN + (math.log(capacity) - first) / (last - first or 1) * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - rate * (HEIGHT - 2 * MARGIN),
        )

    drawn, right = "", WIDTH - MARGIN
    for rate in (0.0, 0.5, 1.0):
        _, y = place(min(capacities), rate)
        drawn += f"<line x1={MARGIN} x2={right} y1={y} y2={y} stroke='#8884'/><text x=4 y={y + 4}>{rate:.0%}</text>"
    for capacity in (min(capacities), max(capacities)):
        x, _ = place(capacity, 0)
        drawn += f"<text x={x:.0f} y={HEIGHT - 16} text-anchor=middle>{capacity:,.0f} tokens</text>"
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        _, y = place(*points[-1])
        drawn += f"<polyline points='{line}' fill=none stroke='{colour}' stroke-width=2.5 />"
        drawn += f"<text x={right} y={y - 6:.1f} text-anchor=end>{escape(name)} {points[-1][1]:.1%}</text>"
    label = "Share of input tokens that a cache of so many tokens reads"
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{label}'>{drawn}</svg>"


def _tree(prefixes: Sequence[Prefix]) -> str:
    if not prefixes:
        return "<p class=soft>None is left in the cache at the end of the log.</p>"
    names = {prefix.name for prefix in prefixes}
    below: dict[str | None, list[Prefix]] = defaultdict(list)
    for prefix in prefixes:
        below[prefix.parent if prefix.parent in names else None].append(prefix)
    parts: list[str] = []
    waiting: list[Prefix | str] = ["</ul>", *reversed(below[None])]
    parts.append("<ul>")
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            parts.append(each)
            continue
        parts.append(
            f"<li>{each.start:,}–{each.stop:,} <small>{escape(each.model)}, read by {each.hits:,} requests</small>"
        )
        if below[each.name]:
            parts.append("<ul>")
            waiting += ["</ul>", *reversed(below[each.name])]
    return "".join(parts)
