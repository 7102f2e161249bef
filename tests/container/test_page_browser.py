"""The page about the box in a real browser: what is seen, what it asks for, whom it keeps out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from sim import driver
from testing.busy import BUSY
from testing.container import browser, kernel
from testing.container.box import Box, Boxes
from testing.container.gpus import ALL, machine

PICTURES = Path(__file__).parents[2] / "build" / "page"
WIDTHS = (1280, 768, 380, 320)  # pixels, of a window, down to what WCAG 2.2 asks for
SHADES = ("light", "dark")
DEGRADED = re.compile(r"degraded, up .+, since the start: GPU 3.+ is lost$")
NEVER = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"


@pytest.fixture(scope="module")
def started(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A box below a prefix with eight GPUs, seven of them busy and one lost."""
    path = tmp_path_factory.mktemp("browser") / "lost.machine"
    driver.vary("h100-8x", {"gpu *": BUSY, "gpu 3": {"state": "lost"}}, path)
    box = shared_box(*ALL, env={**machine(str(path)), "NB_PREFIX": "/notebook/ann/mine"})
    box.wait_for_banner()
    return box


@pytest.fixture(scope="module")
def server(started: Box) -> kernel.Server:
    return kernel.connect(started)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.started() as running:
        yield running


@pytest.fixture(scope="module")
def tab(server: kernel.Server, chromium: Browser) -> browser.Tab:
    """The page, opened as the banner says."""
    opened = browser.Tab(chromium.new_context())
    opened.page.goto(server.page_url.replace("/lab?", "/launcher/?"))
    return opened


def test_who_has_no_token_sees_the_login(server: kernel.Server, chromium: Browser) -> None:
    for query in ("", "?token=wrong"):
        stranger = browser.Tab(chromium.new_context())
        stranger.page.goto(f"{server.url}/launcher/{query}")
        assert "Token authentication is enabled" in stranger.page.inner_text("body")
        assert stranger.page.locator("#gpus").count() == 0
        stranger.page.context.close()


def test_one_click_leads_there_from_jupyterlab(server: kernel.Server, chromium: Browser) -> None:
    lab = browser.Tab(chromium.new_context())
    lab.page.goto(f"{server.page_url}&reset")
    with lab.page.context.expect_page() as opened:
        lab.page.locator(".jp-LauncherCard", has_text="This box").first.click()
    expect(opened.value.locator("#gpus > li")).to_have_count(8)
    assert lab.hosts == {urlsplit(server.url).netloc}
    lab.page.context.close()


def test_it_shows_the_gpus_and_the_one_that_is_lost(tab: browser.Tab) -> None:
    cards = tab.page.locator("#gpus > li")
    expect(cards).to_have_count(8)
    expect(tab.page.locator("#state")).to_have_text(DEGRADED)
    expect(cards.nth(3)).to_contain_text("GPU is lost")
    expect(cards.nth(0)).to_contain_text("of 700 W")
    expect(tab.page.locator("#services tbody tr")).to_have_count(3)
    expect(tab.page.locator("#picture")).to_be_visible()


def test_values_change_while_it_is_open(tab: browser.Tab) -> None:
    clock = tab.page.locator("#gpus > li").nth(0).get_by_text("SM ")
    before = clock.inner_text()
    expect(clock).not_to_have_text(before)


def test_the_doctor_runs_by_a_click(tab: browser.Tab) -> None:
    tab.page.get_by_role("button", name="Run the doctor").click()
    expect(tab.page.locator("#doctor-said")).to_have_text("something is broken")
    layers = tab.page.locator("#layers li")
    assert layers.count() > 3
    assert "GPU is lost" in tab.page.inner_text("#findings")
    tab.page.get_by_text("About ").first.click()
    expect(tab.page.locator("#findings details pre").first).not_to_have_text("…")


@pytest.mark.parametrize("clipboard", [True, False], ids=["clipboard", "without"])
def test_a_button_copies(tab: browser.Tab, clipboard: bool) -> None:
    """Without: over http from another machine a browser gives a page none."""
    page = tab.page.context.new_page()
    if not clipboard:
        page.add_init_script(NEVER)
    page.goto(tab.page.url)
    page.get_by_role("button", name="Copy: SSH").click()
    expect(page.get_by_role("button", name="Copy: SSH")).to_have_text("Copied")
    page.close()
    tab.page.bring_to_front()
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    assert tab.page.evaluate("navigator.clipboard.readText()").startswith("ssh -p ")


@pytest.mark.parametrize("shade", SHADES)
def test_it_fits_and_keeps_nobody_out(tab: browser.Tab, shade: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    tab.page.emulate_media(color_scheme="dark" if shade == "dark" else "light")
    for width in WIDTHS:
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.page.screenshot(path=PICTURES / f"{shade}-{width}.png", full_page=True)
        assert tab.wide_by() <= 0, f"{width} pixels"
    assert tab.barriers() == []


def test_it_asked_nobody_else_and_complained_of_nothing(
    tab: browser.Tab, server: kernel.Server
) -> None:
    """The last: it sees what those before it did."""
    assert tab.hosts == {urlsplit(server.url).netloc}
    assert tab.complaints == []
