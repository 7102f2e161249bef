"""The page about the box on one machine after another, in a real browser, without a container.

Who is let in, what a click does and what is asked for are tested in tests/container.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, expect

from testing.busy import BUSY
from testing.container import browser
from testing.local_box import Box, running_box
from tools import system_packages

pytestmark = pytest.mark.skipif(
    system_packages.browser() is None,
    reason="no Chromium: python3 -m tools.system_packages browser",
)

PICTURES = Path(__file__).parents[2] / "build" / "page"
VIEWS = (("light", 1280), ("dark", 400))  # shade, pixels
LINE = "libnvidia-ml.so.1: cannot open shared object file"


# What a GPU of any size may have.
OF_ANY = {key: value for key, value in BUSY.items() if key not in ("memory_used", "power_usage")}


class Shown(NamedTuple):
    """A machine, and what the page shows of it."""

    machine: str | None
    cards: int
    state: str  # that the heading begins with
    heading: str = ""  # in it
    gpus: str = ""  # instead of cards
    card: str = ""  # in the first one
    topology: str = ""


MACHINES = {
    "dgx-1v": Shown("dgx1-v100-8x", 8, "healthy", card="V100", topology="NV2"),
    "mig": Shown("a100-mig", 1, "healthy", card="2g.20gb (GI 5)"),
    "4x-a10g": Shown("a10g-4x", 4, "healthy", card="A10G", topology="PHB"),
    "2x-3090": Shown("rtx3090-2x-nvlink", 2, "healthy", card="RTX 3090", topology="NV4"),
    "none": Shown(None, 0, "healthy", gpus=LINE),
    "hung": Shown("hung-init", 0, "degraded", "does not answer", gpus="has not answered for"),
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.started() as running:
        yield running


@pytest.fixture(scope="module", params=MACHINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def box(
    name: str, simulated: Callable[..., dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    machine = MACHINES[name].machine
    busy = {"gpu *": OF_ANY} if MACHINES[name].cards > 1 else None
    driver = simulated(machine, busy) if machine else {}
    own = Path(sys.executable).parent  # where `launcher` is
    settings = {
        "PATH": f"{own}:{os.environ['PATH']}", "LAUNCHER_SERVICES": "jupyter",
        "LAUNCHER_CHECK_PYTORCH": "off", "LAUNCHER_DETECT_TIMEOUT": "1",
    }  # fmt: skip
    with running_box(tmp_path_factory.mktemp("page") / name, **driver, **settings) as running:
        yield running


def test_the_page_of_a_machine(name: str, box: Box, chromium: Browser) -> None:
    shown = MACHINES[name]
    tab = browser.Tab(chromium.new_context())
    page = tab.page
    page.goto(box.url.replace("/lab?", "/launcher/?"))
    expect(page.locator("#state")).to_contain_text(f"{shown.state}, up")
    expect(page.locator("#state")).to_contain_text(shown.heading)
    expect(page.locator("#gpus > li")).to_have_count(shown.cards)
    expect(page.locator("#gpus-said")).to_contain_text(shown.gpus)
    if shown.card:
        expect(page.locator("#gpus > li").first).to_contain_text(shown.card)
    topo = box.launcher("topo")
    assert shown.topology in topo.stdout
    expect(page.locator("#topology")).not_to_have_text("…")
    words = topo.stdout if shown.cards else topo.stderr.strip()
    assert page.locator("#topology").text_content() == words
    PICTURES.mkdir(parents=True, exist_ok=True)
    for shade, width in VIEWS:
        page.emulate_media(color_scheme="dark" if shade == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=PICTURES / f"{name}-{shade}-{width}.png", full_page=True)
        assert tab.wide_by() <= 0, f"{width} pixels"
    assert tab.barriers() == []
    assert tab.complaints == []
    page.context.close()
