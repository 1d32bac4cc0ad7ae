"""An audit for people: one screen, the most worth first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart.cli.figures import duration, harmless, plural

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 5
"""Findings on the screen; all of them are in --json."""
SUMS = {
    "observed": "Observed",
    "predicted": "Predicted",
    "attainable": "Attainable",
    "uncached": "Uncached",
}


def print_report(console: Console, told: dict[str, Any], logs: Sequence[str]) -> None:
    """The whole of it; `told` is `audit.summary.document`'s."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = ", ".join(harmless(log) for log in logs)
    over = f" over {duration(told['seconds'])}" if told["seconds"] else ""
    models = ", ".join(harmless(name) or "(no model named)" for name in list(told["models"])[:4])
    console.print(f"{names}: {plural(told['requests'], 'request', 'requests')}{over}; {models}", markup=False)
    _print_skipped(console, told)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for heading in ("Hit rate", "Input tokens", "Read", "Written", "Input costs"):
        table.add_column(heading, justify="right")
    for name, title in SUMS.items():
        of = told["total"][name]
        if of is not None:
            cells = (f"{of['hit_rate']:.1%}", *(f"{of[each]:,}" for each in _TOKENS), money(of["input_dollars"]))
            table.add_row(title, *cells)
    console.print(table)
    told_by = "observed by the log's answers, " if told["total"]["observed"] else ""
    console.print(f"[dim]Hit rates: {told_by}predicted by the rules, attainable with all of this mended.[/]\n")
    findings = told["findings"]
    if not findings:
        console.print("Nothing to mend: what could be read was read.")
    for number, finding in enumerate(findings[:SHOWN], 1):
        _print_finding(console, number, finding, several=len(told["models"]) > 1)
    if len(findings) > SHOWN:
        console.print(f"{plural(len(findings) - SHOWN, 'more finding', 'more findings')}: see --json.")
    for note in told["notes"]:
        console.print(f"[dim]{harmless(note, 200)}[/]")


_TOKENS = ("input_tokens", "cached_tokens", "written_tokens")


def _print_skipped(console: Console, told: dict[str, Any]) -> None:
    for skipped in told["skipped"]:
        console.print(f"  line {skipped['line']} skipped: {harmless(skipped['reason'], 200)}", markup=False)
    if more := told["skipped_lines"] - len(told["skipped"]):
        console.print(f"  and {plural(more, 'more line', 'more lines')} skipped")
    if told["out_of_order"]:
        late = plural(told["out_of_order"], "request", "requests")
        console.print(f"  {late} stood behind later ones")


def _print_finding(console: Console, number: int, finding: dict[str, Any], *, several: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from headstart.audit.words import title

    sign = "≈ " if finding["estimated"] else ""
    console.print(Text(f"{number}. {title(finding['cause'], finding['kind'])}", style="bold"), end="")
    where = f"  {harmless(finding['path'])}" if finding["path"] else ""
    model = f", {harmless(finding['model'])}" if several else ""
    console.print(Text(f"{where}  ({plural(finding['requests'], 'request', 'requests')}{model})"))
    day = finding["tokens_per_day"] is not None
    tokens = finding["tokens_per_day"] if day else finding["tokens"]
    dollars = finding["dollars_per_day"] if day else finding["dollars"]
    unit = "output tokens" if finding["cause"] == "output_not_cached" else "tokens"
    if tokens or dollars:
        period = "a day" if day else "over this log"
        amount = f"{tokens:,} {unit}, " if tokens else ""
        console.print(f"   Worth {sign}{amount}{money(dollars)} {period}.")
    example = finding["example"]
    if example is not None:
        text = Text("   ")
        text.append(harmless(example["before"]), style="dim")
        text.append(f"⟦{harmless(example['value'])}⟧", style="yellow")
        text.append(harmless(example["after"]), style="dim")
        console.print(text)
    remedy = harmless(" ".join(filter(None, (finding["remedy"], finding["note"]))), 400)
    console.print(Padding(Text(remedy), (0, 0, 0, 3)))
    if finding["changes"]:
        changes = Text(f"What the model sees changes: {finding['changes']}", style="dim")
        console.print(Padding(changes, (0, 0, 0, 3)))


def money(dollars: float | None) -> str:
    """`$1,234.50`, `$0.0012`; a dash for what has no price."""
    if dollars is None:
        return "–"
    if abs(dollars) >= 1 or dollars == 0:
        return f"${dollars:,.2f}"
    return f"${dollars:.3f}" if abs(dollars) >= 0.01 else f"${dollars:.6f}"


def print_fix(console: Console, finding: int, line: int, lines: Sequence[str]) -> None:
    """A request before and after."""
    from rich.text import Text

    styles = {"-": "red", "+": "green", "@": "cyan"}
    console.print(Text(f"\nFinding {finding}, the request of line {line}:", style="bold"))
    for each in lines:
        console.print(Text(f"  {harmless(each, 400)}", style=styles.get(each[:1], "")))
