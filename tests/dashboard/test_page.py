"""The dashboard's page, in a real browser: its figures are the server's, and anybody can read and operate it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect
from tests.dashboard.conftest import Board, opened
from tests.dashboard.figures import NOW, activity, example, figures, line, prefix, ttft

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>alert(1)</script>"


async def texts(page: Page, figures: dict[str, str]) -> None:
    """Each element, by its id, has its text."""
    for element, text in figures.items():
        await expect(page.locator(f"#{element}")).to_have_text(text)


async def cells(page: Page, row: str) -> dict[str, str]:
    """A row's cells by their columns."""
    found: dict[str, str] = await page.locator(row).evaluate(
        "row => Object.fromEntries([...row.cells].map(cell => [cell.dataset.column, cell.textContent]))"
    )
    return found


async def test_the_headline_has_the_servers_totals(page: Page, board: Board) -> None:
    """Hit rate, money, first tokens and requests, as the tutorial has them, and why it was not more."""
    board.data["totals"] = line(failed=1, requests=4)
    await opened(page, board)
    await texts(
        page,
        {
            "hit-rate": "32.3%", "hit-rate-tokens": "4,480 of 13,852 tokens", "saved": "$0.001344",
            "saved-words": "cost $0.004197 instead of $0.005541",
            "unpriced": "without 1 request that has no known price",
            "ttft-warm": "56 ms", "ttft-cold": "3.82 s", "sooner": "68 times sooner", "requests": "4",
            "requests-warm": "1 read from the cache", "requests-failed": "1 failed, were cancelled or refused",
            "top-cause": "The beginning of the prompt changed", "top-cause-numbers": "212 requests, 949,760 tokens",
            "top-remedy": board.data["causes"][0]["remedy"],
        },
    )  # fmt: skip
    await expect(page).to_have_title("32.3% hit rate · Headstart")


@pytest.mark.parametrize(
    ("totals", "shown"),
    [
        (
            line(priced=0, cost=None, uncached_cost=None, saved=None),
            {"saved": "unknown", "saved-words": "No request has a known price."},
        ),
        (
            line(cost="1.25", uncached_cost="1", saved="-0.25"),
            {
                "saved": "-$0.25",
                "saved-words": "cost $1.25 instead of $1.00",
            },
        ),
        (line(saved="0", cost="12345.678", uncached_cost="12345.678"), {"saved": "$0.00", "unpriced": ""}),
        (line(input=0, cached=0), {"hit-rate": "–"}),
        (line(input=10**6, cached=10**6 - 1), {"hit-rate": "99.9%"}),
        (line(input=10**6, cached=10**6), {"hit-rate": "100.0%"}),
        (
            line(ttft=ttft((0, None, None), (3, 75.2, 80.0))),
            {"ttft-warm": "–", "ttft-cold": "1 min 15 s", "sooner": "no warm request yet"},
        ),
        (line(ttft=ttft((1, 0.9997, 1.0), (1, 0.5, 1.0))), {"ttft-warm": "1.00 s", "sooner": "2 times later"}),
    ],
)
async def test_figures_that_are_not_usual(page: Page, board: Board, totals: Any, shown: dict[str, str]) -> None:
    """What is unknown is called unknown, a loss is a loss, and nothing is rounded up to perfect."""
    board.data["totals"] = totals
    await opened(page, board)
    await texts(page, shown)


async def test_who_loses_money_is_named(page: Page, board: Board) -> None:
    """The model whose writes cost most more than its reads saved."""
    board.data["models"] = [line("gpt-4.1-mini"), line("gpt-5.6", saved="-0.25"), line("other", saved="-0.01")]
    await opened(page, board)
    await expect(page.locator("#saved-words")).to_contain_text("; gpt-5.6 lost $0.25 by writes that nobody has read")


async def test_causes_are_ranked_and_the_first_is_open(page: Page, board: Board) -> None:
    """In the server's order, with their numbers, remedy and examples; bars are in proportion."""
    await opened(page, board)
    causes = page.locator("#causes > li")
    assert await causes.evaluate_all("all => all.map(one => one.dataset.key)") == [
        "prefix_changed", "expired", "below_minimum"
    ]  # fmt: skip
    assert await causes.locator("details").evaluate_all("all => all.map(one => one.open)") == [True, False, False]
    await expect(causes.nth(1).locator(".cause-numbers")).to_have_text("41 requests, 131,200 tokens missed")
    await expect(causes.first.locator(".remedy")).to_contain_text("Move the timestamp behind the part")
    assert await cells(page, '#causes tr[data-key="resp_0007"]') == {
        "time": "May 28, 20:19:40", "model": "gpt-5.6", "place": "uuid in messages[0].content[0].text",
        "missed": "4,480 of 4,624", "who": "acme, evaluation", "id": "resp_0007",
    }  # fmt: skip
    widths = await causes.locator(".track > span").evaluate_all("all => all.map(one => parseFloat(one.style.width))")
    assert widths == pytest.approx([100, 100 * 131_200 / 949_760, 100 * 18_624 / 949_760], abs=0.01)


async def test_courses_have_their_figures_as_tables(page: Page, board: Board) -> None:
    """Every chart has a summary in words, and a table of what the server sent."""
    await opened(page, board)
    await expect(page.locator("#chart-hit-rate-summary")).to_have_text("74.5% in all, between 35.0% and 86.8%.")
    for chart in ("hit-rate", "saved", "ttft"):
        await page.locator(f"#chart-{chart}-figures > summary").click()
        await expect(page.locator(f"#chart-{chart}-figures tbody tr")).to_have_count(len(board.data["course"]))
    last = board.data["course"][-1]
    shown = await cells(page, f'#chart-hit-rate-figures tr[data-key="{last["start"]:.0f}"]')
    assert shown["time"] == "May 28, 20:00–21:00"
    assert shown["cached"] == f"{last['cached']:,}"
    assert shown["hit_rate"] == f"{last['hit_rate']:.1%}"


async def test_charts_draw_every_hour_and_no_line_across_a_gap(page: Page, board: Board) -> None:
    """Each canvas has ink, none of it where nobody asked, and pointing at it tells the figures."""
    await opened(page, board)
    plot = page.locator("#chart-hit-rate .u-over")
    box = await plot.bounding_box()
    assert box
    start, hour = board.data["since"], box["width"] / (NOW - board.data["since"] + 3600 - NOW % 3600)

    async def ink_at(seconds: float) -> int:
        found: int = await page.locator("#chart-hit-rate canvas").evaluate(
            """(canvas, x) => {
                const over = canvas.parentElement.querySelector('.u-over');
                const at = Math.round((over.offsetLeft + x) * devicePixelRatio);
                const column = canvas.getContext('2d').getImageData(at, 0, 1, canvas.height).data;
                return column.filter((value, i) => i % 4 === 3 && value > 200).length;
            }""",
            seconds * hour,
        )
        return found

    behind_the_last = await ink_at(23.9 * 3600)
    assert await ink_at(5 * 3600) == behind_the_last
    assert await ink_at(12.5 * 3600) > behind_the_last
    await page.mouse.move(box["x"] + (12.5 * 3600) * hour, box["y"] + 40)
    noon = next(one for one in board.data["course"] if one["start"] == start + 12 * 3600)
    await expect(page.locator("#chart-hit-rate .tip")).to_contain_text(f"Hit rate: {noon['hit_rate']:.1%}")
    await expect(page.locator("#chart-ttft .tip")).to_contain_text(f"cold: {noon['ttft']['cold']['p50']:.3g} s")


async def test_groups_are_tabs(page: Page, board: Board) -> None:
    """Models first, the others by mouse or arrow keys; unknown costs and losses as everywhere."""
    await opened(page, board)
    llama = await cells(page, '#group-panel tr[data-key="local-llama"]')
    assert (llama["cost"], llama["saved"], llama["hit_rate"]) == ("unknown", "unknown", "21.3%")
    mini = await cells(page, '#group-panel tr[data-key="gpt-4.1-mini"]')
    assert (mini["requests"], mini["input"], mini["saved"]) == ("2,204", "9,402,112", "$2.18")
    await page.get_by_role("tab", name="Models").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Organisations")).to_be_focused()
    await expect(page.get_by_role("tabpanel", name="Organisations")).to_be_visible()
    assert (await cells(page, '#group-panel tr[data-key="default"]'))["saved"] == "-$0.25"
    await page.keyboard.press("End")
    await expect(page.locator("#group-panel tbody th").last).to_have_text("(without a key)")


async def test_prefixes_are_a_tree(page: Page, board: Board) -> None:
    """Levels, figures, and a walk with the arrow keys; what is folded stays so when new figures come."""
    board.live["engines"][0]["prefixes"].append(prefix("orphan", "gone", 2048, 4096, model="other"))
    await page.clock.install()
    await opened(page, board)
    rows = page.get_by_role("treegrid", name="gpt-4.1-mini, gpt-5.6").locator("tbody tr")
    levels = "all => all.map(row => [row.dataset.key, row.ariaLevel, row.ariaExpanded])"
    assert await rows.evaluate_all(levels) == [
        ["0 a1", "1", "true"], ["0 a2", "2", "true"], ["0 a3", "3", None], ["0 a4", "2", None],
        ["0 b1", "1", None], ["0 c1", "1", None], ["0 orphan", "1", None],
    ]  # fmt: skip
    assert await cells(page, '#engines tr[data-key="0 a4"]') == {
        "prefix": "tokens 4,480 to 4,992", "tokens": "512", "hits": "14", "bytes": "6 MiB", "tier": "in the context",
        "age": "1 min 15 s", "left": "9 min", "promised": "while there is room",
    }  # fmt: skip
    await expect(page.locator(".tiers li").first).to_have_text("RAM: 1.4 GiB of 8 GiB")
    await rows.first.focus()
    for key, focused, count in [
        ("ArrowRight", "0 a2", 7), ("ArrowRight", "0 a3", 7), ("ArrowLeft", "0 a2", 7), ("ArrowLeft", "0 a2", 6),
        ("ArrowDown", "0 a4", 6), ("End", "0 orphan", 6), ("Home", "0 a1", 6), ("Enter", "0 a1", 4), (" ", "0 a1", 6),
    ]:  # fmt: skip
        await page.keyboard.press(key)
        assert await page.evaluate("document.activeElement.dataset.key") == focused, key
        assert await rows.count() == count, key
    board.live["engines"][0]["prefixes"][0]["hits"] = 9_999
    await page.clock.run_for(2_500)
    await expect(rows.first.locator('[data-column="hits"]')).to_have_text("9,999")
    assert await rows.count() == 6
    assert await page.evaluate("document.activeElement.dataset.key") == "0 a1"


async def test_requests_under_way_are_shown_as_they_come_and_go(page: Page, board: Board) -> None:
    """Every two seconds, and not while the page is hidden."""
    await page.clock.install()
    await opened(page, board)
    assert await cells(page, '#live tr[data-key="resp_f1"]') == {
        "model": "gpt-4.1-mini", "state": "answers", "elapsed": "1.24 s", "input": "4,616", "cached": "4,480",
        "output": "12", "who": "acme, backend", "id": "resp_f1",
    }  # fmt: skip
    await expect(page.locator("#live tbody tr")).to_have_count(3)
    board.live["requests"] = []
    await page.clock.run_for(2_500)
    await expect(page.locator("#live-words")).to_have_text("No request right now.")
    await page.evaluate(HIDE, True)
    board.live = activity()
    asked = len(board.ranges)
    await page.clock.run_for(60_000)
    await page.evaluate("fetch(location.href).then(answer => answer.text())")  # by then others had arrived, too
    await expect(page.locator("#live-words")).to_have_text("No request right now.")
    assert len(board.ranges) == asked
    await page.evaluate(HIDE, False)
    await expect(page.locator("#live-words")).to_have_text("3 requests.")


HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_the_range_is_chosen_by_keyboard_and_kept_in_the_address(page: Page, board: Board) -> None:
    """A link with a range opens that range; another one is asked for at once; nonsense is the usual one."""
    await opened(page, board, "?range=7d")
    await expect(page.get_by_role("radio", name="7 days")).to_be_checked()
    await page.get_by_role("radio", name="7 days").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page).to_have_url(re.compile(r"\?range=30d$"))
    await expect(page.locator("#announcement")).to_contain_text("In the last 30 days: hit rate 75%")
    assert board.ranges == ["7d", "30d"]
    await opened(page, board, "?range=constructor")
    await expect(page.get_by_role("radio", name="24 hours")).to_be_checked()
    assert board.ranges[-1] == "24h"


async def test_new_figures_come_by_themselves_and_leave_the_reader_alone(page: Page, board: Board) -> None:
    """Every ten seconds; what was opened stays open and focused, and a screen reader isn't told every time."""
    await page.clock.install()
    await opened(page, board)
    said = await page.locator("#announcement").text_content()
    await page.locator("#causes summary").nth(1).click()
    await page.locator("#causes summary").first.click()
    await page.locator("#causes summary").nth(1).focus()
    board.data["totals"] = line(requests=77)
    board.data["causes"].reverse()
    await page.clock.run_for(10_500)
    await expect(page.locator("#requests")).to_have_text("77")
    opened_now = "all => all.map(one => one.open)"
    assert await page.locator("#causes details").evaluate_all(opened_now) == [False, True, False]
    await expect(page.locator("#causes summary").nth(1)).to_be_focused()
    assert await page.locator("#announcement").text_content() == said
    await page.clock.run_for(60_500)
    await expect(page.locator("#announcement")).to_contain_text("hit rate 32%")


async def test_html_in_names_stays_text(page: Page, board: Board) -> None:
    """Whatever a model, key, cause or path is called."""
    hostile = example(1, id=HOSTILE, model=HOSTILE, organisation=HOSTILE, key=HOSTILE, path=HOSTILE, kind=HOSTILE)
    cause = {"cause": HOSTILE, "requests": 1, "missed": 1, "remedy": HOSTILE, "examples": [hostile]}
    board.data |= {name: [line(HOSTILE)] for name in ("models", "organisations", "keys")} | {"causes": [cause]}
    board.data["ledger"] = {"failing": True, "waiting": 1, "lost": 0, "message": HOSTILE}
    own = {"model": HOSTILE, "organisation": HOSTILE, "key": HOSTILE}
    board.live["engines"][0] |= {"models": [HOSTILE], "prefixes": [prefix(HOSTILE, None, 0, 1024, tier=HOSTILE, **own)]}
    board.live["requests"] = [board.live["requests"][0] | own | {"id": HOSTILE, "state": HOSTILE}]
    await opened(page, board)
    for place in ("#top-cause", "#top-remedy", "#causes", "#ledger", "#engines h3", "#engines tbody", "#live tbody"):
        await expect(page.locator(place)).to_contain_text("<img src=x onerror")
    for tab in ("Models", "Organisations", "Keys"):
        await page.get_by_role("tab", name=tab).click()
        await expect(page.locator("#group-panel tbody th")).to_have_text(HOSTILE)
    assert await page.locator("img, main script").count() == 0
    assert "broken" not in await page.title()


async def test_without_requests_it_says_how_to_send_one(page: Page, board: Board) -> None:
    """With this server's own address; the figures come with the first request."""
    board.data = figures() | {"totals": line(requests=0, input=0, cached=0), "course": [], "causes": []}
    board.live = {"now": NOW, "engines": [], "requests": []}
    await page.clock.install()
    await page.goto(board.url)
    await expect(page.get_by_role("heading", name="No requests yet")).to_be_visible()
    origin = board.url.removesuffix("/dashboard")
    await texts(page, {"empty-environment": f"export OPENAI_BASE_URL={origin}/v1 OPENAI_API_KEY=none"})
    await expect(page.locator("#headline")).to_be_hidden()
    board.data = figures()
    await page.clock.run_for(10_500)
    await expect(page.locator("#hit-rate")).to_have_text("74.5%")
    await expect(page.locator("#empty")).to_be_hidden()
    assert await page.locator("#chart-saved canvas").evaluate("canvas => canvas.clientWidth > 200")


async def test_a_server_that_goes_away_and_comes_back(page: Page, board: Board, context: BrowserContext) -> None:
    """The page says so, keeps its last figures, dimmed, and goes on by itself."""
    await page.clock.install()
    await opened(page, board)
    await context.set_offline(True)
    await page.clock.run_for(10_500)
    await expect(page.locator("#unreachable-text")).to_contain_text(
        "can't be reached. These are the figures of 20:26:40"
    )
    await expect(page.locator("#hit-rate")).to_have_text("74.5%")
    await expect(page.locator("#board")).to_have_class("stale")
    await context.set_offline(False)
    await page.get_by_role("button", name="Try now").click()
    await expect(page.locator("#unreachable")).to_be_hidden()
    board.refusal = (500, "The usage database can't be read: disk I/O error.")
    await page.clock.run_for(10_500)
    await expect(page.locator("#unreachable-text")).to_contain_text("answered 500: The usage database can't be read")
    board.refusal = None
    await page.clock.run_for(5_500)
    await expect(page.locator("#unreachable")).to_be_hidden()
    await expect(page.locator("#board")).not_to_have_class("stale")


async def test_a_ledger_that_fails_is_told(page: Page, board: Board) -> None:
    """With what waits and what is lost; a healthy one says nothing."""
    await page.clock.install()
    await opened(page, board)
    await expect(page.locator("#ledger")).to_be_hidden()
    board.data["ledger"] = {"failing": True, "waiting": 12, "lost": 3, "message": "database is locked"}
    await page.clock.run_for(10_500)
    await expect(page.locator("#ledger")).to_have_text(
        "New requests can't be recorded now: database is locked. 12 requests wait to be counted. "
        "3 requests could not be kept and will be missing here."
    )


async def test_without_a_ledger_the_page_shows_what_happens_now(page: Page, board: Board) -> None:
    """It says that no usage is kept, not that nobody asks; a tier that is off has no figures."""
    board.data |= {"totals": line(requests=0, input=0, cached=0), "course": [], "causes": []}
    board.data["ledger"]["message"] = "No usage is kept here: [ledger] enabled is false."
    board.live["engines"][0]["tiers"]["disk"] = {"bytes": 0, "budget": 0}
    await page.goto(board.url)
    await texts(page, {"ledger": "No usage is kept here: [ledger] enabled is false.", "live-words": "3 requests."})
    await expect(page.locator("#empty")).to_be_hidden()
    await expect(page.locator("#headline")).to_be_hidden()
    await expect(page.locator(".tiers li").nth(1)).to_have_text("Disk: none")


async def test_signing_in_and_out(page: Page, board: Board) -> None:
    """No figures without the admin key; a wrong one is said to be wrong; the right one lasts as long as the tab."""
    board.key = "sk-headstart-right"
    await page.goto(board.url)
    field = page.get_by_label("Admin key")
    await expect(field).to_be_focused()
    await expect(page.locator("#board")).to_be_hidden()
    await texts(page, {"login-error": ""})
    for wrong, said in [("sk-wrong", "That key doesn't open this page. Incorrect"), ("ключ", "That is no key")]:
        await field.fill(wrong)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text(said)
    await field.fill(" sk-headstart-right ")
    await page.get_by_role("button", name="Show the figures").click()
    await expect(page.locator("#hit-rate")).to_have_text("74.5%")
    await expect(page.locator("#login")).to_be_hidden()
    await page.reload()
    await expect(page.locator("#hit-rate")).to_have_text("74.5%")
    assert "sk-" not in page.url
    await page.get_by_role("button", name="Sign out").click()
    await expect(field).to_be_visible()
    await expect(page.locator("#hit-rate")).not_to_be_visible()
    assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_the_theme_follows_the_system_until_it_is_chosen(page: Page, board: Board) -> None:
    """And the choice is kept."""
    ground = "getComputedStyle(document.body).backgroundColor"
    await opened(page, board)
    light = await page.evaluate(ground)
    await page.emulate_media(color_scheme="dark")
    dark = await page.evaluate(ground)
    assert (light, dark) == ("rgb(245, 247, 246)", "rgb(15, 20, 19)")
    await page.get_by_role("button", name="Light theme").click()
    assert await page.evaluate(ground) == light
    await page.reload()
    assert await page.evaluate(ground) == light
    await expect(page.get_by_role("button", name="Dark theme")).to_be_visible()


async def test_nothing_is_fetched_from_elsewhere(page: Page, board: Board) -> None:
    """Every request goes to the server that the page came from."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await opened(page, board)
    origin = board.url.removesuffix("/dashboard")
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith((origin, "data:"))] == []
