"""A notebook that wants more memory than the box may have, in a real browser: who says why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from testing.container import browser, kernel
from testing.container.box import Box, Boxes

PICTURES = Path(__file__).parents[2] / "build" / "page"
LIMIT = ("--memory", "1g", "--memory-swap", "1g")
SAID = re.compile(
    r"The system killed this kernel: the box is out of memory: its limit is 1 GiB\..*"
    r"fix: use less at a time, or docker run --memory=… with a higher limit",
    re.DOTALL,
)
CELL = {
    "cell_type": "code", "execution_count": None, "id": "eats", "metadata": {}, "outputs": [],
    # What is killed before it could say that the cell runs is told of in the next one.
    "source": "import time\ntime.sleep(2)\nmuch = bytearray(3 << 30)",
}  # fmt: skip
NOTEBOOK = {
    "cells": [CELL],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
}


@pytest.fixture(scope="module")
def started(shared_box: Boxes) -> Box:
    return shared_box(*LIMIT, env={"LAUNCHER_SERVICES": "jupyter"})


@pytest.fixture(scope="module")
def tab(started: Box) -> Iterator[browser.Tab]:
    """The notebook, open in JupyterLab, whose cell was run."""
    server = kernel.connect(started)
    content = {**NOTEBOOK, "nbformat_minor": 5}
    model = {"type": "notebook", "format": "json", "content": content}
    assert server.request("/api/contents/eats.ipynb", method="PUT", body=model).status == 201
    with browser.started() as chromium:
        opened = browser.Tab(chromium.new_context())
        # JupyterLab says so where a busy machine lets it wait; nobody has to go then.
        late = opened.page.locator(".jp-Dialog", has_text="Server Connection Error")
        opened.page.add_locator_handler(late, lambda: opened.page.keyboard.press("Escape"))
        opened.page.goto(f"{server.page_url.replace('/lab?', '/lab/tree/eats.ipynb?')}&reset")
        expect(opened.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
        opened.page.locator(".jp-CodeCell .cm-content").click()
        opened.page.keyboard.press("Shift+Enter")
        yield opened


def test_the_cell_in_jupyterlab_says_why_its_kernel_is_gone(tab: browser.Tab) -> None:
    expect(tab.page.locator(".jp-CodeCell .jp-OutputArea-output")).to_have_text(SAID)
    expect(tab.page.locator(".jp-Dialog")).to_contain_text("appears to have died")
    PICTURES.mkdir(parents=True, exist_ok=True)
    tab.page.screenshot(path=PICTURES / "jupyterlab-memory.png")


def test_status_and_the_page_say_so_too(started: Box, tab: browser.Tab) -> None:
    server = kernel.connect(started)
    page = tab.page.context.new_page()
    page.goto(server.page_url.replace("/lab?", "/launcher/?"))
    told = page.locator("#troubles")
    expect(told).to_contain_text("killed for want of memory")
    expect(told).to_contain_text("docker run --memory=… with a higher limit")
    found = json.loads(started.exec("launcher", "status", "--json").stdout)
    assert found["memory_kills"] == 1
