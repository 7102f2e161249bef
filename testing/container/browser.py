"""A browser without a window, the distribution's Chromium, and what it notes of a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from tools import axe, system_packages

# It asks for nothing but what a page wants.
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 60_000.0  # milliseconds


@contextmanager
def started() -> Iterator[Browser]:
    """Run one.  Raises RuntimeError where there is none."""
    program = system_packages.browser()
    if program is None:
        raise RuntimeError("no Chromium: python3 -m tools.system_packages browser")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page that is open, with everything that it asked for and complained of."""

    def __init__(self, context: BrowserContext) -> None:
        self.hosts: set[str] = set()  # that were asked for anything
        self.complaints: list[str] = []  # of the console, and answers from 400 on
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)

    def _asked(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).netloc)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def barriers(self) -> list[str]:
        """Return what axe-core finds: the rule, and where it is broken."""
        # Evaluated, since the page lets no script in but its own.
        self.page.evaluate(axe.provide().read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{broken['id']}: {node['html']}: {node['failureSummary']}"
            for broken in found["violations"]
            for node in broken["nodes"]
        ]

    def wide_by(self) -> int:
        """Return the pixels by which it is wider than its window: that many can be scrolled."""
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(wide))
