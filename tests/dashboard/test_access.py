"""Who can read and operate the dashboard: in either theme, on a phone, by keyboard and by screen reader."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.dashboard.conftest import Board, opened
from tests.dashboard.figures import line, prefix

AXE = Path(__file__).with_name("axe.min.js").read_text()

State = Callable[[Page, Board], Awaitable[None]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_lines_and_bars_stand_out(page: Page, board: Board, scheme: Any) -> None:
    """WCAG 1.4.11: what is drawn has three times the luminance of its ground, what is written 4.5 times.

    Text as it stands on the page, in every state, is axe's (below).
    """
    await page.emulate_media(color_scheme=scheme)
    await opened(page, board)
    grounds = [await colour(page, name) for name in ("--ground", "--surface")]
    for names, least in [(("--ink", "--muted", "--accent", "--wrong"), 4.5), (("--cold", "--miss", "--control"), 3)]:
        for name in names:
            drawn = await colour(page, name)
            assert min(contrast(drawn, ground) for ground in grounds) >= least, name
    assert contrast(await colour(page, "--ink"), await colour(page, "--notice")) >= 4.5


async def colour(page: Page, name: str) -> tuple[int, int, int]:
    """A colour of the style sheet, as it is computed."""
    found: str = await page.evaluate(
        """name => {
            document.body.style.outlineColor = `var(${name})`;
            return getComputedStyle(document.body).outlineColor;
        }""",
        name,
    )
    red, green, blue = re.findall(r"\d+", found)[:3]
    return int(red), int(green), int(blue)


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: tuple[int, int, int]) -> float:
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


async def full(page: Page, board: Board) -> None:
    """Everything there is, with all details open."""
    await opened(page, board)
    await page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    await expect(page.locator("#chart-ttft-figures tbody tr").first).to_be_visible()


async def empty(page: Page, board: Board) -> None:
    """No requests, and a ledger that fails."""
    board.data["totals"] = line(requests=0, input=0, cached=0)
    board.data["ledger"] = {"failing": True, "waiting": 12, "lost": 3, "message": "database is locked"}
    await page.goto(board.url)
    await expect(page.locator("#ledger")).to_be_visible()


async def locked(page: Page, board: Board) -> None:
    """The form for a key, after a wrong one."""
    board.key = "right"
    await page.goto(board.url)
    await page.get_by_label("Admin key").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("That key")


async def stale(page: Page, board: Board) -> None:
    """Figures that are out of date."""
    await opened(page, board)
    board.refusal = (500, "The usage database can't be read.")
    await page.get_by_role("radio", name="7 days").check(force=True)
    await expect(page.locator("#unreachable")).to_be_visible()


STATES = [full, empty, locked, stale]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_axe_finds_nothing(page: Page, board: Board, state: State) -> None:
    """axe-core's rules for WCAG 2.2 AA and its best practices, contrast among them, in every state and both themes."""
    await state(page, board)
    await page.evaluate(AXE)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found = await page.evaluate("axe.run().then(result => result.violations)")
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], scheme


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_a_phone_needs_no_sideways_scroll(page: Page, board: Board, state: State) -> None:
    """At 360 pixels nothing stands out of the page, not even long names."""
    long = "organisation-with-a-very-long-name-and-no-space-in-it-at-all"
    board.data["organisations"] = board.data["models"] = [line(long)]
    board.live["engines"][0]["prefixes"].append(prefix("d1", None, 0, 4096, model=long, organisation=long))
    board.data["causes"][0]["examples"][0] |= {"path": f"messages[0].content[0].{long}", "id": f"resp_{long}"}
    await page.set_viewport_size({"width": 360, "height": 740})
    await state(page, board)
    wide = await page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(one => {
            const box = one.getBoundingClientRect();
            return box.width && box.right > innerWidth + 0.5 && !one.closest('.figures, .unseen, .skip, thead');
        }).map(one => one.outerHTML.slice(0, 120))"""
    )
    assert wide == []
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_the_keyboard_reaches_everything_and_shows_where_it_is(page: Page, board: Board) -> None:
    """From the skip link to the last table and out again; every stop has a ring around it."""
    await opened(page, board)
    stops: list[str] = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(
            """() => {
                const one = document.activeElement;
                if (one === document.body) return null;
                const ring = one.matches('.segments input') ? one.nextElementSibling : one;
                const name = one.id || one.dataset.key || one.value || one.textContent;
                return [name.trim().slice(0, 17), getComputedStyle(ring).outlineStyle];
            }"""
        )
        if stop is None:
            break
        assert stop[1] != "none", stop
        stops.append(stop[0])
    assert stops == [
        "Skip to the figur", "24h", "theme", "top-link", "Figures", "Figures", "Figures", "The beginning of ",
        "The cached prefix", "The prompt is too", "0 a1", "tab-models", "group-panel",
    ]  # fmt: skip


async def test_the_skip_link_skips(page: Page, board: Board) -> None:
    """The first stop leads to the figures."""
    await opened(page, board)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
