"""A browser for the dashboard's tests, and a small server that gives the page whatever figures a test wants.

The tests of this folder share one event loop, that of the browser (`loop_scope="session"`).
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from tests.dashboard.figures import Json, activity, figures

import headstart

STATIC = Path(headstart.__file__).parent / "dashboard" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Board:
    """What the server of the tests answers. A test changes it; `ranges` is what it was asked for."""

    data: Json
    live: Json
    key: str | None
    """The key that is wanted."""
    refusal: tuple[int, str] | None
    """An error that answers every request for figures: its status, and its message."""
    ranges: list[str | None]
    url = ""
    """The page's."""

    def reset(self) -> None:
        """A busy day, for everybody."""
        self.data, self.live = figures(), activity()
        self.key = self.refusal = None
        self.ranges = []

    def app(self) -> Starlette:
        """The page, its files, and its two documents."""
        return Starlette(
            routes=[
                Route("/dashboard", self.page),
                Route("/dashboard/data", self.give_data),
                Route("/dashboard/live", self.give_live),
                Route("/dashboard/static/{name}", self.file),
            ]
        )

    async def page(self, _: Request) -> Response:
        """The page, under the policy that the server sends with it."""
        return FileResponse(STATIC / "index.html", headers={"content-security-policy": POLICY})

    async def file(self, request: Request) -> Response:
        """A file of the page."""
        return FileResponse(STATIC / request.path_params["name"])

    async def give_data(self, request: Request) -> Response:
        """The figures of a range."""
        self.ranges.append(request.query_params.get("range"))
        return self._answer(request, self.data)

    async def give_live(self, request: Request) -> Response:
        """What is cached, and who asks."""
        return self._answer(request, self.live)

    def _answer(self, request: Request, document: Mapping[str, Any]) -> Response:
        given = request.headers.get("authorization")
        if self.key is not None and given != f"Bearer {self.key}":
            message = "You didn't provide an API key." if given is None else "Incorrect API key provided."
            return JSONResponse({"error": {"message": message}}, 401)
        if self.refusal is not None:
            return JSONResponse({"error": {"message": self.refusal[1]}}, self.refusal[0])
        return JSONResponse(document)


async def opened(page: Page, board: Board, query: str = "") -> None:
    """The page, once both documents are shown."""
    await page.goto(board.url + query)
    await expect(page.locator("#hit-rate")).to_contain_text(re.compile("[%–]"))
    await expect(page.locator("#live-words")).not_to_have_text("…")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the asynchronous tests of this folder in the loop that the browser lives in."""
    for item in items:
        if Path(__file__).parent in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def served(serve: Callable[[ASGIApp], AbstractContextManager[str]]) -> Iterator[Board]:
    """One server for all tests."""
    board = Board()
    with serve(board.app()) as address:
        board.url = f"{address}/dashboard"
        yield board


@pytest.fixture
def board(served: Board) -> Board:
    """The figures that the page shows; `board.url` is the page."""
    served.reset()
    return served


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; Playwright never downloads one."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("There is no chromium on the PATH: apt install chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile: desktop, light, UTC, and nothing moves."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce", timezone_id="UTC"
    )
    context.set_default_timeout(5000)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A page. The test fails if a script of it does, or if it breaks its own content security policy."""
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    assert not wrong
